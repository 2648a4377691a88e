"""At work on a sweep: what of it is to be done, and doing it until all of it has ended."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.liveness import host
from lightex.core.root import SweepDir
from lightex.core.rundir import CANCELLED, ENDED, LOST, QUEUED, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Storage, Store
from lightex.dispatcher.death import certify
from lightex.dispatcher.engine import Engine, JobState
from lightex.dispatcher.job import Job
from lightex.dispatcher.keeper import Ledger
from lightex.dispatcher.queue import Queue, Rules, Watcher
from lightex.dispatcher.running import Adopted
from lightex.jobs import load_engine, make_job, storage_of
from lightex.storage import snapshot

PRUNED = "PRUNED"
"""What `Work.left` calls runs that a search gave up: they are cancelled, but nobody wants them again."""

_REQUESTS = 0.2  # seconds between two looks for requests
_CUT_OFF_LOOKS = 10  # for a job whose submission was cut off, 50 ms apart
_LOOK = 2.0  # seconds between two looks whether the loggers' feeder lives


@dataclass(frozen=True)
class Work:
    """What is to be done of a sweep: runs to start, runs to look after, and how many are left as they are, by state."""

    jobs: list[Job] = field(default_factory=list)
    adopted: list[Adopted] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    @property
    def all_jobs(self) -> list[Job]:
        """Those to start and those that run."""
        return [*self.jobs, *(each.job for each in self.adopted)]


Again = Callable[[int, str], bool]
"""Whether a run of a sweep that does not run is to be done, by its number in the sweep and its state."""


def reopen(
    sweep: SweepDir,
    again: Again | None = None,
    changes: Mapping[str, dict[str, Any]] | None = None,
    pruned_too: bool = False,
) -> Work:
    """What of a sweep is to be done. What runs is looked after; the ends of what nobody watched are in the ledger.

    Args:
        sweep: the sweep; this process becomes its dispatcher where it is not yet.
        again: which runs that do not run are to be done, with the code as it is now; None: a killed dispatcher's
            work goes on, nothing else.
        changes: what these have otherwise than their configs (see `changes_for`), by run id.
        pruned_too: whether `again` is asked about runs that a search gave up.

    Raises:
        LightexError: another dispatcher is at work on the sweep, or its runs cannot be written.
    """
    if not sweep.claim():
        raise LightexError(
            f"sweep {sweep.id} is being run by another lx",
            f"watch it with: lx attach {sweep.id}",
            f"or end it first: lx stop {sweep.id}",
        )
    opened = _Reopening(sweep, changes or {}, pruned_too)
    work = Work()
    for number, run in enumerate(opened.runs):
        found = opened.look_at(run, number, again)
        if isinstance(found, Job):
            work.jobs.append(found)
        elif isinstance(found, Adopted):
            work.adopted.append(found)
        else:
            work.left[found] += 1
    return work


def stage_again(sweep: SweepDir, tell: Callable[[str], None]) -> None:
    """Bring what a sweep that is to go on has elsewhere, see `Engine.stage`. Nothing is written to it.

    Raises:
        LightexError: it cannot be brought.
    """
    project = Path(str(sweep.about.get("project")))
    storages = [storage_of(run) for run in sweep.runs()]
    load_engine(str(sweep.about["engine"])).stage(storages, project, tell)


class _Reopening:
    """What is known of a sweep while its runs are gone through."""

    def __init__(self, sweep: SweepDir, changes: Mapping[str, dict[str, Any]], pruned_too: bool = False) -> None:
        self.changes, self.pruned_too = changes, pruned_too
        self.sweep, self.runs, self.ledger = sweep, sweep.runs(), Ledger(sweep.ledger)
        self.engine = load_engine(str(sweep.about["engine"]))
        self.claimed = {event.get("handle") for run in self.runs for event in run.events()}
        self._code: snapshot.Snapshot | None = None

    def look_at(self, run: RunDir, number: int, again: Again | None) -> Job | Adopted | str:
        """A job to start, one to look after, or the state that a run is left in."""
        run.cut_torn_event()
        last = run.last_event
        state, attempt = str(last.get("state")), int(last.get("attempt", 1))
        if state in (SUBMITTED, RUNNING):
            adopted = self._adopt(make_job(run, attempt, None, retried=_retried(run)), last)
            lost = self._lost(adopted) if adopted and again else None
            if adopted and not lost:
                return adopted
            if lost:
                end = certify(run, lost)
                run.append_event({"time": time.time(), "attempt": attempt} | end.known())
                state = end.state
        elif state == QUEUED and attempt == 1 and certify(run, JobState(LOST)).state == SUCCEEDED:
            state = SUCCEEDED  # somebody has run it by hand (lx run --print-manifest): its own word on its end
            run.append_event({"time": time.time(), "attempt": attempt} | certify(run, JobState(LOST)).known())
        pruned = state == CANCELLED and last.get("cause") == "pruned"
        if (again and not again(number, state)) or (pruned and not self.pruned_too):
            return PRUNED if pruned else state
        if state in ENDED:
            return self.queue_again(run, attempt) if again else state
        self.take_code().link_into(run.path)
        return make_job(run, attempt, self.take_code().digest, retried=_retried(run))

    def queue_again(self, run: RunDir, attempt: int) -> Job:
        """A further attempt at a run that has ended, with the code as it is now."""
        self.take_code().link_into(run.path)
        event = {"time": time.time(), "state": QUEUED, "attempt": attempt + 1}
        run.append_event(event | ({"changes": changes} if (changes := self.changes.get(run.id)) else {}))
        return make_job(run, attempt + 1, self.take_code().digest)

    def take_code(self) -> snapshot.Snapshot:
        """The code as it is now, taken once."""
        self._code = self._code or snapshot.take(Path(str(self.sweep.about.get("project"))), self.sweep.path)
        return self._code

    def _lost(self, adopted: Adopted) -> JobState | None:
        """What there is to say of a job that is gone and not in the ledger; None: it runs, or its end is known."""
        if not self.engine.children:  # it is there until its end has been noted down
            return None if self.engine.find(adopted.job) else JobState(LOST)
        state = self.engine.poll([adopted.handle], 0).get(adopted.handle)
        return state if state and state.state == LOST and not self.ledger.told(adopted.handle) else None

    def _adopt(self, job: Job, last: Mapping[str, Any]) -> Adopted | None:
        """A job that was submitted, as one to look after; None if it never started.

        Of a submission that was cut off before its handle was noted down, the process is looked for; where it has
        ended already, it is the one end in the ledger that no run claims.
        """
        if last.get("state") == RUNNING and isinstance(last.get("handle"), str):
            return _adopted(job, last)
        found: tuple[str, Mapping[str, Any]] | None = None
        for _ in range(_CUT_OFF_LOOKS):  # it may be about to start its command, or about to be collected by the keeper
            found = self.engine.find(job)
            if not self.engine.children:
                break
            if not found and (handle := self.ledger.cut_off(float(last.get("time", 0.0)), self.claimed)):
                found = handle, {}
            if found:
                break
            time.sleep(0.05)
        if not found:
            return None
        handle, process = found
        self.claimed.add(handle)
        if not process and not self.engine.children:  # the engine will tell when it runs
            return Adopted(job, handle, time.time(), state=SUBMITTED)
        gpus: list[str] = next((each["gpus"] for each in reversed(job.run.events()) if "gpus" in each), [])
        event = {"time": time.time(), "state": RUNNING, "attempt": job.attempt, "handle": handle, "gpus": gpus}
        event |= {"process": process} if process else {}
        job.run.append_event(event)
        return _adopted(job, event)


def _adopted(job: Job, running: Mapping[str, Any]) -> Adopted:
    """A job as its RUNNING event has it."""
    mark = running.get("process") or {}
    process = f"{mark['pid']}:{mark['born']}" if mark.get("born") and mark.get("host") == host() else None
    return Adopted(
        replace(job, handle=running["handle"]),
        running["handle"],
        float(running["time"]),
        tuple(running.get("gpus") or ()),
        process,
    )


def _retried(run: RunDir) -> Mapping[str, int]:
    """How often each cause was retried since somebody last queued the run."""
    return next((event.get("retried") or {} for event in reversed(run.events()) if event.get("state") == QUEUED), {})


def supervise(
    sweep: SweepDir, work: Work, rules: Rules, watch: Watcher
) -> tuple[Counter[str], str | None, LightexError | None]:
    """Run jobs to their ends. Ctrl-C, SIGTERM and a closed terminal stop them cleanly; a second one kills.

    Returns:
        How many runs ended in which state; why it was stopped if it was; and why not all is brought back that they have
        written into folders which are kept elsewhere, if so.
    """
    name = str(sweep.about["engine"])
    engine = load_engine(name)
    collecting = _Collecting(engine)
    queue = Queue(
        work.jobs,
        engine,
        name,
        rules=rules,
        watch=_requests(sweep, _feeding(collecting.watch(watch))),
        adopted=work.adopted,
        ending=Ledger(sweep.ledger).ending if engine.children else None,
        paused=lambda: sweep.paused,
    )
    try:
        with _stopping(queue.stop):
            ended = queue.run()
            left = collecting.finish()
    finally:
        sweep.release()
    return ended, queue.stopping, left


def end_unwatched(sweep: SweepDir, runs: Collection[str] | None, reason: str, kill: bool) -> None:
    """End what of a sweep goes on though its dispatcher was killed; what has not started is cancelled.

    Args:
        sweep: the sweep.
        runs: ids; None: all of it.
        reason: recorded with each.
        kill: whether not to wait for their grace.

    Raises:
        LightexError: another dispatcher is at work on it, or its runs cannot be written.
    """

    def stop(queue: Queue, _job: Job | None, _state: JobState | None) -> None:
        if not queue.stopping:
            queue.stop_runs(None, reason, kill)

    work = reopen(sweep)
    for job in work.jobs:
        if runs is None or job.run.id in runs:
            event = {"time": time.time(), "state": CANCELLED, "attempt": job.attempt, "cause": "cancelled"}
            job.run.append_event(event | {"reason": f"not started: {reason}"})
    adopted = [each for each in work.adopted if runs is None or each.job.run.id in runs]
    supervise(sweep, Work(adopted=adopted), Rules(), stop)


def _requests(sweep: SweepDir, watch: Watcher) -> Watcher:
    """A watcher that also does what `lx stop`, `pause` and `retry` ask for, and tells what the queue waits for."""
    look_at, told = 0.0, ""

    def wrapped(queue: Queue, job: Job | None, state: JobState | None) -> None:
        nonlocal look_at, told
        if job is None and time.monotonic() > look_at and not queue.hindrance:
            look_at = time.monotonic() + _REQUESTS
            for request in sweep.take_requests():
                _do(sweep, queue, request)
            if (waits := queue.waits_for or "") != told:
                sweep.waits_for, told = waits, waits
        watch(queue, job, state)

    return wrapped


def _do(sweep: SweepDir, queue: Queue, request: Mapping[str, Any]) -> None:
    runs: Collection[str] | None = request.get("runs")
    if request.get("do") == "stop":
        queue.stop_runs(runs, str(request.get("reason")), bool(request.get("kill")))
    elif request.get("do") == "prioritize":
        queue.prioritize(runs, int(request.get("priority") or 0))
    elif request.get("do") == "retry":
        opened = _Reopening(sweep, request.get("changes") or {})
        for run in opened.runs:
            last = run.last_event
            if runs and run.id in runs and last.get("state") in ENDED and last.get("state") != SUCCEEDED:
                queue.add(opened.queue_again(run, int(last.get("attempt", 1))))


def _feeding(watch: Watcher) -> Watcher:
    """A watcher that has the loggers of the configs fed as well, and looks after their feeder."""
    fed: dict[str, RunDir] = {}
    look_at = 0.0

    def wrapped(queue: Queue, job: Job | None, state: JobState | None) -> None:
        nonlocal look_at
        if job and state and state.state == RUNNING and job.run.config.get("loggers"):
            from lightex.mulogger import feeder
            from lightex.mulogger.start import configured

            if feeder.connect(job.run, configured(job.run)):
                fed[job.run.id] = job.run
        elif job and state and state.state in ENDED:
            fed.pop(job.run.id, None)
        elif fed and time.monotonic() > look_at:
            from lightex.mulogger import feeder

            look_at = time.monotonic() + _LOOK
            for run in fed.values():
                feeder.look_after(run)
        watch(queue, job, state)

    return wrapped


class _Collecting:
    """Brings back what ended jobs have written to folders that are kept elsewhere, one job after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread: ThreadPoolExecutor | None = None
        self._failed: dict[str, tuple[Job, LightexError]] = {}  # by storage: one try brings all that is there

    def watch(self, watch: Watcher) -> Watcher:
        """A watcher that has it done beside."""

        def wrapped(queue: Queue, job: Job | None, state: JobState | None) -> None:
            if job and state and state.state in ENDED and _is_written(job.storage):
                self._thread = self._thread or ThreadPoolExecutor(1)
                self._thread.submit(self._collect, job)
            watch(queue, job, state)

        return wrapped

    def finish(self) -> LightexError | None:
        """Wait until all is brought back; what has failed is tried once more. Returns why it has failed again."""
        if not self._thread:
            return None
        for job, _ in list(self._failed.values()):
            self._thread.submit(self._collect, job)
        self._thread.shutdown(wait=True)
        return next((error for _, error in self._failed.values()), None)

    def _collect(self, job: Job) -> None:
        key = repr(job.storage)
        try:
            self._engine.collect(job, lambda _: None)
        except LightexError as error:
            self._failed[key] = job, error
        else:
            self._failed.pop(key, None)


def _is_written(storage: Storage) -> bool:
    return any(isinstance(each, Store) and each.write for each in storage.dirs.values())


@contextmanager
def _stopping(stop: Callable[[str], None]) -> Iterator[None]:
    words = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal was closed"}
    before = {number: signal.signal(number, lambda number, _: stop(words[signal.Signals(number)])) for number in words}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
