"""Some runs side by side: what differs, best first, curves laid over each other, parameters against a metric."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from lightex.core.errors import ConfigError, LightexError
from lightex.core.rundir import RunDir
from lightex.qviz.compare import best_mean_of, best_of, compare, metrics_of
from lightex.qviz.differences import differences
from lightex.qviz.importance import importance
from lightex.qviz.pages.asking import Json, ask, render, some_runs
from lightex.qviz.pages.view import differing, numeric
from lightex.qviz.runs import select

_MOST = 100


async def page(request: Request) -> Response:
    """The page for the runs `run=`, or of those that `q=` selects; `by` is the metric, `mode` min or max."""
    asked = request.query_params
    runs = await some_runs(request, asked.getlist("run"))
    if query := asked.get("q"):
        runs = list(await ask(request, lambda index: select(index, query, "id DESC", limit=_MOST)))
    known = {name for run in runs for name in (run.id, run.short_id)}
    mode = asked.get("mode") or None
    if mode not in (None, "min", "max"):
        raise ConfigError(f"mode must be min or max, got '{mode}'")
    result = compare(runs, asked.get("by") or None, mode)
    rest = await asyncio.to_thread(differences, [RunDir(run.dir) for run in result.runs])
    return render(
        request,
        "compare.html",
        result=result,
        rest=rest,
        gone=[] if query else [name for name in asked.getlist("run") if name not in known],
        groups=result.groups,
        best_means={name: best_mean_of(result, name) for name in result.metrics},
        best={name: best_of(result, name) for name in result.metrics},
        numeric={name for name in result.params if numeric([run.params.get(name) for run in result.runs])},
        active="compare",
        by=result.by,
    )


async def points(request: Request) -> Response:
    """Parameters and metrics of runs, for scatter plots and parallel coordinates: `params`, `metrics`, `runs`."""
    runs = await some_runs(request, request.query_params.getlist("run"))
    rows = [{"id": run.id, "label": run.short_id, "params": run.params, "metrics": run.metrics} for run in runs]
    return Json({"params": differing(runs), "metrics": metrics_of(runs), "runs": rows})


async def shares(request: Request) -> Response:
    """`shares`: how much of the variance of the metric `by=` each parameter explains; or `why` that is not known."""
    runs = await some_runs(request, request.query_params.getlist("run"))
    by = request.query_params.get("by", "")
    try:
        found = await asyncio.to_thread(importance, runs, by, differing(runs))
    except LightexError as error:  # too few runs, or a package is missing: the page says so in its place
        return Json({"by": by, "shares": [], "why": ". ".join((error.message, *error.details))})
    return Json({"by": by, "shares": [{"name": name, "value": value} for name, value in found.items()]})
