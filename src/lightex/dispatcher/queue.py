"""The queue of one sweep: starts what fits, watches what runs, writes down every change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lightex.core.errors import FullDiskError, StorageError
from lightex.core.journal import Record
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, QUEUED, RUNNING, SUBMITTED
from lightex.core.units import format_duration
from lightex.dispatcher.backlog import Backlog
from lightex.dispatcher.death import certify, last_lines
from lightex.dispatcher.engine import Engine, JobState, LaunchError
from lightex.dispatcher.job import Job
from lightex.dispatcher.leases import Leases
from lightex.dispatcher.meter import Meter
from lightex.dispatcher.running import Adopted, Running

_TICK = 0.2  # seconds between two looks at signals and deadlines while nothing ends
_CONTENDED_TICK = 0.05  # the same while other dispatchers wait for what we may leave, and we for theirs
_LATE = 0.05  # seconds that a lease may be entered late, where the next one may enter it as well
_WAITS_TOLD = 10.0  # seconds between two entries of what a submitted job waits for
_STALL_LOOKS = 20  # looks at a run within its stall
_LONGEST_BACKOFF = 3600.0  # seconds
_REMOVED = JobState(LOST, "lost", "its directory was removed")


class Source(Protocol):
    """Where jobs come from while the queue runs: a search, that chooses them by what came out so far."""

    def next(self) -> Job | None:
        """One more job, recorded and ready to start; None: none for now, or no more at all."""

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""


Watcher = Callable[["Queue", Job | None, JobState | None], None]
"""Called for every change with the job and its new state, and with None, None about five times a second."""

Ending = Callable[[str], JobState | None]
"""How a job ended that the engine has lost sight of, by its handle; None: that cannot be known yet."""


@dataclass
class Rules:
    """How a queue runs.

    Attributes:
        slots: how many at once at the most; None: as the resources allow.
        max_failures: stop all when so many runs have failed for good; None: never.
        source: gives further jobs.
    """

    slots: int | None = None
    max_failures: int | None = None
    source: Source | None = None


@dataclass
class Queue:
    """Runs jobs in their order on one engine, as many at once as fit; a job that fits may overtake one that does not.

    Attributes:
        jobs: what to run.
        engine: what runs it.
        engine_name: recorded with each attempt.
        rules: how.
        watch: is told of every change.
        adopted: jobs that run already.
        ending: asked about jobs that the engine has lost, where others may know of them.
        running: what runs, by handle.
        ended: how many runs ended for good, by state.
        paused: tells whether nothing new may start; asked before each start.
        hindrance: the full disk that it waits for, while it does.
    """

    jobs: Iterable[Job]
    engine: Engine
    engine_name: str
    rules: Rules = field(default_factory=Rules)
    watch: Watcher = lambda _queue, _job, _state: None
    adopted: Iterable[Adopted] = ()
    ending: Ending | None = None
    running: dict[str, Running] = field(default_factory=dict, init=False)
    ended: Counter[str] = field(default_factory=Counter, init=False)
    paused: Callable[[], bool] = lambda: False
    seconds_worked: float = field(default=0.0, init=False)
    hindrance: FullDiskError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.jobs)
        capacity = self.engine.capacity()
        self.leases = Leases(capacity) if capacity else None
        self._meter = Meter(self.engine)
        self._stop_reason: str | None = None
        self._kill = False
        for each in self.adopted:
            since = time.monotonic() - max(0.0, time.time() - each.since)
            self.running[each.handle] = Running(each.job, each.state, since, each.gpus, wrote=time.monotonic())
            if self.leases:
                self.leases.hold(each.job, each.gpus, each.process)

    def run(self) -> Counter[str]:
        """Run everything; returns how many runs ended in which state.

        Raises:
            StorageError: a run directory cannot be written any more, or there is no room and it was asked to stop at
                once; what runs is ended first.
        """
        try:
            while self.running or self.backlog or self._more_may_come():
                if self._stop_reason is None:
                    self._start_what_fits()
                else:
                    self._stop(lambda _: True, self._stop_reason)
                if self.leases:
                    self.leases.flush(after=_LATE)
                self._look()
        except BaseException:
            self._give_up()
            raise
        finally:
            for handle, entry in self.running.items():
                self.engine.cancel(handle, force=True)
                if self.leases:
                    self.leases.release(entry.job)
            if self.leases:
                self.leases.wait_no_more()
                self.leases.flush()
            self.engine.close()
        return self.ended

    def _give_up(self) -> None:
        """End what runs, each within its grace: something is wrong here, and nobody would look after it any more.

        What goes wrong meanwhile is not told, only what went wrong first; what does not end is killed.
        """
        for handle, entry in self.running.items():
            if entry.ending is None:
                with suppress(Exception):
                    self._ask_to_end(handle, "cancelled", "lx has failed")
        with suppress(Exception):
            while not self._kill and any(time.monotonic() < (e.kill_at or 0.0) for e in self.running.values()):
                for handle, state in self.engine.poll(list(self.running), _TICK).items():
                    if state.state in ENDED:
                        self._note_last(handle, self.running.pop(handle), state)

    def _note_last(self, handle: str, entry: Running, state: JobState) -> None:
        job = entry.job
        if self.leases:
            self.leases.release(job)
        with suppress(Exception):
            end = certify(job.run, replace(state, process=None), entry.ending)
            job.run.append_event({"time": time.time(), "attempt": job.attempt} | end.known())
            self.engine.forget(handle)

    def stop(self, reason: str) -> None:
        """End everything, cleanly; a second call kills what still runs. Safe in a signal handler."""
        self._kill = self._kill or self._stop_reason is not None
        self._stop_reason = self._stop_reason or reason

    def stop_runs(
        self, runs: Collection[str] | None, reason: str, kill: bool = False, cause: str = "cancelled"
    ) -> None:
        """End these runs, by their ids, or (None) everything; `kill` does not wait for their grace."""
        if runs is None:
            self.stop(reason)
            self._kill = self._kill or kill
        else:
            self._stop(lambda job: job.run.id in runs, reason, cause, kill)

    def prioritize(self, runs: Collection[str] | None, priority: int) -> None:
        """Give those of these runs (None: all) that have not started another priority; it is noted down in them."""
        for job in self.backlog.prioritize(lambda job: runs is None or job.run.id in runs, priority):
            event: Record = {"time": time.time(), "state": QUEUED, "attempt": job.attempt}
            self._write(job, event | {"changes": {"priority": priority}})

    def add(self, job: Job) -> None:
        """Put one more job in."""
        before = job.run.events()[-2].get("state") if job.attempt > 1 else None
        if before in self.ended:  # it will end again, and is counted then
            self.ended[str(before)] -= 1
        self.backlog.add(job)

    @property
    def stopping(self) -> str | None:
        """Why it is being stopped, if it is."""
        return self._stop_reason

    @property
    def waiting(self) -> int:
        """How many have not started."""
        return len(self.backlog)

    @property
    def waits_for(self) -> str | None:
        """What the first job in the queue waits for."""
        if self.paused() and self.backlog:
            return "the end of its pause (lx resume)"
        heads = self.backlog.heads()
        if not heads:
            first = next(iter(self.backlog), None)
            return self.backlog.waits_for(first.run.id) if first else None
        slots = self.rules.slots
        if slots is not None and len(self.running) >= slots:
            return f"a slot ({len(self.running)} of {slots} in use, -j {slots})"
        return self.leases.waits_for(heads[0]) if self.leases else None

    def _more_may_come(self) -> bool:
        source = self.rules.source
        return source is not None and self._stop_reason is None and not source.exhausted

    def _start_what_fits(self) -> None:
        for job, reason in self.backlog.look():
            self._end(job, JobState(CANCELLED, "upstream", f"not started: {reason}"))
        until = time.monotonic() + _TICK  # an engine that queues by itself takes all of them: others wait meanwhile
        while not self.paused() and (self.rules.slots is None or len(self.running) < self.rules.slots):
            if self._stop_reason is not None or (self.leases is None and not self._takes_more(until)):
                return
            heads = self.backlog.heads()
            if not heads and self.rules.source and (found := self.rules.source.next()):
                self.backlog.add(found)
                heads = self.backlog.heads()
            if not heads:
                return
            first = self.leases.lease(heads) if self.leases else heads[0]
            if not first:
                return
            self.backlog.take(first)
            self._start(first)

    def _takes_more(self, until: float) -> bool:
        """Whether an engine that queues by itself is given a further job now."""
        return time.monotonic() < until and self.engine.takes_more(len(self.running))

    def _start(self, job: Job) -> None:
        gpus = self.leases.gpus(job) if self.leases else ()
        submitted: Record = {"time": time.time(), "state": SUBMITTED, "attempt": job.attempt}
        submitted |= {"gpus": list(gpus)} if gpus else {}
        if not self._write(job, submitted | {"engine": self.engine_name, "code": job.code}):
            self._end(job, _REMOVED)
            return
        now = time.monotonic()
        try:
            handle, process = self.engine.submit(job, gpus)
        except LaunchError as error:
            self._end(job, JobState(FAILED, "launch", str(error)))
            return
        self.running[handle] = Running(job, SUBMITTED, now, gpus=gpus)
        # An engine that starts jobs at once says so by the process; others are polled until they run.
        if process:
            self._mark_running(handle, process, now)
        else:
            self.watch(self, job, JobState(SUBMITTED))

    def _mark_running(self, handle: str, process: Mapping[str, Any] | None, since: float) -> None:
        """It runs, since a moment of the monotonic clock: that it waited in an engine's own queue does not count."""
        entry = self.running[handle]
        entry.state, entry.waits_for, entry.since, entry.wrote = RUNNING, None, since, since
        event: Record = {"time": time.time(), "state": RUNNING, "attempt": entry.job.attempt, "handle": handle}
        event |= {"gpus": list(entry.gpus)} if self.leases else {}
        self._write(entry.job, event | ({"process": dict(process)} if process else {}))
        if self.leases and process and process.get("born"):
            self.leases.started(entry.job, f"{process['pid']}:{process['born']}")
        self.watch(self, entry.job, JobState(RUNNING))

    def _look(self) -> None:
        """Take note of what changed, and of what ran out of time."""
        wait = _CONTENDED_TICK if self.leases and self.leases.contended and self.backlog else _TICK
        wait = min(wait, _LATE) if self.leases and self.leases.late else wait
        if self.running:
            for handle, state in self.engine.poll(list(self.running), wait).items():
                self._note(handle, state)
        elif self.backlog or self._more_may_come():
            time.sleep(wait)
        now = time.monotonic()
        for handle, entry in self.running.items():
            if entry.kill_at is not None:
                if now >= entry.kill_at or self._kill:
                    self.engine.cancel(handle, force=True)
            elif entry.state != RUNNING:
                self._tell_what_it_waits_for(entry, now)
            elif entry.job.timeout is not None and now >= entry.since + entry.job.timeout:
                self._ask_to_end(handle, "timeout", f"timed out after {format_duration(now - entry.since)}")
            elif entry.job.stall is not None and now >= entry.look_at:
                self._look_for_stall(handle, entry.job.stall, now)
        self._meter.look(self.running)
        self.watch(self, None, None)

    def _note(self, handle: str, state: JobState) -> None:
        entry = self.running[handle]
        if state.state == LOST and self.ending:
            known = self.ending(handle)
            if known is None:
                return
            state = known
        if entry.state != RUNNING and (state.state == RUNNING or state.process):
            # Where its end is the first that is heard of it, it ran at some time since it was submitted.
            self._mark_running(handle, state.process, entry.since if state.state in ENDED else time.monotonic())
        if state.state in ENDED:
            del self.running[handle]
            self._end(entry.job, certify(entry.job.run, replace(state, process=None), entry.ending), entry.since)
            self.engine.forget(handle)
        elif state.state == SUBMITTED:
            if entry.state == RUNNING:  # its engine took it back, and starts it again when there is room
                entry.state, entry.told, entry.told_words = SUBMITTED, float("-inf"), ""
            entry.waits_for = state.reason

    def _tell_what_it_waits_for(self, entry: Running, now: float) -> None:
        """Write it down where it has changed, now and then; the last word counts, though it comes soon after one."""
        if entry.waits_for != entry.told_words and now - entry.told >= _WAITS_TOLD:
            entry.told, entry.told_words = now, entry.waits_for
            event: Record = {"time": time.time(), "state": SUBMITTED, "attempt": entry.job.attempt}
            self._write(entry.job, event | ({"reason": entry.waits_for} if entry.waits_for else {}))

    def _look_for_stall(self, handle: str, stall: float, now: float) -> None:
        """Sizes, not times of change, tell that a run writes: clocks of file servers differ from ours."""
        entry = self.running[handle]
        entry.look_at = now + stall / _STALL_LOOKS
        written = entry.job.run.written()
        if written != entry.written:
            entry.written, entry.wrote = written, now
        elif now - entry.wrote >= stall:
            words = f"stalled: neither output nor records for {format_duration(now - entry.wrote)}"
            self._ask_to_end(handle, "stalled", words)

    def _ask_to_end(self, handle: str, cause: str, reason: str) -> None:
        entry = self.running[handle]
        entry.ending, entry.kill_at = (cause, reason), time.monotonic() + entry.job.grace
        self.engine.cancel(handle)

    def _stop(self, wanted: Callable[[Job], bool], reason: str, cause: str = "cancelled", kill: bool = False) -> None:
        for job in self.backlog.remove(wanted):
            self._end(job, JobState(CANCELLED, cause, f"not started: {reason}"))
        for handle, entry in self.running.items():
            if wanted(entry.job):
                if entry.ending is None:
                    self._ask_to_end(handle, cause, reason)
                if kill:
                    entry.kill_at = 0.0

    def _end(self, job: Job, state: JobState, since: float | None = None) -> None:
        event = {"time": time.time(), "attempt": job.attempt} | state.known()
        if since is not None:
            event.setdefault("duration", round(time.monotonic() - since, 3))
            self.seconds_worked += event["duration"]
        if state.state in (FAILED, LOST) and (lines := last_lines(job.run)):
            event["last_lines"] = lines
        if not self._write(job, event):
            state = _REMOVED
        if self.leases:
            self.leases.release(job)
        if self._retry(job, state):
            return
        self.ended[state.state] += 1
        self.watch(self, job, state)
        for hopeless, reason in self.backlog.settle(job.run, state.state):
            self._end(hopeless, JobState(CANCELLED, "upstream", f"not started: {reason}"))
        failures, most = self.ended[FAILED] + self.ended[LOST], self.rules.max_failures
        if most is not None and failures >= most and not self._stop_reason:
            self.stop(f"{failures} failed, the last was {job.run.short_id}")

    def _retry(self, job: Job, state: JobState) -> bool:
        """Queue a run again where its config wants it; whether that is so."""
        done = job.retried.get(state.cause or "", 0)
        most = job.retries.get(state.cause or "", 0)
        if state.state not in (FAILED, LOST) or done >= most or self._stop_reason:
            return False
        retried: Mapping[str, int] = {**job.retried, str(state.cause): done + 1}
        pause = min(job.backoff * 2 ** (sum(retried.values()) - 1), _LONGEST_BACKOFF)
        attempt = job.attempt + 1
        reason = f"retry {done + 1} of {most} after: {state.reason}"
        now = time.time()
        event = {"time": now, "state": QUEUED, "attempt": attempt, "reason": reason}
        self._write(job, event | {"retried": retried, "not_before": now + pause})
        env = {**job.env, "LX_ATTEMPT": str(attempt)}
        self.backlog.add(replace(job, attempt=attempt, retried=retried, env=env), pause)
        self.watch(self, job, JobState(QUEUED, reason=f"{reason}; it waits {format_duration(pause)}"))
        return True

    def _write(self, job: Job, event: Record) -> bool:
        """Note a change down; False: somebody has removed the run's directory, which is no reason to end the others.

        On a full disk it waits until there is room: what runs goes on meanwhile, and nothing new starts.

        Raises:
            StorageError: the directory is there, and cannot be written.
        """
        while True:
            try:
                job.run.append_event(event)
            except FullDiskError as error:
                if self._kill:
                    raise
                self.hindrance = error
                self.watch(self, None, None)
                time.sleep(_TICK)
            except StorageError:
                if job.run.path.exists():
                    raise
                return False
            else:
                self.hindrance = None
                return True
