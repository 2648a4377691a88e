"""Files that runs kept: nothing in them can act on the page, and nothing outside a run is reached."""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from lightex.core import jsonlib
from lightex.core.errors import NotFoundError
from lightex.qviz.pages.asking import one_run

_SHOWN = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
    ".bmp": "image/bmp", ".svg": "image/svg+xml", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg",
    ".flac": "audio/flac", ".mp4": "video/mp4", ".webm": "video/webm",
}  # fmt: skip
"""What a browser shows by itself and runs nothing of; an SVG's scripts are stopped by the sandbox."""

_TEXTS = frozenset({
    ".txt", ".log", ".json", ".jsonl", ".csv", ".tsv", ".md", ".rst", ".tex", ".yaml", ".yml", ".toml", ".ini", ".cfg",
    ".diff", ".patch", ".xml", ".html", ".htm", ".js", ".css", ".py", ".sh", ".r", ".jl", ".c", ".h", ".cpp", ".cu",
    ".rs", ".go", ".java", ".sql",
})  # fmt: skip
"""What is shown as text, whatever it is: HTML too."""

# Even where a file is opened by itself, it is nobody: no scripts, no forms, no requests, an origin of its own.
_SANDBOX = {"content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
# plotly.js writes its styles into the page; figures get a page for themselves, whose data is no markup.
_FIGURE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
}
_FILES_SHOWN = 2000


@dataclass(frozen=True)
class Kept:
    """A file of a run.

    Attributes:
        path: below the run's folder.
        size: bytes.
        kind: "image", "audio", "video", "text", "figure" or "other".
    """

    path: str
    size: int
    kind: str


def inside(folder: Path, path: str) -> Path:
    """A file of a run, by its path below the run's folder, wherever symbolic links lead.

    Raises:
        NotFoundError: there is no such file, or it is not inside.
    """
    if "\0" in path:
        raise NotFoundError("no such file in this run")
    real, within = Path(os.path.realpath(folder / path)), Path(os.path.realpath(folder))
    with suppress(OSError):  # a name that is too long for any file
        if within in real.parents and real.is_file():
            return real
    raise NotFoundError(f"no file '{path}' in this run")


def kind_of(path: str) -> str:
    """What can be shown of a file."""
    suffix = Path(path).suffix.lower()
    if suffix in _SHOWN:
        return _SHOWN[suffix].partition("/")[0]
    return "text" if suffix in _TEXTS else "other"


def kept_files(folder: Path) -> list[Kept]:
    """The files below a run's `artifacts/`, at most 2,000 of them; links that lead out are left out."""
    found = []
    within = Path(os.path.realpath(folder))
    for at, folders, names in os.walk(folder / "artifacts"):
        folders.sort()
        for name in sorted(names):
            path = Path(at) / name
            relative = path.relative_to(folder).as_posix()
            with suppress(OSError):  # a run at work may have taken it away by now
                if within in Path(os.path.realpath(path)).parents and path.is_file():
                    found.append(Kept(relative, path.stat().st_size, kind_of(relative)))
                if len(found) == _FILES_SHOWN:
                    return found
    return found


async def file(request: Request) -> Response:
    """A file of a run; `download=1` saves it whatever it is."""
    run = await one_run(request)
    path = inside(Path(run.dir), request.path_params["path"])
    suffix = path.suffix.lower()
    media = _SHOWN.get(suffix) or ("text/plain; charset=utf-8" if suffix in _TEXTS else "application/octet-stream")
    download = request.query_params.get("download") == "1" or media == "application/octet-stream"
    name = path.name if download else None
    return FileResponse(path, media_type=media, filename=name, headers=dict(_SANDBOX))


async def figure(request: Request) -> Response:
    """A plotly figure, in a page of its own."""
    run = await one_run(request)
    path = inside(Path(run.dir), request.path_params["path"])
    try:
        drawn = jsonlib.loads(path.read_bytes())
    except jsonlib.JSONDecodeError:
        raise NotFoundError(f"'{request.path_params['path']}' is no plotly figure") from None
    # In a script element that runs nothing; "<" is escaped, so that no text in it can end the element.
    data = jsonlib.dumps(drawn).decode().replace("<", "\\u003c")
    page: HTMLResponse = request.app.state.render(request, "figure.html", figure=data, missing=_plotly() is None)
    page.headers.update(_FIGURE)
    return page


async def plotly(_request: Request) -> Response:
    """plotly.js, out of the installed Python package."""
    path = _plotly()
    if path is None:
        raise NotFoundError("plotly is not installed", "pip install plotly")
    return FileResponse(path, media_type="text/javascript", headers={"cache-control": "max-age=3600"})


def _plotly() -> Path | None:
    found = importlib.util.find_spec("plotly")
    path = Path(found.origin).parent / "package_data" / "plotly.min.js" if found and found.origin else None
    return path if path and path.is_file() else None
