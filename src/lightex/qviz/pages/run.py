"""The page of one run: what it was told, what it logged, what it kept, how it ended, how to do it again."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lightex.core import journal, jsonlib
from lightex.core.errors import NotFoundError, StorageError
from lightex.core.naming import flatten
from lightex.core.root import Root
from lightex.core.rundir import CAUSES, ENDED, SUCCEEDED, RunDir
from lightex.core.summary import Summary
from lightex.qviz.code import Code, code_diff, read_code
from lightex.qviz.differences import Differences, differences
from lightex.qviz.pages.artifacts import Kept, inside, kept_files
from lightex.qviz.pages.asking import Json, one_run, render, some_runs, whole
from lightex.qviz.pages.view import differing

TABS = ("overview", "charts", "resources", "media", "artifacts", "logs", "code", "events")
_LOG_MOST = 1 << 20  # bytes of a log in one answer
_DIFF_MOST = 400_000  # characters of a diff on a page
_TEXT_MOST = 200_000  # of a file of code
_SEARCH = 1 << 20  # bytes that are searched at once


async def page(request: Request) -> Response:
    """A tab of the page."""
    run = await one_run(request)
    tab = request.query_params.get("tab", "overview")
    if tab not in TABS:
        raise NotFoundError(f"no tab '{tab}'", f"there are: {', '.join(TABS)}")
    directory = RunDir(run.dir)
    more = await asyncio.to_thread(_TAB.get(tab, _nothing), directory, run)
    if tab == "code" and (other := request.query_params.get("with")):
        more |= await _diff(request, directory, run, other)
    command = await asyncio.to_thread(_command, directory)
    return render(
        request,
        "run.html",
        run=run,
        tab=tab,
        tabs=TABS,
        active="runs",
        command=command,
        ended=run.status in ENDED,
        **more,
    )


def _nothing(_directory: RunDir, _run: Summary) -> dict[str, Any]:
    return {}


def _command(directory: RunDir) -> str:
    with suppress(StorageError):
        return shlex.join(map(str, directory.identity.get("command") or []))
    return ""


def _overview(directory: RunDir, run: Summary) -> dict[str, Any]:
    """Config with sources, environment, what is known of its end."""
    config: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    with suppress(StorageError):
        config, identity = directory.config, directory.identity
    with suppress(StorageError):
        environment = directory.environment
    last = next((event for event in reversed(directory.events()) if event.get("state") in ENDED), {})
    sources = {**(_about(directory, run).get("sources") or {}), **dict.fromkeys(run.varied, "sweep")}
    rows = [(path, value, sources.get(path, "")) for path, value in flatten(config).items()]
    return {
        "settings": [row for row in rows if not row[0].startswith("hp.")],
        "hyper": [row for row in rows if row[0].startswith("hp.")],
        "logged": {name: value for name, value in run.params.items() if not name.startswith("hp.")},
        "identity": identity,
        "environment": environment,
        "death": last,
        "cause": CAUSES.get(str(last.get("cause")), ""),
        "again": _again(run, identity, _about(directory, run)),
    }


def _again(run: Summary, identity: dict[str, Any], about: dict[str, Any]) -> list[tuple[str, str]]:
    """Commands that run it again, each with what it does; safe to copy into a shell, whatever a value holds."""
    short = shlex.quote(run.short_id)
    found = []
    if identity.get("config_reference"):  # else a program has begun it by itself, or submitted it
        found = [
            (f"lx clone {short}", "the same config, the code as it is now"),
            (f"lx clone {short} hp.NAME=VALUE", "changed"),
        ]
    if run.config_name:
        varied = [f"{name}={value if isinstance(value, str) else _exact(value)}" for name, value in run.varied.items()]
        fixed = [text for text in about.get("overrides") or () if str(text).partition("=")[0] not in run.varied]
        found.append((shlex.join(["lx", "run", run.config_name, *fixed, *varied]), "its config as it is now"))
    if run.sweep and run.status in ENDED and run.status != SUCCEEDED:
        found += [(f"lx retry {short}", "this run once more"), (f"lx why {short}", "what may help")]
    return found


def _exact(value: Any) -> str:
    return jsonlib.dumps(value, str).decode()


def _about(directory: RunDir, run: Summary) -> dict[str, Any]:
    """What its sweep notes of itself; empty where it has none, or that is gone."""
    if not run.sweep:
        return {}
    try:
        return dict(Root(directory.path.parent.parent).sweep(run.sweep).about)
    except StorageError:
        return {}


def _media(directory: RunDir, _run: Summary) -> dict[str, Any]:
    """Images, figures, tables, sounds, texts by name, each over its steps; which histograms there are."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    counted: list[str] = []
    for path in directory.records_files():
        for record in journal.read(path):
            if isinstance(media := record.get("media"), dict) and media.get("path"):
                kind = "plotly" if media.get("format") == "plotly" else str(media.get("kind"))
                step = {"step": record.get("step"), "path": str(media["path"])}
                found.setdefault((kind, str(media.get("name"))), []).append(step)
            elif isinstance(text := record.get("text"), dict):
                step = {"step": record.get("step"), "text": str(text.get("value"))}
                found.setdefault(("text", str(text.get("name"))), []).append(step)
            elif isinstance(counts := record.get("histogram"), dict):
                counted.append(str(counts.get("name")))
    groups = [{"kind": kind, "name": name, "steps": steps} for (kind, name), steps in found.items()]
    return {"groups": groups, "histogram_names": list(dict.fromkeys(counted))}


