"""What has not started yet, in its order: by priority, held back by retries' pauses and by runs it depends on."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from lightex.core.rundir import ENDED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.job import Job

_LOOK = 1.0  # seconds between two looks at runs that another dispatcher has

_Class = tuple[int, Resources]


class Backlog:
    """Jobs that wait. Those of equal priority and needs are one line: where its first does not fit, none does.

    Args:
        jobs: what waits from the beginning.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._lines: dict[_Class, deque[tuple[int, Job]]] = {}
        self._pauses: list[tuple[float, int, Job]] = []  # a heap: monotonic time until it may start
        self._held: dict[str, tuple[Job, set[str]]] = {}  # run id -> the directories it waits for
        self._waiters: dict[str, list[str]] = {}  # directory -> ids of those that wait for it
        self._own: dict[str, str] = {}  # directory -> state, of the runs of this queue that have ended
        self._count = 0
        self._looked = 0.0
        jobs = list(jobs)
        self._members = {str(job.run.path) for job in jobs}
        for job in jobs:
            self.add(job)

    def __len__(self) -> int:
        return sum(map(len, self._lines.values())) + len(self._pauses) + len(self._held)

    def __iter__(self) -> Iterator[Job]:
        for line in self._lines.values():
            yield from (job for _, job in line)
        yield from (job for _, _, job in self._pauses)
        yield from (job for job, _ in self._held.values())

    def add(self, job: Job, pause: float = 0.0) -> None:
        """Put a job in, behind those of its priority; it starts in `pause` seconds at the earliest."""
        self._members.add(str(job.run.path))
        self._own.pop(str(job.run.path), None)
        needed = {str(path) for path in job.after if self._own.get(str(path)) != SUCCEEDED}
        self._count += 1
        if needed:
            self._held[job.run.id] = (job, needed)
            for path in needed:
                self._waiters.setdefault(path, []).append(job.run.id)
        elif pause > 0:
            heapq.heappush(self._pauses, (time.monotonic() + pause, self._count, job))
        else:
            self._lines.setdefault((-job.priority, job.resources), deque()).append((self._count, job))

    def heads(self) -> list[Job]:
        """The first of each line, what should start first at the front."""
        while self._pauses and self._pauses[0][0] <= time.monotonic():
            _, count, job = heapq.heappop(self._pauses)
            self._lines.setdefault((-job.priority, job.resources), deque()).append((count, job))
        heads = [(key[0], line[0][0], line[0][1]) for key, line in self._lines.items() if line]
        return [job for _, _, job in sorted(heads, key=lambda head: head[:2])]

    def take(self, job: Job) -> None:
        """Take the first of a line out."""
        key = (-job.priority, job.resources)
        line = self._lines[key]
        if line.popleft()[1] is not job:
            raise ValueError(f"{job.run.id} is not the first of its line")
        if not line:
            del self._lines[key]

    def remove(self, wanted: Callable[[Job], bool]) -> list[Job]:
        """Take out all jobs that are wanted."""
        found = [job for job in self if wanted(job)]
        gone = {job.run.id for job in found}
        for key, line in list(self._lines.items()):
            if left := deque(entry for entry in line if entry[1].run.id not in gone):
                self._lines[key] = left
            else:
                del self._lines[key]
        self._pauses = [entry for entry in self._pauses if entry[2].run.id not in gone]
        heapq.heapify(self._pauses)
        for run_id in gone & self._held.keys():
            del self._held[run_id]
        return found

    def prioritize(self, wanted: Callable[[Job], bool], priority: int) -> list[Job]:
        """Give all jobs that are wanted a priority; returns those that had another one."""

        def changed(job: Job) -> Job:
            if job.priority == priority or not wanted(job):
                return job
            found.append(replace(job, priority=priority))
            return found[-1]

        found: list[Job] = []
        lines: dict[_Class, list[tuple[int, Job]]] = {}
        for line in self._lines.values():
            for count, each in line:
                job = changed(each)
                lines.setdefault((-job.priority, job.resources), []).append((count, job))
        self._lines = {key: deque(sorted(line, key=lambda entry: entry[0])) for key, line in lines.items()}
        self._pauses = [(until, count, changed(job)) for until, count, job in self._pauses]
        self._held = {name: (changed(job), needed) for name, (job, needed) in self._held.items()}
        return found

    def settle(self, run: RunDir, state: str) -> list[tuple[Job, str]]:
        """Take note that a run has ended for good.

        Returns:
            The jobs that can never start now, with the reason.
        """
        self._own[str(run.path)] = state
        return self._resolve(str(run.path), state)

    def look(self) -> list[tuple[Job, str]]:
        """Look, now and then, at ended runs and those of other dispatchers that jobs wait for; returns as `settle`."""
        if not self._held or time.monotonic() - self._looked < _LOOK:
            return []
        self._looked = time.monotonic()
        hopeless = []
        for path in list(self._waiters):
            if path in self._own:  # it had ended before the one that waits for it came
                hopeless += self._resolve(path, self._own[path])
            if path in self._members:
                continue
            events = RunDir(path).events()
            state = str(events[-1].get("state")) if events else "removed"
            if state in ENDED or not events:
                hopeless += self._resolve(path, state)
        return hopeless

    def waits_for(self, run_id: str) -> str | None:
        """The first run that one waits for, or the pause it makes, in words."""
        if run_id in self._held:
            names = sorted(RunDir(path).short_id for path in self._held[run_id][1])
            more = f" and {len(names) - 1} more runs" if len(names) > 1 else ""
            return f"{names[0]}{more}, which it depends on"
        for until, _, job in self._pauses:
            if job.run.id == run_id:
                return f"its retry, in {max(0.0, until - time.monotonic()):.0f} s"
        return None

    def _resolve(self, path: str, state: str) -> list[tuple[Job, str]]:
        hopeless = []
        for run_id in self._waiters.pop(path, []):
            if run_id not in self._held:
                continue
            job, needed = self._held[run_id]
            needed.discard(path)
            if state != SUCCEEDED:
                del self._held[run_id]
                hopeless.append((job, f"{RunDir(path).short_id}, which it depends on, is {state}"))
            elif not needed:
                del self._held[run_id]
                self._lines.setdefault((-job.priority, job.resources), deque()).append((self._count, job))
        return hopeless
