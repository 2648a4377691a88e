"""Experiments from Python: submitted, watched, awaited, cancelled; in scripts and in notebooks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from lightex.core.errors import ConfigError, LightexError
from lightex.core.follow import follow, line
from lightex.core.liveness import user
from lightex.core.naming import label
from lightex.core.root import Root, SweepDir, project_folder
from lightex.core.rundir import ENDED, SUCCEEDED, RunDir
from lightex.core.summary import status_of
from lightex.core.taxonomy import Experiment
from lightex.experiment import Plan, make_plan, plan_value
from lightex.mulogger.reading import LoggedRun
from lightex.namedconf.classes import caller
from lightex.namedconf.layers import Source, replace
from lightex.namedconf.registry import Registry
from lightex.namedconf.search import Search
from lightex.namedconf.sweep import NOTHING, Sweep
from lightex.recording import record

Experiments = str | Experiment[Any] | Sweep | Iterable[Experiment[Any]]
"""What can be submitted: a name in lxconfig (also of a search), an experiment, a sweep, or several experiments."""

_LOOK = 0.1  # seconds between two looks


class Handle:
    """One submitted experiment."""

    def __init__(self, run: RunDir, sweep: SweepDir) -> None:
        self._run, self._sweep = run, sweep

    def __repr__(self) -> str:
        return f"<Handle {self.id} {self.state}  {label(self._run.identity.get('varied') or {})}>"

    @property
    def id(self) -> str:
        """As `lx` commands take it."""
        return self._run.short_id

    @property
    def dir(self) -> Path:
        """Its run directory."""
        return self._run.path

    @property
    def state(self) -> str:
        """QUEUED, SUBMITTED, RUNNING, SUCCEEDED, FAILED, CANCELLED or LOST."""
        return status_of(self._run)[0]

    @property
    def reason(self) -> str | None:
        """Why it did not succeed, in words; None: it did, or has not ended."""
        return status_of(self._run)[1]

    @property
    def result(self) -> LoggedRun:
        """What it has logged so far: parameters, metrics, files, models. All of it once it has ended."""
        return LoggedRun(self._run)

    def wait(self, timeout: float | None = None) -> str:
        """Wait for its end; returns the state.

        Args:
            timeout: seconds; None: for ever.

        Raises:
            TimeoutError: it has not ended by then.
            LightexError: nothing is at work on it any more.
        """
        until = time.monotonic() + timeout if timeout is not None else None
        while True:
            supervised = self._sweep.supervised
            if (state := self.state) in ENDED:
                return state
            if not supervised:
                raise _abandoned(self._sweep, 1)
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"run {self.id} has not ended within {timeout:g} s: it is {state}")
            time.sleep(_LOOK)

    def cancel(self) -> None:
        """Have it ended: SIGTERM and its grace, or no start at all. Returns at once; nothing happens if it has ended.

        Raises:
            LightexError: nothing is at work on it.
        """
        if self.state not in ENDED:
            self._sweep.stop([self._run.id], _cancelled())


class Submission(Sequence[Handle]):
    """The experiments of one `submit`, in order; of a search, those that were chosen so far."""

    def __init__(self, sweep: SweepDir) -> None:
        self._sweep, self._handles = sweep, list[Handle]()
        self._total = int(sweep.about["total"])

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.states.items())
        return f"<Submission {self.id}: {counts or 'nothing has been chosen yet'}>"

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> Handle: ...
    @overload
    def __getitem__(self, index: slice) -> list[Handle]: ...
    def __getitem__(self, index: int | slice) -> Handle | list[Handle]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._all())

    @property
    def id(self) -> str:
        """The sweep's id, as `lx` commands take it."""
        return self._sweep.id

    @property
    def states(self) -> Counter[str]:
        """How many are in which state."""
        return Counter(handle.state for handle in self)

    def wait(self, timeout: float | None = None) -> Submission:
        """Wait for the end of all; returns itself.

        Args:
            timeout: seconds; None: for ever.

        Raises:
            TimeoutError: some have not ended by then.
            LightexError: nothing is at work on some of them any more.
        """
        self._follow(lambda *_: None, timeout)
        return self

    def cancel(self) -> None:
        """Have all ended that have not. Returns at once.

        Raises:
            LightexError: nothing is at work on them.
        """
        if self._sweep.supervised or any(handle.state not in ENDED for handle in self):
            self._sweep.stop(None, _cancelled())

    def _start(self, jobs: int | None, max_failures: int | None) -> None:
        """Start the process that runs them: one of its own, since a fork would share a notebook's sockets and locks."""
        options = ["-j", str(jobs)] if jobs is not None else []
        options += ["--max-failures", str(max_failures)] if max_failures is not None else []
        command = [sys.executable, "-c", "from lightex.cli import main; main()"]
        done = subprocess.run(
            [*command, "--root", str(self._sweep.path.parent.parent), "resume", self.id, "--detach", *options],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()
            raise LightexError(f"sweep {self.id} is recorded, but nothing runs it", *words)

    def _all(self) -> list[Handle]:
        if len(self._handles) < self._total:
            self._handles = [Handle(run, self._sweep) for run in self._sweep.runs()]
        return self._handles

    def _follow(self, tell: Callable[[int, RunDir, dict[str, Any]], None], timeout: float | None = None) -> None:
        count = 0
        for run, last in follow(self._sweep, time.monotonic() + timeout if timeout is not None else None):
            count += 1
            tell(count, run, last)
        if left := len(self) - count:
            raise _abandoned(self._sweep, left)


def submit(
    experiments: Experiments,
    overrides: Sequence[str] = (),
    *,
    engine: str | None = None,
    jobs: int | None = None,
    max_failures: int | None = None,
    root: str | Path | None = None,
) -> Submission:
    """Queue experiments; a process of its own runs them, which lives on after this one.

    Args:
        experiments: a name in lxconfig, an experiment, a sweep, or several experiments.
        overrides: of a name, as on the command line: ["hp.lr=0.1,0.01"].
        engine: what runs them; default: what their configs say.
        jobs: how many at once at the most; default: as many as fit.
        max_failures: stop all when so many have failed; default: never.
        root: the folder of runs; default: as `lx` chooses it.

    Raises:
        ConfigError: an experiment is not valid; nothing is written then.
        NotFoundError: there is no such name, engine or logger.
        StorageError: the folder cannot be written.
    """
    made = _recorded(experiments, overrides, engine, jobs, max_failures, root, Source("python", caller(1)))
    made._start(jobs, max_failures)
    return made


def run(
    experiments: Experiments,
    overrides: Sequence[str] = (),
    *,
    engine: str | None = None,
    jobs: int | None = None,
    max_failures: int | None = None,
    root: str | Path | None = None,
) -> Submission:
    """As `submit`, and wait for their end, with a line for each that ends. Ctrl-C stops them cleanly.

    Raises:
        ConfigError, NotFoundError, StorageError: see `submit`.
        LightexError: the process that ran them was killed.
    """
    made = _recorded(experiments, overrides, engine, jobs, max_failures, root, Source("python", caller(1)))
    total = made._sweep.about["total"]
    print(f"{made._sweep.about['config_name']}  {made.id}  {total} experiment{'s' * (total != 1)}")

    def tell(count: int, ended: RunDir, last: dict[str, Any]) -> None:
        print(line(ended, last, count, total), flush=True)

    try:
        made._start(jobs, max_failures)
        made._follow(tell)
    except KeyboardInterrupt:
        if made._sweep.supervised:
            print(f"stopping {made.id}: what runs gets its grace to end", file=sys.stderr, flush=True)
            made.cancel()
            made.wait()
        raise
    states = made.states
    steps = f" · lx resume {made.id}" if states.total() != states[SUCCEEDED] else ""
    print(f"{', '.join(f'{n} {state.lower()}' for state, n in states.items())}. Next: lx compare {made.id}{steps}")
    return made


def _recorded(
    experiments: Experiments,
    overrides: Sequence[str],
    engine: str | None,
    jobs: int | None,
    max_failures: int | None,
    root: str | Path | None,
    source: Source,
) -> Submission:
    for name, given in (("jobs", jobs), ("max_failures", max_failures)):
        if given is not None and (not isinstance(given, int) or given < 1):
            raise ConfigError(f"{name} must be a whole number of 1 or more, or None, got {given!r}")
    plan = _plan(experiments, overrides, engine, source)
    sweep, _ = record(plan, Root.locate(root, plan.project), sys.argv, print)
    sweep.release()
    return Submission(sweep)


def _plan(experiments: Experiments, overrides: Sequence[str], engine: str | None, source: Source) -> Plan:
    if isinstance(experiments, str):
        registry = Registry.load(Path.cwd(), Experiment)
        return make_plan(registry, experiments, [*overrides, *([f"engine={engine}"] if engine else [])])
    if overrides:
        raise ConfigError("overrides are for names", "change an experiment with lightex.replace(base, {'hp.lr': 0.1})")
    if isinstance(experiments, Search):
        raise ConfigError(
            "the process that runs a search must find it", "put it into lxconfig.py and submit it by its name"
        )
    value = experiments if isinstance(experiments, (Experiment, Sweep)) else _several(experiments)
    chosen = replace(value, {"engine": engine}) if engine else value
    return plan_value(chosen, project_folder() or Path.cwd(), source)


def _several(experiments: Any) -> Sweep:
    given = list(experiments) if isinstance(experiments, Iterable) else []
    if not given or not all(isinstance(item, (Experiment, Sweep)) for item in given):
        raise ConfigError(
            f"not something to submit: {experiments!r}"[:200],
            "valid: a name in lxconfig, an Experiment, a sweep(..), or a list of these",
        )
    parts = [item.parts if isinstance(item, Sweep) else ((item, NOTHING),) for item in given]
    return Sweep(tuple(part for each in parts for part in each))


def _cancelled() -> str:
    return f"cancelled by {user()} from Python"


def _abandoned(sweep: SweepDir, count: int) -> LightexError:
    return LightexError(
        f"nothing is at work on {count} run{'s' * (count != 1)} of sweep {sweep.id}", f"lx resume {sweep.id} goes on"
    )
