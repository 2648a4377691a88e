"""What handlers share: reading a request, finding its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, NotFoundError
from lightex.core.index import Index
from lightex.core.summary import Summary

T = TypeVar("T")

MOST_RUNS = 500
"""Runs that one request may be about."""


class Json(Response):
    """JSON by orjson, which writes numpy's arrays and what is not finite as null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return jsonlib.dumps(content, str, jsonlib.OPT_SERIALIZE_NUMPY)


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """A page of the UI."""
    page: Response = request.app.state.render(request, template, status, **context)
    return page


async def ask(request: Request, question: Callable[[Index], T]) -> T:
    """What the index answers.

    Raises:
        ConfigError: a whole number in the question is beyond what SQLite can hold.
    """
    try:
        answer: T = await request.app.state.live.ask(question)
    except OverflowError:
        raise ConfigError("a whole number in the filter is too large", f"{2**63 - 1} at most") from None
    return answer


async def read_json(request: Request, most: int) -> Any:
    """The body of a request, which is JSON.

    Args:
        request: what was asked.
        most: bytes that it may have, whatever its headers say.

    Raises:
        ConfigError: it has more, or is none.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise ConfigError("the request is too long", f"{most} bytes at most")
    try:
        return jsonlib.loads(bytes(body))
    except jsonlib.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error}") from None


async def one_run(request: Request) -> Summary:
    """The run of the path.

    Raises:
        NotFoundError: there is no such run.
    """
    name = request.path_params["run"]
    found = await some_runs(request, [name])
    if not found:  # it may have begun within the last second
        request.app.state.live.look(whole=False)
        found = await some_runs(request, [name])
    if not found:
        raise NotFoundError(f"no run '{name}'", "it may have been removed; the first page shows what there is")
    return found[0]


async def some_runs(request: Request, ids: Sequence[str]) -> list[Summary]:
    """The runs with these ids, in their order; those that are gone are left out.

    Raises:
        ConfigError: there are too many.
    """
    if len(ids) > MOST_RUNS:
        raise ConfigError(f"{len(ids)} runs at once are too many", f"{MOST_RUNS} at most")
    wanted = jsonlib.dumps([each for each in ids if "\0" not in each], str).decode()
    where = "id IN (SELECT value FROM json_each(?)) OR short IN (SELECT value FROM json_each(?))"
    found = await ask(request, lambda index: index.select(where, (wanted, wanted)))
    known = {run.id: run for run in found} | {run.short_id: run for run in found}
    return list({known[each].id: known[each] for each in ids if each in known}.values())


def number(request: Request, name: str, default: float | None = None) -> float | None:
    """A number of the query string.

    Raises:
        ConfigError: it is none.
    """
    given = request.query_params.get(name)
    if given is None or given == "":
        return default
    try:
        found = float(given)
    except ValueError:
        raise ConfigError(f"{name} must be a number, got '{given}'") from None
    if found != found:  # noqa: PLR0124  not NaN
        raise ConfigError(f"{name} must be a number, got '{given}'")
    return found


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query string, within bounds.

    Raises:
        ConfigError: it is none, or beyond them.
    """
    found = number(request, name, default)
    if found is None or found != found // 1 or not least <= found <= most:
        raise ConfigError(f"{name} must be a whole number of {least} to {most}, got '{request.query_params[name]}'")
    return int(found)
