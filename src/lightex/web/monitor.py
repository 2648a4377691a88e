"""The monitor's page and its JSON: what every job is doing, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from lightex.core.errors import ConfigError
from lightex.core.liveness import host, user
from lightex.core.machine import Machine
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.dispatcher.why import why
from lightex.mon import actions
from lightex.mon.prometheus import TYPE, exposition
from lightex.mon.state import Picture, picture
from lightex.qviz.pages.asking import Json, ask, one_run, read_json, render, some_runs

_BODY = 1 << 16  # bytes of a request
_MOST_OVERRIDES = 50
_MOST_LOGS = 12


def routes() -> list[BaseRoute]:
    """All of them."""
    return [
        Route("/live", page),
        Route("/logs", logs),
        Route("/api/act", act, methods=["POST"]),
        Route("/api/run/{run}/usage", usage),
        Route("/api/run/{run}/why", explain),
        Route("/metrics", metrics),
        Route("/healthz", health),
        Route("/readyz", ready),
    ]


async def page(request: Request) -> Response:
    """The page, or (`part=live`) the part of it that changes."""
    seen, machine = await _seen(request)
    template = "live_part.html" if request.query_params.get("part") == "live" else "live.html"
    return render(request, template, active="live", seen=seen, machine=machine, here=host())


async def _seen(request: Request) -> tuple[Picture, Machine]:
    found: Picture = await ask(request, picture)
    machine: Machine = await asyncio.to_thread(request.app.state.machines.look)
    return found, machine


async def logs(request: Request) -> Response:
    """The output of the runs `run=`, side by side."""
    ids = request.query_params.getlist("run")
    if len(ids) > _MOST_LOGS:
        raise ConfigError(f"the output of {len(ids)} runs is too much for one page", f"{_MOST_LOGS} at most")
    return render(request, "logs.html", active="live", runs=await some_runs(request, ids))


async def usage(request: Request) -> Response:
    """`samples` of what a run used: time, cpu, memory, read, written, received, sent, gpus (see RunDir.usage)."""
    run = await one_run(request)
    samples = await asyncio.to_thread(RunDir(run.dir).usage)
    return Json({"id": run.id, "samples": samples[-_SAMPLES:]})


_SAMPLES = 5000


async def explain(request: Request) -> Response:
    """Why a run is as it is (as `lx why`): `facts` and `steps`, texts."""
    run = await one_run(request)
    found = await asyncio.to_thread(why, RunDir(run.dir))
    return Json({"id": run.id, "facts": found.facts, "steps": found.steps})


async def act(request: Request) -> Response:
    """Do something: `{"do": "stop", "runs": [ID...]}`; `told` is what came of it.

    `do` is stop, kill (of `runs`, or of `sweep`), retry (of `runs`), priority (of `runs`, with `priority`), clone (of
    the one in `runs`, with `overrides`), pause or resume (of `sweep`).
    """
    asked = await read_json(request, _BODY)
    do = asked.get("do") if isinstance(asked, dict) else None
    if isinstance(do, str) and do in _ON_SWEEPS and ("sweep" in asked or do not in _ON_RUNS):
        told = await _on_sweep(request, do, asked.get("sweep"))
    elif isinstance(do, str) and do in _ON_RUNS:
        told = await _on_runs(request, do, asked)
    else:
        valid = ", ".join(dict.fromkeys((*_ON_RUNS, *_ON_SWEEPS)))
        raise ConfigError(f"there is nothing to do that is called {do!r}", f"valid: {valid}")
    request.app.state.live.look()
    return Json({"told": told})


async def _on_sweep(request: Request, do: str, name: Any) -> str:
    if not isinstance(name, str) or not await ask(request, lambda index: index.count("sweep = ?", (name,))):
        raise ConfigError(f"there is no sweep {name!r}")
    root = request.app.state.live.root
    return await asyncio.to_thread(_ON_SWEEPS[do], root, name)


async def _on_runs(request: Request, do: str, asked: dict[str, Any]) -> str:
    ids = asked.get("runs")
    if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
        raise ConfigError("runs must be a list of ids")
    runs = await some_runs(request, ids)
    if not runs:
        raise ConfigError("none of these runs is there")
    return await asyncio.to_thread(_ON_RUNS[do], request.app.state.live.root, runs, asked)


def _clone(root: Any, runs: Sequence[Summary], asked: dict[str, Any]) -> str:
    overrides = asked.get("overrides") or []
    if len(runs) != 1:
        raise ConfigError("one run is cloned at a time")
    texts = isinstance(overrides, list) and all(isinstance(each, str) and "\0" not in each for each in overrides)
    if not texts or len(overrides) > _MOST_OVERRIDES:
        raise ConfigError("overrides must be a list of texts KEY=VALUE")
    return actions.clone(root, runs[0], overrides)


def _priority(root: Any, runs: Sequence[Summary], asked: dict[str, Any]) -> str:
    wanted = asked.get("priority")
    if not isinstance(wanted, int) or isinstance(wanted, bool) or abs(wanted) > 10**6:
        raise ConfigError(f"priority must be a whole number, got {wanted!r}")
    return actions.prioritize(root, runs, wanted)


def _who() -> str:
    return f"{user()} in the browser"


_ON_RUNS: dict[str, Callable[[Any, Sequence[Summary], dict[str, Any]], str]] = {
    "stop": lambda root, runs, _: actions.stop(root, runs, _who()),
    "kill": lambda root, runs, _: actions.stop(root, runs, _who(), kill=True),
    "retry": lambda root, runs, _: actions.retry(root, runs),
    "clone": _clone,
    "priority": _priority,
}
_ON_SWEEPS: dict[str, Callable[[Any, str], str]] = {
    "stop": lambda root, sweep: actions.stop_sweep(root, sweep, _who()),
    "kill": lambda root, sweep: actions.stop_sweep(root, sweep, _who(), kill=True),
    "pause": actions.pause,
    "resume": actions.resume,
}


async def metrics(request: Request) -> Response:
    """What Prometheus scrapes."""
    seen, machine = await _seen(request)
    return Response(exposition(seen, vars(machine)), media_type=TYPE)


async def health(_request: Request) -> Response:
    """Whether the server lives."""
    return PlainTextResponse("ok\n")


async def ready(request: Request) -> Response:
    """Whether it answers about runs."""

    return PlainTextResponse(f"ok, {await ask(request, lambda index: index.count())} runs\n")
