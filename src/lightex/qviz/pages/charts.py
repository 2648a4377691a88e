"""Curves for the browser: thinned to what a screen can show, every minimum and maximum kept."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lightex.core.errors import ConfigError
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.qviz.curves import AXES, axis_of
from lightex.qviz.pages.asking import Json, number, some_runs, whole
from lightex.qviz.series import Histories, Series

_POINTS = 500  # a curve, unless asked otherwise
_ODD_SHOWN = 100  # points that are not finite, of a curve
_KEPT = 128 << 20  # bytes of histories that are kept in memory


class Cache:
    """The histories that were asked for last, read on as runs go on."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Histories] = OrderedDict()
        self._lock = threading.Lock()

    def points(self, folder: str, metric: str, axis: str) -> tuple[Sequence[float], Sequence[float]]:
        """The x and y of a metric of a run, up to date; empty where the run is gone. They change no more."""
        with self._lock:
            found = self._histories(folder)
            history = found.get(metric) if found else Series()
            along = axis_of(history, axis, found.get) if found else history.step
            return array("d", along), history.value[:]

    def _histories(self, folder: str) -> Histories | None:
        found = self._kept.pop(folder, None) or Histories(RunDir(folder))
        try:
            found.update()
        except OSError:
            return None
        self._kept[folder] = found
        while len(self._kept) > 1 and sum(each.size for each in self._kept.values()) > _KEPT:
            self._kept.popitem(last=False)
        return found


_CACHE = Cache()


async def series(request: Request) -> Response:
    """`series` of the runs `run=` for `metric=`: id, x, y, odd (points that are not finite), n (how many there are).

    `x` is step, time, wall or the name of a metric; `points` (default 500) bounds a curve; `from` and `to` bound x
    (with a point more on each side).
    """
    asked = request.query_params
    metric, axis = asked.get("metric", ""), asked.get("x") or "step"
    points = whole(request, "points", _POINTS, 10, 20_000)
    low, high = number(request, "from"), number(request, "to")
    runs = await some_runs(request, asked.getlist("run"))
    if axis not in AXES and runs and not any(axis in run.metrics for run in runs):
        raise ConfigError(f"x must be {', '.join(AXES)} or a metric of these runs, got '{axis}'")
    found = await asyncio.to_thread(_curves, runs, metric, axis, points, low, high)
    return Json({"metric": metric, "x": axis, "series": found})


def _curves(
    runs: Sequence[Summary], metric: str, axis: str, points: int, low: float | None, high: float | None
) -> list[dict[str, Any]]:
    found = []
    for run in runs:
        if metric in run.metrics:
            found.append({"id": run.id, **curve(*_CACHE.points(run.dir, metric, axis), points, low, high)})
    return found


def curve(
    along: Sequence[float], values: Sequence[float], points: int, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    """One curve as JSON, in ascending order of x.

    Args:
        along: x of each point; NaN where it is not known.
        values: y of each.
        points: at most so many.
        low: of x; None: from its beginning.
        high: of x; None: to its end.
    """
    import numpy as np

    x, y = np.asarray(along), np.asarray(values)
    kept = np.isfinite(x)
    x, y = x[kept], y[kept]
    if np.any(x[1:] < x[:-1]):
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    finite, inside = np.isfinite(y), np.ones(len(x), bool)
    if low is not None:
        inside &= x >= low
    if high is not None:
        inside &= x <= high
    odd = [
        {"x": float(at), "kind": "nan" if value != value else "+inf" if value > 0 else "-inf"}  # noqa: PLR0124
        for at, value in list(zip(x[inside & ~finite], y[inside & ~finite], strict=True))[:_ODD_SHOWN]
    ]
    x, y = x[finite], y[finite]
    # With a point more on each side: lines go on to the edges.
    begin = 0 if low is None else max(0, int(np.searchsorted(x, low)) - 1)
    end = len(x) if high is None else int(np.searchsorted(x, high, "right")) + 1
    x, y = x[begin:end], y[begin:end]
    places = thin(y, points)
    return {"x": x[places], "y": y[places], "odd": odd, "n": len(x)}


def warm_up() -> None:
    """Import what the first chart would wait for."""
    import numpy as np

    thin(np.zeros(100), 10)


def thin(values: Any, points: int) -> Any:
    """Which points of a curve to draw: of each of `points / 2` stretches the least and the greatest.

    Args:
        values: array of shape (n,), finite.
        points: at most so many.
    """
    import numpy as np

    if len(values) <= points:
        return slice(None)
    from tsdownsample import MinMaxDownsampler

    places = MinMaxDownsampler().downsample(  # type: ignore[no-untyped-call]
        values, n_out=points - points % 2 - 2
    )
    return np.unique(np.concatenate(([0], places.astype(np.int64), [len(values) - 1])))  # uint64 with int64 were floats
