"""One run as the index keeps it: its summary, what its files looked like, and where to go on reading."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lightex.core import journal, jsonlib
from lightex.core.errors import FileMissingError, StorageError
from lightex.core.journal import Record, jsonable
from lightex.core.logged import Logged, merged
from lightex.core.rundir import ENDED, RunDir
from lightex.core.summary import ODD, Summary, broken, summary_of

COARSE = 2.0
"""Seconds: the coarsest times of change that file systems keep."""

UNSURE = "?"
"""How a mark begins whose run may have changed once more within the same tick of its file system's clock."""

_FIRST = ("events.jsonl", "records.jsonl")


@dataclass(frozen=True)
class Entry:
    """What the index keeps of a run.

    Attributes:
        path: EXPERIMENT/RUN_ID.
        mark: what its files looked like when they were read; equal: nothing has changed since.
        summary: the run.
        live: JSON to go on from, of a run whose last event is no end; None: it has ended, or is broken.
    """

    path: str
    mark: str
    summary: Summary
    live: bytes | None


def mark(folder: str, known: str = "") -> str:
    """What the files of a run look like now: times of change and sizes of its folder, events, records.

    Args:
        folder: of the run.
        known: its last mark, whose third and further parts name the records of further writers.
    """
    names = [*_FIRST, *(part.partition("=")[0] for part in known.split(" ")[3:])]
    return _mark(folder, names)


def _mark(folder: str, names: list[str]) -> str:
    try:
        parts = [str(os.stat(folder).st_mtime_ns)]  # noqa: PTH116  paths as texts: there may be 100,000 of them
    except OSError:
        return ""
    for name in names:
        try:
            seen = os.stat(f"{folder}/{name}")  # noqa: PTH116
            parts.append(f"{name}={seen.st_size},{seen.st_mtime_ns}")
        except OSError:
            parts.append(f"{name}=")
    return " ".join(parts)


def read(root: str, path: str, supervised: Callable[[str], bool], live: bytes | None = None) -> Entry:
    """Read a run, from where a former reading ended if that is known.

    Args:
        root: the folder of runs.
        path: EXPERIMENT/RUN_ID.
        supervised: tells of a sweep, by its id, whether its dispatcher lives.
        live: of its last entry.
    """
    folder = f"{root}/{path}"
    run = RunDir(folder)
    seen = mark(folder)
    try:
        writers = [file.name for file in run.records_files()]
        seen = _mark(folder, [*_FIRST, *(name for name in writers if name != _FIRST[1])])
        if time.time() - int(seen.partition(" ")[0] or 0) / 1e9 < COARSE:
            seen = UNSURE + seen
        state = jsonlib.loads(live) if live else {"writers": {}}
        done = {name: _go_on(f"{folder}/{name}", state["writers"].get(name)) for name in writers}
        events = run.events()
        summary = summary_of(run, events, merged(logged for logged, _ in done.values()), supervised)
        last = events[-1] if events else {"state": "QUEUED"}
        more = None if last.get("state") in ENDED else _dump(last, done)
    except (StorageError, *ODD) as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if live:  # what a former reading left may be all that is wrong
            return read(root, path, supervised)
        passing = isinstance(cause, OSError) and not isinstance(error, FileMissingError)
        return Entry(path, "" if passing else seen, broken(run, error), None)  # what a disk refuses is tried again
    return Entry(path, seen, summary, more)


def last_event(live: bytes) -> Record:
    """The last event of a run that has not ended, from its entry's `live`."""
    found: Record = jsonlib.loads(live)["last"]
    return found


def _go_on(path: str, former: Mapping[str, Any] | None) -> tuple[Logged, int]:
    logged, start = (Logged.load(former["logged"]), former["end"]) if former else (Logged(), 0)
    if former and os.path.getsize(path) < start:  # noqa: PTH202  written anew, by a torn line's cut or a copy
        logged, start = Logged(), 0
    records, end = journal.read_from(path, start)
    for record in records:
        logged.add(record)
    return logged, end


def _dump(last: Record, done: Mapping[str, tuple[Logged, int]]) -> bytes:
    writers = {name: {"logged": logged.dump(), "end": end} for name, (logged, end) in done.items()}
    brief = {key: last[key] for key in ("state", "reason", "process") if key in last}
    return jsonlib.dumps(jsonable({"last": brief, "writers": writers}))


def dump(entry: Entry) -> dict[str, Any]:
    """An entry as JSON, on its way between processes."""
    return {
        "path": entry.path,
        "mark": entry.mark,
        "summary": vars(entry.summary),
        "live": entry.live.decode() if entry.live else None,
    }


def load(dumped: Mapping[str, Any]) -> Entry:
    """What `dump` made, non-finite numbers as texts."""
    about = dict(dumped["summary"])
    about["metrics"] = {name: journal.number(value) for name, value in about["metrics"].items()}
    for parts in about["best"].values():
        parts |= {part: journal.number(value) for part, value in parts.items() if isinstance(value, str)}
    about["objective"] = tuple(about["objective"]) if about["objective"] else None
    live = dumped["live"]
    return Entry(dumped["path"], dumped["mark"], Summary(**about), live.encode() if live else None)
