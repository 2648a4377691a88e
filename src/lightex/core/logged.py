"""What a run logged, summed up: parameters, tags, metrics by their last, least and greatest values, files, progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from lightex.core import journal
from lightex.core.journal import Record
from lightex.core.rundir import RunDir


@dataclass
class Metric:
    """One metric of a run, summed up.

    `last` is the value of the highest step (of the latest record where steps are equal or missing); `min` and
    `max` leave NaN out and are None when there was nothing else. They forget what a further attempt did again from
    the first step on, and keep what one did again that went on from a checkpoint.
    """

    last: float
    step: float | None
    min: float | None
    max: float | None
    first: float | None
    """The lowest step; None: none was given."""

    @classmethod
    def of(cls, value: float, step: float | None) -> Metric:
        """A metric of one point."""
        extreme = None if isnan(value) else value
        return cls(value, step, extreme, extreme, step)

    def add(self, value: float, step: float | None) -> None:
        """Take in a further point."""
        if step is None or self.step is None or step >= self.step:
            self.last, self.step = value, step
        elif self.first is None or step < self.first:
            self.first = step
        if value == value:  # noqa: PLR0124  not NaN; isnan is a call, and there are millions of points
            if self.min is None or self.max is None:
                self.min = self.max = value
            elif value < self.min:
                self.min = value
            elif value > self.max:
                self.max = value

    def joined(self, other: Metric) -> Metric:
        """This and what a later writer of the same run logged under the same name."""
        last = self if self.step is not None and other.step is not None and self.step > other.step else other
        lows = [each.min for each in (self, other) if each.min is not None]
        highs = [each.max for each in (self, other) if each.max is not None]
        return Metric(last.last, last.step, min(lows, default=None), max(highs, default=None), None)


@dataclass
class Logged:
    """What one writer of a run logged, or (`merged`) all of them."""

    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    finish: Record | None = None
    progress: Record | None = None
    _stale: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Take in one record. What does not have the documented shape is passed over."""
        if isinstance(metrics := record.get("metrics"), dict):
            step = record.get("step")
            self._add_metrics(metrics, step if isinstance(step, (int, float)) else None)
        elif isinstance(params := record.get("params"), dict):
            self.params.update(params)
        elif isinstance(tags := record.get("tags"), dict):
            self.tags.update(tags)
        elif isinstance(artifact := record.get("artifact") or record.get("media"), dict):
            self.artifacts.append(str(artifact.get("path")))
        elif isinstance(progress := record.get("progress"), dict):
            self._add_progress(progress, record.get("time"))
        elif "attempt" in record:
            self._stale, self.finish, self.progress = set(self.metrics), None, None
        elif isinstance(finish := record.get("finish"), dict):
            self.finish = finish

    def _add_metrics(self, metrics: Mapping[str, Any], step: float | None) -> None:
        for name, given in metrics.items():
            value = given if type(given) is float else journal.number(given)
            if value is None:
                continue
            known = self.metrics.get(name)
            if name in self._stale and known:
                # A further attempt goes back: what lies behind its first step is void, as TensorBoard purges it.
                self._stale.discard(name)
                if step is not None and known.first is not None and step <= known.first:
                    self.metrics[name] = Metric.of(value, step)
                    continue
                if step is None or known.step is None or step <= known.step:
                    known.step = None
            if known is None:
                self.metrics[name] = Metric.of(value, step)
            else:
                known.add(value, step)

    def _add_progress(self, told: Mapping[str, Any], time: Any) -> None:
        """Keep the last word, and the first one: together they tell the pace."""
        done, total = journal.number(told.get("done")), journal.number(told.get("total"))
        if done is None or not isinstance(time, (int, float)):
            return
        first = self.progress if self.progress and done >= self.progress["done"] else {"first": done, "since": time}
        self.progress = {"done": done, "total": total, "time": time, "first": first["first"], "since": first["since"]}

    def dump(self) -> dict[str, Any]:
        """As JSON, to go on from later."""
        metrics = {name: [m.last, m.step, m.min, m.max, m.first] for name, m in self.metrics.items()}
        return {**vars(self), "metrics": metrics, "_stale": list(self._stale)}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Logged:
        """What `dump` made; non-finite numbers may be texts, as journals have them."""
        metrics = {}
        for name, (last, step, low, high, first) in dumped["metrics"].items():
            extremes = [None if each is None else journal.number(each) for each in (low, high)]
            metrics[name] = Metric(journal.number(last) or 0.0, step, extremes[0], extremes[1], first)
        return cls(**{**dumped, "metrics": metrics, "_stale": set(dumped["_stale"])})


def merged(writers: Iterable[Logged]) -> Logged:
    """What all writers of a run logged; the first one's parameters and finish decide."""
    whole: Logged | None = None
    for each in writers:
        if whole is None:
            whole = each
            continue
        metrics = dict(whole.metrics)
        for name, metric in each.metrics.items():
            metrics[name] = metrics[name].joined(metric) if name in metrics else metric
        whole = Logged(
            params=each.params | whole.params,
            tags=whole.tags | each.tags,
            metrics=metrics,
            artifacts=whole.artifacts + each.artifacts,
            finish=whole.finish,
            progress=whole.progress,
        )
    return whole or Logged()


def read_logged(run: RunDir) -> Logged:
    """What the run logged so far, by all its writers."""
    return merged(_read(path) for path in run.records_files())


def _read(path: Any) -> Logged:
    logged = Logged()
    for record in journal.read(path):
        logged.add(record)
    return logged
