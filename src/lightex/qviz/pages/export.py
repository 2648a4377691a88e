"""A view as a file: CSV of all its rows, or one HTML file that needs nothing beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lightex.core.errors import ConfigError, NotFoundError
from lightex.core.index import Index
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.qviz.compare import metrics_of
from lightex.qviz.names import Names
from lightex.qviz.pages.asking import ask, number, some_runs
from lightex.qviz.pages.view import make_view
from lightex.qviz.runs import Runs
from lightex.qviz.series import Histories
from lightex.qviz.table import Table

_MOST = 100_000
_AT_ONCE = 10_000  # points that are text at a time
_FIRST = ("id", "experiment", "status")


async def csv(request: Request) -> Response:
    """The chosen runs (`run=`), or all of a view; its columns (`col=`) or all."""
    asked = request.query_params
    given = await some_runs(request, asked.getlist("run"))

    def table(index: Index) -> Table:
        view = make_view(index, asked)
        kept = Runs(given) if "run" in asked else Runs(index.select(*view.selected, _MOST), view.named)
        chosen = [Names(index).find(each) for each in (*_FIRST, *view.cols)]
        return kept.table(chosen if view.cols else None)

    text = (await ask(request, table)).to_csv()
    headers = {"content-disposition": 'attachment; filename="runs.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


async def history(request: Request) -> Response:
    """All points of the chosen runs (`run=`), of all metrics or some (`metric=`): a row each.

    Raises:
        NotFoundError: there is none of these runs, or none of them has a metric of that name.
    """
    asked = request.query_params
    runs = await some_runs(request, asked.getlist("run"))
    if not runs:
        raise NotFoundError("none of these runs is there", "run=ID, several times for several")
    for name in asked.getlist("metric"):
        if not any(name in run.metrics for run in runs):
            raise NotFoundError(f"none of these runs has a metric '{name}'")
    headers = {"content-disposition": 'attachment; filename="history.csv"'}
    return StreamingResponse(
        _points(runs, asked.getlist("metric")), media_type="text/csv; charset=utf-8", headers=headers
    )


def _points(runs: Sequence[Summary], metrics: Sequence[str]) -> Iterator[str]:
    head = ["run", "metric", "step", "time", "value"]
    yield Table(head, []).to_csv()
    for run in runs:
        try:
            found = Histories(RunDir(run.dir), metrics or None).update()
        except OSError:  # it was removed meanwhile
            continue
        for name in found.names:
            of = found.get(name)
            for at in range(0, len(of), _AT_ONCE):
                some = slice(at, at + _AT_ONCE)
                points = zip(of.step[some], of.time[some], of.value[some], strict=True)
                yield Table(head, [[run.id, name, *point] for point in points]).to_csv().partition("\n")[2]


async def html(request: Request) -> Response:
    """The chosen runs (`run=`), or those of the view: the columns that it has, and curves of metrics.

    The metrics are those of `metric=`, or that the regular expression `m=` finds; the curves are drawn as the address
    says: `x`, `logy`, `smooth`.

    Raises:
        ConfigError: `m` is no regular expression, or `smooth` no number.
    """
    asked = request.query_params
    chosen = await some_runs(request, asked.getlist("run"))
    view = await ask(request, lambda index: make_view(index, asked))
    runs: list[Summary] = chosen if "run" in asked else view.runs
    metrics = asked.getlist("metric") or metrics_of(runs)
    if asked.get("m"):
        try:
            wanted = re.compile(asked["m"], re.IGNORECASE)
        except re.error as error:
            raise ConfigError(f"m is not a regular expression: {error}") from None
        metrics = [name for name in metrics if wanted.search(name)]
    page = await asyncio.to_thread(
        request.app.state.chart_page,
        runs,
        metrics,
        asked.get("x") or "step",
        asked.get("logy") == "1",
        min(0.99, max(0.0, number(request, "smooth") or 0.0)),
        f"{len(runs)} runs of {request.app.state.live.root.path}" + (f", {view.q}" if view.q else ""),
        [column.name for column in view.columns] if view.cols else None,
    )
    headers = {"content-disposition": 'attachment; filename="runs.html"'}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)
