"""What runs have written since they were last looked at: metrics that went wrong or got better, GPUs that computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from lightex.core import journal
from lightex.core.journal import Record
from lightex.core.rundir import RunDir

_AT_ONCE = 4 << 20  # bytes of a file that one look reads: what is long is caught up with over several


@dataclass
class Best:
    """The least and the greatest value of a metric, with the times at which they were logged."""

    least: tuple[float, float]
    greatest: tuple[float, float]


@dataclass
class Logged:
    """What a run has logged in this attempt.

    Attributes:
        bad: metrics that were NaN or infinite, with that value and its time, the last of each.
        best: by metric.
        whole: whether all of it was read.
    """

    bad: dict[str, tuple[float, float]] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)
    whole: bool = False

    def add(self, record: Record, now: float) -> None:
        """Take in one record."""
        if "attempt" in record:
            self.bad, self.best = {}, {}
        metrics, time = record.get("metrics"), record.get("time")
        if not isinstance(metrics, dict):
            return
        at = float(time) if isinstance(time, (int, float)) else now
        for name, given in metrics.items():
            value = journal.number(given)
            if value is None:
                continue
            if not isfinite(value):
                self.bad[name] = (value, at)
            elif (best := self.best.get(name)) is None:
                self.best[name] = Best((value, at), (value, at))
            elif value < best.least[0]:
                best.least = (value, at)
            elif value > best.greatest[0]:
                best.greatest = (value, at)


@dataclass
class Used:
    """How a run has used its GPUs.

    Attributes:
        busy: by share of 1, when one of its GPUs last computed as much (UTC seconds since the epoch); where none ever
            did: the first sample.
        last: when it was last sampled.
    """

    busy: dict[float, float] = field(default_factory=dict)
    last: float = 0.0

    def add(self, record: Record, shares: Collection[float]) -> None:
        """Take in one sample."""
        gpus, time = record.get("gpus"), record.get("time")
        if not isinstance(gpus, dict) or not isinstance(time, (int, float)):
            return
        self.last = float(time)
        uses = [each.get("use") for each in gpus.values() if isinstance(each, dict)]
        most = max((use for use in uses if isinstance(use, (int, float))), default=None)
        for share in shares:
            if share not in self.busy or most is None or most >= share:
                self.busy[share] = self.last


class Tails:
    """Reads on in the files of runs."""

    def __init__(self, shares: Collection[float] = ()) -> None:
        """Nothing is read yet.

        Args:
            shares: of a GPU, below which a rule calls it idle.
        """
        self._shares = shares
        self._ends: dict[str, int] = {}
        self._logged: dict[str, Logged] = {}
        self._used: dict[str, Used] = {}

    def logged(self, run: RunDir, now: float) -> Logged:
        """What a run has logged."""
        found = self._logged.setdefault(str(run.path), Logged())
        found.whole = True
        with suppress(FileNotFoundError):  # it was removed
            for path in run.records_files():
                found.whole &= self._read(path, lambda each: found.add(each, now))
        return found

    def used(self, run: RunDir) -> Used:
        """How it has used its GPUs."""
        found = self._used.setdefault(str(run.path), Used())
        self._read(run.usage_file, lambda each: found.add(each, self._shares))
        return found

    def forget(self, kept: Collection[str]) -> None:
        """Let go of all runs but some, by their directories."""
        for known in (self._logged, self._used):
            for path in known.keys() - kept:
                del known[path]
        for path in [path for path in self._ends if os.path.dirname(path) not in kept]:  # noqa: PTH120
            del self._ends[path]

    def _read(self, path: Path, take: Callable[[Record], None]) -> bool:
        """Read on in a file; whether that was all of it."""
        name = str(path)
        try:
            size = os.path.getsize(name)  # noqa: PTH202
        except OSError:
            return True
        start = self._ends.get(name, 0)
        if size < start:  # written anew, by a torn line's cut or a copy
            start = 0
        records, end = journal.read_from(name, start, _AT_ONCE)
        for record in records:
            take(record)
        self._ends[name] = end
        return end - start < _AT_ONCE
