"""The application: pages, static files, the stream of changes, behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.root import Root
from lightex.machine import Machines
from lightex.qviz.filters import FilterError
from lightex.qviz.pages import FILTERS, routes
from lightex.qviz.pages.asking import render
from lightex.qviz.pages.charts import warm_up
from lightex.web import monitor
from lightex.web.export import chart_page
from lightex.web.guard import Guard
from lightex.web.live import Live

STATIC = Path(__file__).parent / "static"


Watch = Callable[[], Coroutine[Any, Any, None]]
"""Goes on beside the server, until it is cancelled."""


def make_app(live: Live, token: str | None, cookie: str = "lx", watch: Watch | None = None) -> Guard:
    """The whole UI as an ASGI application.

    Args:
        live: the index, opened.
        token: what it takes to get in; None: nothing.
        cookie: the name under which a browser keeps the token.
        watch: runs beside it; None: nothing does.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each()) for each in (live.run, watch) if each]
        await asyncio.to_thread(warm_up)
        gc.freeze()  # what is there now stays: else reading many records makes Python look through all of it again
        yield
        for task in tasks:
            task.cancel()

    errors: Mapping[Any, Any] = {LightexError: _mistake, HTTPException: _http_error, Exception: _fault}
    app = Starlette(
        routes=[
            *routes(),
            *monitor.routes(),
            Route("/api/live", _changes),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        exception_handlers=errors,
        middleware=[Middleware(GZipMiddleware, minimum_size=2000)],
        lifespan=lifespan,
    )
    app.state.live = live
    app.state.render = _renderer(live.root)
    app.state.chart_page = chart_page
    app.state.machines = Machines()
    return Guard(app, token, cookie)


def _renderer(root: Root) -> Any:
    templates = Environment(
        loader=PackageLoader("lightex.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(FILTERS)
    folder = root.path.parent.name if root.path.name == "runs" else root.path.name

    def rendered(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page; links are relative, since a proxy may have put a prefix before the path."""
        base = "../" * request.url.path.lstrip("/").count("/")
        page = templates.get_template(template).render(base=base, folder=folder, root=str(root.path), **context)
        return HTMLResponse(page, status)

    return rendered


async def _changes(request: Request) -> Response:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(request.app.state.live.changes(), media_type="text/event-stream", headers=headers)


def _refused(request: Request, status: int, title: str, words: str, details: Sequence[str], **place: Any) -> Response:
    """What went wrong, as JSON for programs, else as a page."""
    if "/api/" in request.url.path:
        return JSONResponse({"error": words, "details": list(details), **place}, status)
    return render(request, "error.html", status, title=title, message=words, details=details)


async def _mistake(request: Request, error: Exception) -> Response:
    """A user's mistake: its words, and what to do."""
    assert isinstance(error, LightexError)  # noqa: S101  for the type checker: it is registered for these
    status = 404 if isinstance(error, NotFoundError) else 400
    place = {"position": error.position, "hint": error.hint} if isinstance(error, FilterError) else {}
    return _refused(request, status, "That did not work", error.message, error.details, **place)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  for the type checker: it is registered for these
    details = ["the runs are on the first page"] if error.status_code == 404 else []
    return _refused(request, error.status_code, str(error.status_code), error.detail, details)


async def _fault(request: Request, _error: Exception) -> Response:
    """A mistake of ours: the server writes its traceback to where lx ui was started."""
    details = ["what went wrong is where lx ui was started: please report it"]
    return _refused(request, 500, "500", "LightEx has made a mistake here", details)
