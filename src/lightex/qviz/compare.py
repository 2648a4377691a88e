"""Runs side by side: only what differs, best first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from lightex.core.errors import NotFoundError, did_you_mean
from lightex.core.summary import Summary
from lightex.qviz.groups import Group, group, varying

# Names by which people mean "less is better", as whole words between separators; all else is "more is better".
_LESS = re.compile(
    r"(?:^|[._/\- ])(\w*loss|err|\w*error|\w*mse|mae|mape|nll|ppl|perplexity|wer|cer|fid|bpc|time|seconds)$"
)
_HELD_OUT = re.compile(r"(?:^|[._/\- ])(val|valid|validation|test|eval|dev)")


@dataclass(frozen=True)
class Comparison:
    """A table of runs.

    Attributes:
        runs: best first.
        params: the parameters that differ between the runs.
        metrics: the metrics shown, the one that they are ordered by first.
        by: that metric; None: there are none, the order is that of time.
        mode: whether its least ("min") or greatest ("max") value is best.
        same: the parameters that are the same for all, with their values.
    """

    runs: list[Summary]
    params: list[str]
    metrics: list[str]
    by: str | None
    mode: str
    same: dict[str, Any]

    @property
    def groups(self) -> list[Group]:
        """Runs that differ by their seed only, taken together, best mean first; empty where there are none."""
        found = group(self.runs)
        if len(found) == len(self.runs):
            return []
        return sorted(
            found, key=lambda one: _place(mean.mean if (mean := one.spread(self.by or "")) else None, self.mode)
        )


def compare(runs: Sequence[Summary], by: str | None = None, mode: str | None = None) -> Comparison:
    """Put runs side by side.

    Args:
        runs: which.
        by: the metric to order by, or a part of its name that only one has; default: the objective of the
            experiment's config, else a metric of held-out data, else the first.
        mode: "min" or "max"; default: that of the objective, else guessed by the metric's name.

    Raises:
        NotFoundError: no run has that metric, or several metrics may be meant.
    """
    names = metrics_of(runs)
    wanted, wanted_mode = next((run.objective for run in runs if run.objective), (None, None))
    metric = find_metric(by, runs) if by else wanted if wanted in names else _main(names)
    direction = mode or (wanted_mode if metric == wanted else None) or guess_mode(metric or "")
    params = dict.fromkeys(name for run in runs for name in run.params)
    differing = varying([run.params for run in runs])
    return Comparison(
        runs=sorted(runs, key=lambda run: _rank(run, metric, direction)),
        params=differing,
        metrics=([metric] if metric else []) + [name for name in names if name != metric],
        by=metric,
        mode=direction,
        same={name: runs[0].params.get(name) for name in params if name not in differing},
    )


def guess_mode(metric: str) -> str:
    """ "min" for names such as loss, val.mse, test/error; "max" for all others."""
    return "min" if _LESS.search(metric.lower()) else "max"


def _main(names: Sequence[str]) -> str | None:
    held_out = [name for name in names if _HELD_OUT.search(name.lower())] or list(names)
    better = [name for name in held_out if guess_mode(name) == "max"] or held_out
    return better[0] if better else None


def metrics_of(runs: Sequence[Summary]) -> list[str]:
    """The names of the metrics of some runs, in the order in which they appear."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics))


def find_metric(given: str, runs: Sequence[Summary], more: str = "") -> str:
    """The metric of some runs that is meant by its name, or by a part that only its name has.

    Args:
        given: the name or a part of it.
        runs: which.
        more: is said before what there is.

    Raises:
        NotFoundError: none of them has such a metric, or several may be meant.
    """
    names = metrics_of(runs)
    found = [given] if given in names else [name for name in names if given in name]
    if len(found) == 1:
        return found[0]
    hint = did_you_mean(given, names) if not found else ""
    said = f"'{given}' may be {', '.join(found)}" if found else f"no metric '{given}' in these runs.{hint}"
    raise NotFoundError(said, f"{more}there are: {', '.join(names) or 'none'}")


def best_of(comparison: Comparison, metric: str) -> float | None:
    """The best last value of a metric among all runs, by the guess of its name for metrics but the main one."""
    values = [run.metrics[metric] for run in comparison.runs if metric in run.metrics]
    return best_value(values, _mode(comparison, metric))


def best_mean_of(comparison: Comparison, metric: str) -> float | None:
    """The best mean of a metric among all groups."""
    means = [each.mean for one in comparison.groups if (each := one.spread(metric))]
    return best_value(means, _mode(comparison, metric))


def best_value(given: Sequence[float], mode: str) -> float | None:
    """The least or greatest of some values, where they differ."""
    values = [value for value in given if not isnan(value)]
    if len(values) < 2 or min(values) == max(values):
        return None
    return min(values) if mode == "min" else max(values)


def _mode(comparison: Comparison, metric: str) -> str:
    return comparison.mode if metric == comparison.by else guess_mode(metric)


def _rank(run: Summary, metric: str | None, mode: str) -> tuple[int, float]:
    return _place(run.metrics.get(metric) if metric else None, mode)


def _place(value: float | None, mode: str) -> tuple[int, float]:
    """Best first; NaN and infinite values of the wrong sign last, runs without the metric behind them."""
    if value is None:
        return (2, 0.0)
    if isnan(value):
        return (1, 0.0)
    return (0, value if mode == "min" else -value)