def _artifacts(directory: RunDir, _run: Summary) -> dict[str, Any]:
    files: list[Kept] = kept_files(directory.path)
    return {"files": files}


def _logs(directory: RunDir, _run: Summary) -> dict[str, Any]:
    names = []
    for path in sorted(directory.path.glob("*.log")):
        with suppress(NotFoundError):
            inside(directory.path, path.name)
            names.append(path.name)
    return {"log_names": names}


def _code(directory: RunDir, _run: Summary) -> dict[str, Any]:
    try:
        code = read_code(directory)
    except OSError as error:
        return {"code": Code(), "code_error": str(error.strerror or error), "files": [], "changes": []}
    files = [(name, data[:_TEXT_MOST].decode(errors="replace")) for name, data in code.files.items()]
    return {"code": code, "files": files, "changes": diff_lines(code.changes[:_DIFF_MOST].decode(errors="replace"))}


async def _diff(request: Request, directory: RunDir, run: Summary, other: str) -> dict[str, Any]:
    """What differs from another run."""
    found = await some_runs(request, [other.strip()])
    if not found:
        return {"wanted": other, "code_error": f"no run '{other}' to compare with: give an id as the table shows them"}
    there = RunDir(found[0].dir)

    def compared() -> tuple[str, Differences]:
        return code_diff(read_code(there), read_code(directory)), differences([there, directory])

    text, rest = await asyncio.to_thread(compared)
    pair, lines = [found[0], run], diff_lines(text[:_DIFF_MOST])
    params = {name: [one.params.get(name) for one in pair] for name in differing(pair)}
    return {
        "other": found[0],
        "lines": lines,
        "sides": None if request.query_params.get("unified") == "1" else side_by_side(lines),
        "differ": {**params, **rest.config, **rest.environment},
    }


def diff_lines(text: str) -> list[tuple[str, str]]:
    """The lines of a unified diff with the class that each is shown by; without their first character."""
    lines = []
    for line in text.splitlines():
        if line.startswith(("+++", "---", "diff ", "index ", "@@", "commit ", "new file", "deleted file", "Binary ")):
            lines.append(("hunk", line))
        elif line.startswith(("+", "-")):
            lines.append(("added" if line[0] == "+" else "removed", line[1:]))
        else:
            lines.append(("", line[1:]))
    return lines


