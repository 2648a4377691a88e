"""What is drawn of one metric: a curve per run, against steps or time, smoothed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from lightex.core.naming import label
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.qviz.series import Histories, Series

AXES = ("step", "time", "wall")
"""What x is: the step, seconds since the run's first point, or UTC seconds since the epoch. Else x is a metric."""


@dataclass(frozen=True)
class Curve:
    """One run's curve.

    Attributes:
        id: of the run.
        label: what tells it from the others.
        x: as the axis says.
        y: finite values, smoothed if that was asked for.
        left_out: how many points were not finite.
    """

    id: str
    label: str
    x: list[float]
    y: list[float]
    left_out: int


def curves(runs: Sequence[Summary], metric: str, axis: str = "step", weight: float = 0.0) -> list[Curve]:
    """The curves of those runs that have the metric.

    Args:
        runs: which.
        metric: its whole name.
        axis: one of AXES, or the whole name of a metric.
        weight: of the smoothing, 0 (none) to below 1.
    """
    found = []
    for run in runs:
        if metric not in run.metrics:
            continue
        histories = Histories(RunDir(run.dir), {metric, axis}).update()
        series = histories.get(metric)
        xs = axis_of(series, axis, histories.get)
        points = [(x, y) for x, y in zip(xs, series.value, strict=True) if isfinite(y) and not isnan(x)]
        if axis not in AXES:
            points.sort(key=lambda point: point[0])
        x, y = [point[0] for point in points], smooth([point[1] for point in points], weight)
        name = f"{run.short_id}  {label(run.varied)}".strip()
        found.append(Curve(run.id, name, x, y, len(series) - len(points)))
    return found


def axis_of(series: Series, axis: str, find: Callable[[str], Series]) -> Sequence[float]:
    """The x of each point; NaN where it is not known.

    Args:
        series: the points.
        axis: one of AXES, or the whole name of a metric: its value at the step of a point, or the last one before.
        find: a metric of the same run, empty where it has none of that name.
    """
    if axis == "step":
        return series.step
    if axis == "wall":
        return series.time
    if axis == "time":
        first = next((time for time in series.time if not isnan(time)), 0.0)
        return [time - first for time in series.time]
    other = find(axis)
    if other.step == series.step:  # logged together
        return other.value
    order = sorted(range(len(other)), key=other.step.__getitem__)
    steps, values = [other.step[place] for place in order], [float("nan"), *(other.value[place] for place in order)]
    return [values[bisect_right(steps, step)] for step in series.step]


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """The exponential moving average, free of the bias towards its start (as TensorBoard and Adam have it).

    Args:
        values: finite ones.
        weight: of what was before, 0 to below 1.
    """
    if not weight:
        return list(values)
    smoothed, mean = [], 0.0
    for count, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        smoothed.append(mean / (1 - weight**count))
    return smoothed
