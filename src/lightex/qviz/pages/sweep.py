"""The page of a sweep: how far it is, what is best, what failed and why."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lightex.core.errors import NotFoundError, StorageError
from lightex.core.index import Index
from lightex.core.root import SweepDir
from lightex.core.rundir import ENDED, STATES, SUCCEEDED
from lightex.core.summary import Summary
from lightex.qviz.compare import compare
from lightex.qviz.pages.asking import ask, render
from lightex.qviz.pages.view import numeric

_SHOWN = 200  # runs in the table, the best first


async def page(request: Request) -> Response:
    """The page."""
    name = request.path_params["sweep"]

    def read(index: Index) -> tuple[list[Summary], dict[str, Any], bool, bool]:
        runs = index.select("sweep = ?", (name,))
        sweep: SweepDir = index.root.sweep(name)
        if not runs:
            raise NotFoundError(f"no runs of a sweep '{name}'", "lx ls shows what there is")
        try:
            return runs, sweep.about, sweep.supervised, sweep.paused
        except StorageError:  # copied from elsewhere without its folder
            return runs, {}, False, False

    runs, about, at_work, paused = await ask(request, read)
    counts = Counter(run.status for run in runs)
    reasons: dict[str, list[Summary]] = {}
    for run in runs:
        if run.status in ENDED and run.status != SUCCEEDED:
            reasons.setdefault(run.reason or run.status.lower(), []).append(run)
    result = compare(runs)
    return render(
        request,
        "sweep.html",
        sweep=name,
        runs=runs,
        about=about,
        at_work=at_work,
        paused=paused,
        total=max(len(runs), total if isinstance(total := about.get("total"), int) else 0),
        counts={state: counts[state] for state in STATES if counts[state]},
        ended=sum(counts[state] for state in ENDED),
        reasons=sorted(reasons.items(), key=lambda item: -len(item[1])),
        result=result,
        progress=_best_so_far(runs, result.by, result.mode),
        shown=result.runs[:_SHOWN],
        numeric={name for name in result.params if numeric([run.params.get(name) for run in runs])},
        active="runs",
    )


def _best_so_far(runs: list[Summary], metric: str | None, mode: str) -> list[tuple[float, float, str]]:
    """When a better value of a metric came, which, and by which run."""
    done = [run for run in runs if run.ended and metric and metric in run.metrics]
    found: list[tuple[float, float, str]] = []
    for run in sorted(done, key=lambda run: run.ended or 0.0):
        value = run.metrics[metric or ""]
        if isfinite(value) and (not found or (value < found[-1][1] if mode == "min" else value > found[-1][1])):
            found.append((run.ended or 0.0, value, run.id))
    return found
