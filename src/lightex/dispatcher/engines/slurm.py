"""Experiments as jobs of a Slurm cluster; project and runs lie on a file system that its nodes share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError, LightexError
from lightex.core.rundir import CANCELLED, ENDED, LOST, SUBMITTED, RunDir
from lightex.core.taxonomy import Build, Experiment
from lightex.dispatcher.engine import Engine, Finding, JobState, LaunchError, Usage
from lightex.dispatcher.engines.batch import commands, examine, look, notes, options, outcome, script, sstat
from lightex.dispatcher.engines.batch.commands import AwayError, RefusedError
from lightex.dispatcher.engines.batch.look import Facts, Place
from lightex.dispatcher.engines.batch.outcome import Row
from lightex.dispatcher.engines.batch.submission import Submissions
from lightex.dispatcher.engines.gathering import Gathering
from lightex.dispatcher.job import Job

_LOOK = (1.0, 30.0)  # seconds between two looks: the shortest, and the longest
_LOOK_EACH = 0.01  # seconds more for each job that is asked about: the answer is as long as there are jobs
_SHARE = 0.1  # of the time since anything last changed: so much later, at the most, a change is seen
_KILL_AGAIN = 10.0  # seconds between two tries to kill what has not ended
_PATIENCE = 10.0  # seconds that a job which was to be killed may be out of reach before it is given up
_SETTLES = 2.0  # seconds in which a submission that was cut off comes to be known, or never
_CUT_OFF = 60.0  # seconds after which none is on its way any more
_ANSWER = 30.0  # seconds that a controller which is away is waited for, where a supervisor has to know


@dataclass
class _Round:
    """What one round of questions is to do, and what it has brought.

    Attributes:
        handles: of the jobs that are asked about; empty: none are.
        stopping: handles, and the signal that each is to get; those that got it are taken out.
        told: ends that are known without asking further: what Slurm did not take, or was taken back.
        rows: what it knows; None: it was not asked, or is away.
        away: why there is no answer.
    """

    handles: Sequence[str]
    stopping: dict[str, str]
    told: dict[Place, JobState] = field(default_factory=dict)
    rows: dict[Place, Row] | None = None
    away: str | None = None


class SlurmEngine(Engine):
    """Submits arrays, and asks for all jobs at once. A handle is "RUN_DIRECTORY ATTEMPT NAME/TASK".

    Slurm's commands run in a thread, one after the other: they may take as long as they like.
    """

    several_nodes = True
    most_open = options.Options.most_open

    def __init__(self) -> None:
        self._submissions = Submissions()
        self._thread = ThreadPoolExecutor(1)
        self._asked: Future[_Round] | None = None
        self._fresh = False  # whether jobs came since the last poll: more may come, for the same array
        self._looked, self._changed, self._open = float("-inf"), time.monotonic(), 0
        self._last: dict[str, str] = {}  # states that were told
        self._to_stop: dict[str, str] = {}  # handles, and the signal
        self._killed: dict[str, tuple[float, float]] = {}  # when first and when last it was to be killed
        self._ids: dict[str, str] = {}  # of Slurm's, of what runs
        self._gathering = Gathering()
        self._facts: Facts | None = None
        self._ask_again = 0.0
        self._known: dict[str, tuple[float, dict[Place, Row]]] = {}  # what `find` has asked, by name, and when

    def check(self, experiment: Experiment[Any], project: Path) -> None:  # noqa: ARG002
        """See `Engine.check`: its options are such as there are, and a container has an image that nodes can get."""
        read = options.read(experiment.engine_options.get("slurm", {}))
        container = experiment.container
        image = read.image or (container.image if container else None)
        if read.runtime and not isinstance(image, str):
            given = "a Build, which is docker's" if isinstance(image, Build) else "none"
            raise ConfigError(
                f"engine_options.slurm.runtime: {read.runtime} needs an image, and there is {given}",
                'say which: engine_options={"slurm": {"image": "/shared/images/torch.sif"}}',
            )
        if read.runtime and experiment.target:
            raise ConfigError(
                f"{experiment.name}: a target is called by this machine's Python, which is not in an image",
                'write a command instead: command="python3 train.py ..."',
            )

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:  # noqa: ARG002
        """Ask Slurm whether it would take such jobs."""
        commands.check()
        for each in examine.shapes(experiments):
            if refused := examine.refusal(each):
                raise ConfigError(f"Slurm would not take {each.name}: {refused}", *examine.advice(each))

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:  # noqa: ARG002
        """Write its script; it goes to Slurm together with those that follow at once.

        Raises:
            LaunchError: it cannot be written, or its options are not valid any more.
        """
        try:
            self.most_open = options.read(job.options).most_open
            place = self._submissions.add(job, self._ask_for_facts().array_size)
        except (ConfigError, RefusedError) as error:
            raise LaunchError(str(error)) from error
        self._fresh = True
        return f"{job.run.path} {job.attempt} {place}", {}

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The job by the name and number that its script tells, if it has begun or Slurm knows it.

        Raises:
            LightexError: the controller is away, and it has not begun.
        """
        place = script.place_in(job.run, job.attempt)
        if place is None:
            return None
        handle = f"{job.run.path} {job.attempt} {place}"
        if notes.read(job.run, job.attempt, place):
            return handle, {}
        since = script.path_of(job.run, job.attempt).stat().st_mtime
        if place not in self._find_all(_name(handle), since):
            return None
        self._last[handle] = SUBMITTED
        return handle, {}

    def _find_all(self, name: str, since: float) -> dict[Place, Row]:
        """What Slurm knows by a name, asked once for all runs; of what was just submitted, when that has settled."""
        asked, found = self._known.get(name, (float("-inf"), {}))
        if time.monotonic() - asked < _SETTLES:
            return found
        until = time.monotonic() + _ANSWER
        while True:
            try:
                if 0 <= time.time() - since < _CUT_OFF and not found:
                    time.sleep(_SETTLES)
                found = look.now([name]) or (look.ended([name], since) if self._ask_for_facts().accounting else {})
            except AwayError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK[0])
            else:
                self._known[name] = time.monotonic(), found
                return found

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """The states of all, asked for once a second at most, and less often while nothing changes."""
        if self._fresh:
            self._fresh = False
            return {}
        until, self._open = time.monotonic() + wait, len(handles)
        while True:
            now = time.monotonic()
            look_too = now >= self._next_look
            if self._asked is None and (look_too or self._to_stop or self._submissions.due):
                self._looked = now if look_too else self._looked
                self._begin(list(handles) if look_too else [])
            if self._asked is not None:
                with suppress(NotYetError):
                    done = self._asked.result(timeout=max(0.0, until - now))
                    self._asked = None
                    return self._news(handles, done)
                return {}
            if now >= until:
                return {}
            time.sleep(max(0.0, min(until, self._next_look) - now))

    @property
    def _next_look(self) -> float:
        quiet = time.monotonic() - self._changed
        return self._looked + min(max(_LOOK[0] + _LOOK_EACH * self._open, _SHARE * quiet), _LOOK[1])

    def _begin(self, handles: Sequence[str]) -> None:
        stopping, self._to_stop = self._to_stop, {}
        self._asked = self._thread.submit(self._round, _Round(handles, stopping))

    def _round(self, this: _Round) -> _Round:
        """Do what is to be done, then ask for what there is to know. In the thread."""
        try:
            self._signal(this)
            if self._submissions.due:
                this.told |= self._submissions.send()
            waiting = self._submissions.waiting
            handles = [handle for handle in this.handles if _place(handle) not in waiting]
            if handles:
                this.rows = self._ask_for(handles)
        except LightexError as error:
            this.away = error.message
        return this

    def _ask_for(self, handles: Sequence[str]) -> dict[Place, Row]:
        """What Slurm knows of some jobs: the controller, and accounting for what that one has forgotten."""
        rows = look.now(sorted({_name(handle) for handle in handles}))
        missing = [handle for handle in handles if _place(handle) not in rows]
        if missing and self._ask_for_facts().accounting:
            scripts = [script.path_of(run, attempt) for run, attempt, _ in map(_parts, missing)]
            since = min((path.stat().st_mtime for path in scripts if path.exists()), default=time.time())
            rows |= look.ended(sorted({_name(handle) for handle in missing}), since)
        return rows

    def _ask_for_facts(self) -> Facts:
        """The facts; those that hold everywhere, while the controller is away."""
        if self._facts is None and time.monotonic() >= self._ask_again:
            try:
                self._facts = look.facts()
            except AwayError:  # each try takes seconds
                self._ask_again = time.monotonic() + _ANSWER
        return self._facts or look.LEAST

    def _signal(self, this: _Round) -> None:
        """End what is to be ended: what waits here at once, the rest by Slurm."""
        if not this.stopping:
            return
        self._submissions.settle()
        for handle in list(this.stopping):
            if self._submissions.take_back(_place(handle)):
                del this.stopping[handle]
                this.told[_place(handle)] = JobState(CANCELLED, "cancelled", "it was ended before it was submitted")
        if not this.stopping:
            return
        rows = look.now(sorted({_name(handle) for handle in this.stopping}))
        found = [(rows[_place(handle)], signal) for handle, signal in this.stopping.items() if _place(handle) in rows]
        look.cancel(row for row, signal in found if outcome.waits(row) or (outcome.runs(row) and signal == "TERM"))
        look.kill(row for row, signal in found if outcome.runs(row) and signal == "KILL")
        this.stopping.clear()

    def _news(self, handles: Sequence[str], done: _Round) -> dict[str, JobState]:
        """The states that a round has brought."""
        self._to_stop = {**done.stopping, **self._to_stop}
        waiting, words = self._submissions.waiting, done.away or self._submissions.words
        asked, found = set(done.handles), {}
        for handle in handles:
            place = _place(handle)
            if place in done.told:
                found[handle] = done.told[place]
            elif done.away and time.monotonic() - self._killed.get(handle, (float("inf"), 0.0))[0] > _PATIENCE:
                found[handle] = JobState(LOST, "lost", f"it may go on: {done.away}")
            elif place in waiting:
                found[handle] = JobState(SUBMITTED, reason=words)
            elif done.rows is not None and handle in asked:
                found[handle] = self._state(handle, done.rows.get(place))
            elif done.away and self._last.get(handle, SUBMITTED) == SUBMITTED:
                found[handle] = JobState(SUBMITTED, reason=done.away)
        for handle, state in found.items():
            if self._last.get(handle) != state.state:
                self._last[handle], self._changed = state.state, time.monotonic()
            if state.state in ENDED:
                self._last.pop(handle)
                self._killed.pop(handle, None)
                self._ids.pop(handle, None)
        return found

    def _state(self, handle: str, row: Row | None) -> JobState:
        run, attempt, place = _parts(handle)
        if row and outcome.runs(row):
            self._ids[handle] = row.own
        if row and (outcome.waits(row) or outcome.runs(row)):  # its notes are read at its end only: a file each
            return outcome.state_of(row, None, run)
        said = notes.read(run, attempt, place)
        if row:
            return outcome.state_of(row, said, run)
        return outcome.forgotten(said, run, waited=self._last.get(handle) == SUBMITTED)

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:
        """What `sstat` says, when it has something new; nothing where the cluster gathers nothing."""
        if self._facts is None or not self._facts.gathers:
            return {}
        if not self._ids:
            return {}
        jobs = dict(self._ids)  # of all that run, though only some are asked about at this moment
        return self._gathering.news(lambda: sstat.used(jobs), sstat.EVERY, handles)

    def cancel(self, handle: str, force: bool = False) -> None:
        """`scancel`: SIGTERM to the script, which passes it on to the command, or (force) SIGKILL to all of it.

        What waits in Slurm's queue is taken out of it. SIGKILL comes after the cluster's KillWait at the latest.
        """
        now = time.monotonic()
        self._changed = now  # its end is wanted soon
        first, last = self._killed.get(handle, (now, float("-inf")))
        if not force:
            self._to_stop.setdefault(handle, "TERM")
        elif now - last > _KILL_AGAIN:
            self._killed[handle] = first, now
            self._to_stop[handle] = "KILL"
        if self._asked is None and self._to_stop:  # further ones are collected until it is done
            self._begin([])

    def close(self) -> None:
        """Hand on what is still to be ended."""
        if self._to_stop:
            self._begin([])
        self._gathering.close()
        self._thread.shutdown(wait=True)

    def manifest(self, job: Job) -> str:
        """The script that `sbatch` takes."""
        return script.of_job(job, None)

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:  # noqa: ARG002
        """The commands, the controller, its partitions, and whether it would take such jobs."""
        return examine.examine(experiments)


def _parts(handle: str) -> tuple[RunDir, int, Place]:
    run, attempt, place = handle.rsplit(" ", 2)
    return RunDir(run), int(attempt), place


def _place(handle: str) -> Place:
    return handle.rpartition(" ")[2]


def _name(handle: str) -> str:
    return _place(handle).rpartition("/")[0]
