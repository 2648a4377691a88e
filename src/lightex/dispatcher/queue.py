"""The queue of one sweep: starts what fits, watches what runs, writes down every change."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from lightex.core.journal import Record
from lightex.core.rundir import CANCELLED, ENDED, FAILED, RUNNING, SUBMITTED, SUCCEEDED
from lightex.core.taxonomy import Resources
from lightex.core.units import format_duration
from lightex.dispatcher.death import judge
from lightex.dispatcher.engine import Engine, JobState, LaunchError
from lightex.dispatcher.job import Job
from lightex.dispatcher.leases import Lease, Pool

_TICK = 0.2  # seconds between two looks at signals and deadlines while nothing ends


@dataclass(frozen=True)
class Adopted:
    """A job that a former supervisor has started.

    Attributes:
        job: the job.
        handle: the engine's.
        since: when it started, seconds since the epoch.
        gpus: those that it was given.
    """

    job: Job
    handle: str
    since: float
    gpus: tuple[str, ...] = ()


@dataclass
class Running:
    """A job at work."""

    job: Job
    lease: Lease | None
    state: str
    since: float
    deadline: float | None
    ending: str | None = None  # why it was asked to end
    kill_at: float | None = None


Watcher = Callable[["Queue", Job | None, JobState | None], None]
"""Called for every change with the job and its new state, and with None, None about five times a second."""


class Queue:
    """Runs jobs in their order on one engine, as many at once as fit; a job that fits may overtake one that does not.

    Args:
        jobs: what to run.
        engine: what runs it.
        engine_name: recorded with each attempt.
        slots: how many at once at the most; None: as the resources allow.
        fail_fast: stop all at the first failure.
        watch: is told of every change.
        adopted: jobs that run already.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        engine: Engine,
        engine_name: str,
        *,
        slots: int | None = None,
        fail_fast: bool = False,
        watch: Watcher | None = None,
        adopted: Iterable[Adopted] = (),
    ) -> None:
        self.engine, self.engine_name, self.slots, self.fail_fast = engine, engine_name, slots, fail_fast
        self.watch = watch or (lambda _queue, _job, _state: None)
        self.pending: dict[Resources, deque[tuple[int, Job]]] = {}
        self.total = 0
        for order, job in enumerate(jobs):
            self.pending.setdefault(job.resources, deque()).append((order, job))
            self.total = order + 1
        self.running: dict[str, Running] = {}
        self.ended: Counter[str] = Counter()
        self.seconds_worked = 0.0
        capacity = engine.capacity()
        self.pool = Pool(capacity) if capacity else None
        self._stop_reason: str | None = None
        self._kill = False
        for each in adopted:
            lease = self.pool.hold(each.job.resources, each.gpus) if self.pool else None
            deadline = each.since + each.job.timeout if each.job.timeout is not None else None
            self.running[each.handle] = Running(each.job, lease, RUNNING, each.since, deadline)
            self.total += 1

    def run(self) -> Counter[str]:
        """Run everything; returns how many runs ended in which state.

        Raises:
            StorageError: a run directory cannot be written any more; what runs is killed first.
        """
        try:
            while self.running or any(self.pending.values()):
                if self._stop_reason is None:
                    self._start_what_fits()
                else:
                    self._stop(self._stop_reason)
                self._look(_TICK if self.running else 0)
        finally:
            for handle in self.running:
                self.engine.cancel(handle, force=True)
        return self.ended

    def stop(self, reason: str) -> None:
        """End everything, cleanly; a second call kills what still runs. Safe in a signal handler."""
        self._kill = self._kill or self._stop_reason is not None
        self._stop_reason = self._stop_reason or reason

    def stop_runs(self, runs: Sequence[str] | None, reason: str, kill: bool) -> None:
        """End these runs, by their ids, or (None) everything; `kill` does not wait for their grace."""
        if runs is None:
            self.stop(reason)
            self._kill = self._kill or kill
            return
        for queue in self.pending.values():
            for order, job in [entry for entry in queue if entry[1].run.id in runs]:
                queue.remove((order, job))
                self._end(job, None, JobState(CANCELLED, f"not started: {reason}"))
        for handle, entry in self.running.items():
            if entry.job.run.id in runs:
                if entry.ending is None:
                    self._ask_to_end(handle, reason)
                if kill:
                    entry.kill_at = 0.0

    @property
    def stopping(self) -> str | None:
        """Why it is being stopped, if it is."""
        return self._stop_reason

    @property
    def waiting(self) -> int:
        """How many have not started."""
        return sum(map(len, self.pending.values()))

    @property
    def waits_for(self) -> str | None:
        """What the first job in the queue waits for."""
        heads = [queue[0] for queue in self.pending.values() if queue]
        if not heads:
            return None
        if self.slots is not None and len(self.running) >= self.slots:
            return f"a slot ({len(self.running)} of {self.slots} in use, -j {self.slots})"
        return self.pool.short_of(min(heads, key=lambda head: head[0])[1].resources) if self.pool else None

    def _start_what_fits(self) -> None:
        while self.slots is None or len(self.running) < self.slots:
            for queue in sorted(filter(None, self.pending.values()), key=lambda queue: queue[0][0]):
                lease = self.pool.lease(queue[0][1].resources) if self.pool else None
                if lease or not self.pool:
                    self._start(queue.popleft()[1], lease)
                    break
            else:
                return

    def _start(self, job: Job, lease: Lease | None) -> None:
        gpus = lease.gpus if lease else ()
        submitted: Record = {"time": time.time(), "state": SUBMITTED, "attempt": job.attempt}
        job.run.append_event(submitted | {"engine": self.engine_name, "code": job.code})
        try:
            handle, process = self.engine.submit(job, gpus)
        except LaunchError as error:
            self._end(job, lease, JobState(FAILED, str(error)))
            return
        now = time.time()
        deadline = now + job.timeout if job.timeout is not None else None
        self.running[handle] = Running(job, lease, SUBMITTED, now, deadline)
        # An engine that starts jobs at once says so by the process; others are polled until they run.
        if process:
            self._mark_running(handle, {"handle": handle, "gpus": list(gpus), "process": process})
        else:
            self.watch(self, job, JobState(SUBMITTED))

    def _mark_running(self, handle: str, facts: Record) -> None:
        entry = self.running[handle]
        entry.state = RUNNING
        entry.job.run.append_event({"time": time.time(), "state": RUNNING, "attempt": entry.job.attempt, **facts})
        self.watch(self, entry.job, JobState(RUNNING))

    def _look(self, wait: float) -> None:
        """Take note of what changed, and of what ran out of time."""
        for handle, state in self.engine.poll(list(self.running), wait).items():
            entry = self.running[handle]
            if state.state in ENDED:
                del self.running[handle]
                self._end(entry.job, entry.lease, self._certify(entry, state), entry.since)
            elif state.state == RUNNING and entry.state != RUNNING:
                self._mark_running(handle, {"handle": handle})
        now = time.time()
        for handle, entry in self.running.items():
            if entry.kill_at is not None and (now >= entry.kill_at or self._kill):
                self.engine.cancel(handle, force=True)
            elif entry.ending is None and entry.deadline is not None and now >= entry.deadline:
                self._ask_to_end(handle, f"timed out after {format_duration(now - entry.since)}")
        self.watch(self, None, None)

    def _ask_to_end(self, handle: str, reason: str) -> None:
        entry = self.running[handle]
        entry.ending, entry.kill_at = reason, time.time() + entry.job.grace
        self.engine.cancel(handle)

    def _stop(self, reason: str) -> None:
        for queue in self.pending.values():
            while queue:
                self._end(queue.popleft()[1], None, JobState(CANCELLED, f"not started: {reason}"))
        for handle, entry in self.running.items():
            if entry.ending is None:
                self._ask_to_end(handle, reason)

    def _certify(self, entry: Running, state: JobState) -> JobState:
        if entry.ending is None:
            return judge(entry.job.run, state)
        timed_out = entry.ending.startswith("timed out")
        return replace(state, state=FAILED if timed_out else CANCELLED, reason=entry.ending)

    def _end(self, job: Job, lease: Lease | None, state: JobState, since: float | None = None) -> None:
        now = time.time()
        event = {"time": now, "attempt": job.attempt} | state.known()
        job.run.append_event(event)
        if lease and self.pool:
            self.pool.release(lease)
        self.ended[state.state] += 1
        if since is not None:
            self.seconds_worked += now - since
        self.watch(self, job, state)
        if self.fail_fast and not self._stop_reason and state.state not in (SUCCEEDED, CANCELLED):
            self.stop(f"--fail-fast, because {job.run.short_id} failed")
