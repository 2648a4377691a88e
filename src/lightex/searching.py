"""A search at work: its trials become runs when there is room, and their metrics come back to it."""

from __future__ import annotations

import time
from math import isnan
from pathlib import Path

from lightex.core import journal
from lightex.core.errors import ConfigError, FullDiskError, LightexError
from lightex.core.journal import number
from lightex.core.logged import read_logged
from lightex.core.naming import show
from lightex.core.root import Root, SweepDir, run_id
from lightex.core.rundir import CANCELLED, ENDED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Experiment
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue, Watcher
from lightex.experiment import Plan, dependencies, make_plan, planned
from lightex.namedconf.registry import Registry
from lightex.namedconf.search import Search
from lightex.recording import add_run, identity_of_all
from lightex.storage import snapshot

_LOOK = 0.5  # seconds between two looks at what the runs log


def plan_again(sweep: SweepDir) -> Plan | None:
    """The plan of a sweep that is a search, from lxconfig as it is now; None: it is no search.

    Raises:
        ConfigError: lxconfig is not valid any more, or what it names is no search any more.
        NotFoundError: its name is gone.
    """
    about = sweep.about
    if not about.get("search"):
        return None
    registry = Registry.load(Path(about["project"]), Experiment)
    plan = make_plan(registry, str(about["config_reference"]), about["overrides"])
    if plan.search is None:
        raise LightexError(f"{plan.name} was a search when sweep {sweep.id} began, and is none now")
    return plan


def trials_left(sweep: SweepDir) -> int:
    """How many trials of a sweep have not become runs yet; 0 where it is no search.

    Raises:
        ConfigError: see `plan_again`.
    """
    plan = plan_again(sweep)
    return max(0, plan.search.trials - len(sweep.runs())) if plan and plan.search else 0


