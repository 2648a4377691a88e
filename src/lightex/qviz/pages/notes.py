"""What people write on runs from the UI: a note, tags, that they are put away."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lightex.core.errors import ConfigError
from lightex.core.rundir import RunDir
from lightex.qviz.pages.asking import Json, read_json, some_runs

_LONGEST = 20_000  # characters of a note
_BODY = 1 << 20  # bytes of a request


async def change(request: Request) -> Response:
    """`{"runs": [ID...], "note": TEXT, "tags": {NAME: TEXT or null}, "archived": BOOL}`: what is absent stays."""
    ids, note, tags, archived = _checked(await read_json(request, _BODY))
    runs = await some_runs(request, ids)
    for run in runs:
        await asyncio.to_thread(RunDir(run.dir).note, note, tags, archived)
    request.app.state.live.look()
    return Json({"changed": [run.id for run in runs]})


def _checked(asked: Any) -> tuple[list[str], str | None, dict[str, str | None], bool | None]:
    """The parts of a request.

    Raises:
        ConfigError: one has not the shape that it should have.
    """
    if not isinstance(asked, dict):
        raise ConfigError("expected a JSON object")
    ids, note, tags, archived = (asked.get(name) for name in ("runs", "note", "tags", "archived"))
    if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
        raise ConfigError("runs must be a list of ids")
    if note is not None and (not isinstance(note, str) or len(note) > _LONGEST):
        raise ConfigError(f"note must be a text of at most {_LONGEST} characters")
    if tags is None:
        tags = {}
    if not isinstance(tags, dict) or not all(
        name.strip() and len(name) < 200 and (value is None or (isinstance(value, str) and len(value) < 2000))
        for name, value in tags.items()
    ):
        raise ConfigError("tags must map names to texts, or to null to take one away")
    if archived is not None and not isinstance(archived, bool):
        raise ConfigError("archived must be true or false")
    return ids, note, tags, archived