def side_by_side(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str | None, str | None]]:
    """The lines of a diff in two columns: the class of each row, what was there before, and what is there now."""
    rows: list[tuple[str, str | None, str | None]] = []
    before: list[str] = []
    after: list[str] = []
    for kind, line in (*lines, ("", "")):
        if kind in ("removed", "added"):
            (before if kind == "removed" else after).append(line)
            continue
        rows += [("changed", left, right) for left, right in zip_longest(before, after)]
        before, after = [], []
        rows.append((kind, line, line))
    return rows[:-1]


def _events(directory: RunDir, _run: Summary) -> dict[str, Any]:
    return {"events": directory.events()}


_TAB = {
    "overview": _overview,
    "media": _media,
    "artifacts": _artifacts,
    "logs": _logs,
    "code": _code,
    "events": _events,
}


async def log(request: Request) -> Response:
    """Bytes `from` to `to` of a log (`name=`, default output.log); its size is in the header x-size."""
    run = await one_run(request)
    path = _log_of(run, request)
    size = path.stat().st_size
    first = whole(request, "from", 0, 0, 1 << 53)
    last = min(whole(request, "to", size, 0, 1 << 53), size, first + _LOG_MOST)

    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(first)
            return file.read(max(0, last - first))

    data = await asyncio.to_thread(read)
    return Response(data, media_type="text/plain; charset=utf-8", headers={"x-size": str(size)})


def _log_of(run: Summary, request: Request) -> Path:
    name = request.query_params.get("name") or "output.log"
    if not name.endswith(".log") or "/" in name:
        raise NotFoundError(f"no log '{name}' in this run")
    return inside(Path(run.dir), name)


async def log_search(request: Request) -> Response:
    """`at`: the byte where one of `text=` next stands, from byte `from` on (`back=1`: before it); null: nowhere."""
    run = await one_run(request)
    path = _log_of(run, request)
    texts = [text.encode() for text in request.query_params.getlist("text") if text]
    start = whole(request, "from", 0, 0, 1 << 53)
    back = request.query_params.get("back") == "1"
    at = await asyncio.to_thread(find, path, texts, start, back) if texts else None
    return Json({"at": at})


def find(path: Path, texts: Sequence[bytes], start: int, back: bool) -> int | None:
    """Where one of some texts stands in a file, upper and lower case alike, read piece by piece.

    Args:
        path: the file.
        texts: what is looked for.
        start: byte to look from.
        back: look before it, the last one first.
    """
    wanted, overlap = [text.lower() for text in texts], max(map(len, texts)) - 1
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin, end = (0, min(start, size)) if back else (start, size)
        while begin < end:
            first = max(0, end - _SEARCH) if back else begin
            last = end if back else min(begin + _SEARCH, size)
            file.seek(first)
            piece = file.read(last + overlap - first).lower()
            places = []
            for text in wanted:
                within = last - first + len(text) - 1  # that it begins before `last`
                place = piece.rfind(text, 0, within) if back else piece.find(text, 0, within)
                if place >= 0:
                    places.append(first + place)
            if places:
                return max(places) if back else min(places)
            if back:
                end = first
            else:
                begin = last
    return None


async def histograms(request: Request) -> Response:
    """`steps` of the histogram `name=`: step, edges, counts of each."""
    run = await one_run(request)
    name = request.query_params.get("name", "")

    def read() -> list[dict[str, Any]]:
        records = (record for path in RunDir(run.dir).records_files() for record in journal.read(path))
        found = [
            (record.get("step"), record["histogram"]) for record in records if isinstance(record.get("histogram"), dict)
        ]
        return [
            {"step": step, "edges": one.get("edges"), "counts": one.get("counts")}
            for step, one in found
            if one.get("name") == name
        ]

    return Json({"name": name, "steps": await asyncio.to_thread(read)})