class Trials:
    """The source of a search's jobs (see `dispatcher.queue.Source`), which also watches them.

    Args:
        sweep: the sweep, whose dispatcher this process is.
        plan: the plan that it belongs to.
        search: what to try.

    Raises:
        ConfigError: the methods of the search are not valid, or its space has changed.
        StorageError: the study cannot be read or written.
    """

    def __init__(self, sweep: SweepDir, plan: Plan, search: Search) -> None:
        from lightex.study import Study

        self.sweep, self.plan, self.search = sweep, plan, search
        config = plan.experiments[0].config
        self.metric, self.mode = str(config.metric), config.mode
        self.study = Study(sweep.path / "study.jsonl", search, sweep.id, config.mode)
        self.best: tuple[float, RunDir] | None = None
        self.stuck: ConfigError | None = None  # why no more trials can be chosen
        self.silent = 0  # runs that succeeded without a word of the metric
        self._untold: list[tuple[RunDir, JobState]] = []
        self._read: dict[str, int] = {}  # run id -> how far its records are known
        self._looked = 0.0
        self._closed = False
        runs = sweep.runs()
        self.count = len(runs)
        started = {run.identity.get("trial") for run in runs}
        self._orphans = [item for item in self.study.open.items() if item[0] not in started]
        root = Root(sweep.path.parent.parent)
        self._code = snapshot.take(plan.project, sweep.path)
        earlier = [run for runs in dependencies(plan, root).values() for run in runs]
        self._after = [f"{run.path.parent.name}/{run.id}" for run in earlier]
        for run in runs:
            last = run.last_event
            if last.get("state") in ENDED:
                self._untold.append((run, JobState(str(last["state"]), last.get("cause"))))
        self._tell()

    @classmethod
    def of(cls, sweep: SweepDir) -> Trials | None:
        """The trials of a sweep; None where it is no search.

        Raises:
            LightexError: see `plan_again` and the class.
        """
        plan = plan_again(sweep)
        return cls(sweep, plan, plan.search) if plan and plan.search else None

    @property
    def left(self) -> int:
        """How many trials are yet to become runs."""
        return 0 if self._closed else max(0, self.search.trials - self.count)

    @property
    def exhausted(self) -> bool:
        """Whether all trials have become runs, or no more can be chosen."""
        return self.left == 0 or self.stuck is not None

    def close(self) -> None:
        """Choose no more; what runs is watched all the same."""
        self._closed = True

    @property
    def news(self) -> str:
        """The best so far, in words."""
        return f"best {self.metric} {show(self.best[0])} ({self.best[1].short_id})" if self.best else ""

    def next(self) -> Job | None:
        """One more trial as a run that is queued. A trial that a killed supervisor had asked for comes first."""
        if self.exhausted:
            return None
        try:
            trial, values = self._orphans.pop(0) if self._orphans else self.study.ask()
            config = self.search.config(values)
            item = planned(config, values, self.plan.project)
        except ConfigError as error:  # what runs goes on
            self.stuck = error
            return None
        except FullDiskError:  # there may be room later
            return None
        now, width = time.time(), max(3, len(str(self.search.trials - 1)))
        shared = identity_of_all(self.sweep, self._code) | {"created": now, "after": self._after}
        root = self.sweep.path.parent.parent
        path = root / config.name / run_id(now, f"{self.sweep.id}-{self.count:0{width}d}")
        try:
            job = add_run(path, item, self._code, shared | {"index": self.count, "trial": trial})
        except FullDiskError:
            self._orphans.insert(0, (trial, values))
            return None
        self.count += 1
        return job

    def watch(self, watch: Watcher) -> Watcher:
        """A watcher that also tells the study how its trials do, and ends those that it gives up."""

        def wrapped(queue: Queue, job: Job | None, state: JobState | None) -> None:
            if job and state and state.state in ENDED:
                self._untold.append((job.run, state))
            self._tell()
            if job is None and self.search.pruner and time.monotonic() - self._looked > _LOOK:
                self._looked = time.monotonic()
                self._judge_all(queue)
            watch(queue, job, state)

        return wrapped

    def _tell(self) -> None:
        """Tell the study what has ended; what a full disk refuses, later."""
        while self._untold:
            try:
                self._settle(*self._untold[0])
            except FullDiskError:
                return
            self._untold.pop(0)

    def _judge_all(self, queue: Queue) -> None:
        """Give up what is hopeless; what a full disk refuses, later. A pruner that cannot judge ends nothing."""
        try:
            for entry in [entry for entry in queue.running.values() if entry.ending is None]:
                self._judge(queue, entry.job.run)
        except FullDiskError:
            return
        except ConfigError as error:
            self.stuck = self.stuck or error

    def _judge(self, queue: Queue, run: RunDir) -> None:
        points = self._report(run)
        if points and self.study.hopeless(run.identity["trial"]):
            step, value = list(points.items())[-1]
            words = f"given up by {self.search.pruner}: {self.metric} {show(value)} at step {step}"
            queue.stop_runs([run.id], words, cause="pruned")

    def _report(self, run: RunDir) -> dict[int, float]:
        """Tell the study what a run has logged since it was last looked at; returns that, by step."""
        trial = run.identity["trial"]
        known = self.study.reported(trial)
        records, end = journal.read_from(run.records_file(), self._read.get(run.id, 0))
        points: dict[int, float] = {}
        for record in records:
            value = number((record.get("metrics") or {}).get(self.metric))
            if value is not None:
                step = record.get("step")
                points[int(step) if step is not None else len(known) + len(points)] = value
        new = {step: value for step, value in points.items() if step not in known}
        self.study.report(trial, new)
        self._read[run.id] = end  # only now: what a full disk refused is read again
        return new

    def _settle(self, run: RunDir, state: JobState) -> None:
        """Tell the study how a run ended. One that somebody stopped may be resumed: its trial stays open."""
        if state.state == CANCELLED and state.cause != "pruned":
            return
        trial = run.identity["trial"]
        if self.search.pruner:
            self._report(run)
        logged = read_logged(run).metrics.get(self.metric) if state.state == SUCCEEDED else None
        value = None if logged is None or isnan(logged.last) else logged.last
        self.silent += state.state == SUCCEEDED and logged is None
        was_open = self.study.tell(trial, value, pruned=state.cause == "pruned")
        if value is None:
            return
        if not was_open:
            self.study.add(trial, value)
        better = self.best is None or (value < self.best[0] if self.mode == "min" else value > self.best[0])
        self.best = (value, run) if better else self.best
