"""The history of metrics: columns of steps, times and values, read from a run's records and kept up to date."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.journal import number
from lightex.core.rundir import RunDir

_CHUNK = 8 << 20  # bytes that are parsed at once: some ten times that in memory
_NAN = float("nan")


@dataclass
class Series:
    """One metric of a run, in the order of writing.

    Attributes:
        step: the steps; where none was given, the how manieth point it is, from 0.
        time: UTC seconds since the epoch; NaN where none was given.
        value: the values, non-finite ones too.
    """

    step: array[float] = field(default_factory=lambda: array("d"))
    time: array[float] = field(default_factory=lambda: array("d"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.value)

    def add(self, step: float | None, time: Any, value: float) -> None:
        """Take in a point."""
        self.step.append(len(self.step) if step is None else step)
        self.time.append(time if isinstance(time, (int, float)) else _NAN)
        self.value.append(value)

    def cut(self, step: float) -> None:
        """Forget what lies at or behind a step: a further attempt does it again."""
        keep = bisect_left(self.step, step) if _rises(self.step) else None
        for column in (self.step, self.time, self.value):
            if keep is not None:
                del column[keep:]
        if keep is None:
            kept = [place for place, each in enumerate(self.step) if each < step]
            for name in ("step", "time", "value"):
                column = getattr(self, name)
                setattr(self, name, array("d", [column[place] for place in kept]))


class Histories:
    """The metrics of one run over time; `update` reads what has come since."""

    def __init__(self, run: RunDir, only: Collection[str] | None = None) -> None:
        """Nothing is read yet.

        Args:
            run: which.
            only: the metrics that are wanted; None: all.
        """
        self.run, self._only = run, only
        self._writers: dict[str, _Writer] = {}

    def update(self) -> Histories:
        """Read what is new; returns itself.

        Raises:
            OSError: the run is gone.
        """
        for path in self.run.records_files():
            writer = self._writers.setdefault(path.name, _Writer(path, self._only))
            writer.update()
        return self

    @property
    def names(self) -> list[str]:
        """The metrics that there are, in the order of their first points."""
        return list(dict.fromkeys(name for writer in self._writers.values() for name in writer.series))

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return sum(24 * len(series) + 300 for writer in self._writers.values() for series in writer.series.values())

    def get(self, name: str) -> Series:
        """One metric; several writers' points are ordered by step. Empty if there is none."""
        found = [writer.series[name] for writer in self._writers.values() if name in writer.series]
        if len(found) == 1:
            return found[0]
        points = [point for series in found for point in zip(series.step, series.time, series.value, strict=True)]
        points.sort(key=lambda point: point[0])
        return Series(*(array("d", column) for column in zip(*points, strict=True))) if points else Series()


class _Writer:
    """One file of records."""

    def __init__(self, path: Path, only: Collection[str] | None) -> None:
        self._path, self._only = path, only
        self._clear()

    def _clear(self) -> None:
        self._offset = 0
        self.series: dict[str, Series] = {}
        self._stale: set[str] = set()

    def update(self) -> None:
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:  # written anew
                self._clear()
            file.seek(self._offset)
            while True:
                data = file.read(_CHUNK)
                if len(data) == _CHUNK:
                    data += file.readline()
                end = data.rfind(b"\n") + 1
                if not end:
                    return
                self._offset += end
                file.seek(self._offset)
                records = list(_parse(data[:end]))
                if self._stale or b'"attempt"' in data or not self._take_columns(records):
                    for record in records:
                        self._take(record)

    def _take_columns(self, records: Sequence[Any]) -> bool:
        """Take records in by columns, which is five times as fast; False: they are not regular enough for it."""
        groups: dict[tuple[str, ...], list[Any]] = {}
        found: list[tuple[str, array[float], array[float], array[float]]] = []
        try:
            for record in records:
                if metrics := record.get("metrics"):
                    groups.setdefault(tuple(metrics), []).append(record)
            for names, group in groups.items():
                steps = array("d", [record["step"] for record in group])
                times = array("d", [record["time"] for record in group])
                for name in names:
                    if self._only is None or name in self._only:
                        values = array("d", [record["metrics"][name] for record in group])
                        found.append((name, steps, times, values))
        except (AttributeError, KeyError, TypeError, OverflowError):  # no step, a NaN, another program's mistake
            return False
        if len({name for name, *_ in found}) < len(found):  # in turns with others: the order of points would be lost
            return False
        for name, *columns in found:
            series = self.series.setdefault(name, Series())
            for column, more in zip((series.step, series.time, series.value), columns, strict=True):
                column.extend(more)
        return True

    def _take(self, record: Any) -> None:
        if not isinstance(record, dict):
            return
        metrics = record.get("metrics")
        if not isinstance(metrics, dict):
            if "attempt" in record:
                self._stale = set(self.series)
            return
        step, time = record.get("step"), record.get("time")
        step = step if isinstance(step, (int, float)) else None
        for name in metrics if self._only is None else self._only:
            given = metrics.get(name)
            value = given if type(given) is float else number(given)
            if value is None:
                continue
            series = self.series.get(name)
            if series is None:
                series = self.series[name] = Series()
            elif name in self._stale:
                self._stale.discard(name)
                if step is not None:
                    series.cut(step)
            series.add(step, time, value)


def _parse(lines: bytes) -> Iterator[Any]:
    """The records of whole lines: at once, which is faster; each by itself where one of them is broken."""
    try:
        found = jsonlib.loads(b"[" + lines.rstrip(b"\n").replace(b"\n", b",") + b"]")
    except jsonlib.JSONDecodeError:
        found = []
    if len(found) == lines.count(b"\n"):  # else two broken lines may have made one that is whole
        yield from found
        return
    for line in lines.split(b"\n"):
        try:
            yield jsonlib.loads(line)
        except jsonlib.JSONDecodeError:
            continue


def _rises(steps: array[float]) -> bool:
    return all(before <= after for before, after in pairwise(steps))
