"""Pages and JSON of runs for the web UI, as routes of Starlette; what mounts them gives `app.state.live`, `.render`."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from lightex.qviz.pages import artifacts, charts, compare, export, notes, run, runs, sweep
from lightex.qviz.pages.words import FILTERS

__all__ = ["FILTERS", "routes"]


def routes() -> list[BaseRoute]:
    """All of them."""
    return [
        Route("/", runs.page),
        Route("/compare", compare.page),
        Route("/sweep/{sweep}", sweep.page),
        Route("/run/{run}", run.page),
        Route("/run/{run}/file/{path:path}", artifacts.file),
        Route("/run/{run}/figure/{path:path}", artifacts.figure),
        Route("/plotly.js", artifacts.plotly),
        Route("/export.csv", export.csv),
        Route("/history.csv", export.history),
        Route("/export.html", export.html),
        Route("/api/names", runs.names),
        Route("/api/runs", runs.data),
        Route("/api/series", charts.series),
        Route("/api/points", compare.points),
        Route("/api/importance", compare.shares),
        Route("/api/run/{run}/log", run.log),
        Route("/api/run/{run}/log/search", run.log_search),
        Route("/api/run/{run}/histograms", run.histograms),
        Route("/api/notes", notes.change, methods=["POST"]),
    ]
