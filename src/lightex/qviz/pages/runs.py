"""The first page: the table of runs beside their charts; and the same as JSON."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from lightex.core.errors import LightexError
from lightex.qviz.filters import FilterError
from lightex.qviz.names import Names
from lightex.qviz.pages.asking import Json, ask, render
from lightex.qviz.pages.view import SIZES, View, make_view
from lightex.qviz.runs import value_of


async def page(request: Request) -> Response:
    """The page, or (`part=table`) the part of it that changes with the filter."""
    view = await _view(request)
    template = "table.html" if request.query_params.get("part") == "table" else "runs.html"
    return render(request, template, view=view, value_of=value_of, sizes=SIZES, active="runs")


async def _view(request: Request) -> View:
    """What the address asks for; a mistake in it is shown in place of the table."""
    given = request.query_params
    try:
        return await ask(request, lambda index: make_view(index, given))
    except LightexError as error:
        view = await ask(request, lambda index: make_view(index, QueryParams()))
        view.q, view.runs, view.total, view.error = given.get("q", ""), [], 0, error
        if isinstance(error, FilterError):
            view.error.caret = " " * error.position + "^ " + error.hint
        return view


async def data(request: Request) -> Response:
    """The runs of a page as JSON: `total`, and `runs` as `lx ls --json` has them."""
    given = request.query_params
    view = await ask(request, lambda index: make_view(index, given))
    return Json(
        {"total": view.total, "page": view.page, "pages": view.pages, "runs": [run.as_json() for run in view.runs]}
    )


async def names(request: Request) -> Response:
    """What can be named in a filter: `text`, `kind`, `type` of each."""

    def known(index: Any) -> list[dict[str, str]]:
        return [{"text": name.text, "kind": name.kind, "type": name.type} for name in Names(index).all()]

    return Json(await ask(request, known))
