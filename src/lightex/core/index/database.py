"""The SQLite file of an index: its tables, and columns that are made when somebody first asks for them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from math import isnan
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError
from lightex.core.index.entry import Entry
from lightex.core.journal import jsonable, number
from lightex.core.rundir import FORMAT
from lightex.core.summary import Summary

VERSION = 4 + 1000 * FORMAT
"""Of the tables and of what they were made from; a file of another version is made anew."""

FIELDS = {
    "id": "TEXT", "experiment": "TEXT", "sweep": "TEXT", "status": "TEXT", "reason": "TEXT", "config_name": "TEXT",
    "engine": "TEXT", "user": "TEXT", "host": "TEXT", "fingerprint": "TEXT", "note": "TEXT", "archived": "INTEGER",
    "attempt": "INTEGER", "exit_code": "INTEGER", "created": "REAL", "started": "REAL", "ended": "REAL",
    "duration": "REAL",
}  # fmt: skip
"""Columns that every run has, with their types of SQLite. Times are UTC seconds since the epoch, durations seconds."""

KINDS = ("params", "metrics", "tags")
"""What a run has under names of its own."""

PARTS = ("last", "min", "max", "step")
"""What is known of a metric: its last value, its extremes, and the step of the last."""

_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS runs (key INTEGER PRIMARY KEY, path TEXT UNIQUE, short TEXT, version INTEGER, {columns});
CREATE TABLE IF NOT EXISTS details (key INTEGER PRIMARY KEY, params TEXT, metrics TEXT, tags TEXT, rest TEXT);
CREATE TABLE IF NOT EXISTS marks (key INTEGER PRIMARY KEY, path TEXT UNIQUE, mark TEXT, sweep TEXT, live BLOB);
CREATE TABLE IF NOT EXISTS names (kind TEXT, name TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS columns (number INTEGER PRIMARY KEY, kind TEXT, name TEXT, part TEXT);
CREATE TABLE IF NOT EXISTS clock (version INTEGER);
INSERT INTO clock SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM clock);
CREATE INDEX IF NOT EXISTS by_id ON runs (id);
CREATE INDEX IF NOT EXISTS by_version ON runs (version);
CREATE INDEX IF NOT EXISTS by_status ON runs (status);
CREATE INDEX IF NOT EXISTS by_sweep ON marks (sweep);
CREATE INDEX IF NOT EXISTS by_life ON marks (key) WHERE live IS NOT NULL;
PRAGMA user_version={version};
COMMIT;"""
_BUSY = 60.0  # seconds to wait for another process that writes
_SUMMARY = frozenset(field.name for field in fields(Summary)) - set(FIELDS) - {*KINDS, "best", "dir"}


class Database:
    """One connection; it belongs to the thread that made it."""

    def __init__(self, path: Path) -> None:
        """Open a file, or make one.

        Raises:
            sqlite3.DatabaseError: it is no such file, or of another version.
        """
        self._path = path
        self.connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
        functions = (("regexp", 2, _matches), ("folded", 1, _folded), ("number", 1, _number))
        for name, count, function in functions:
            self.connection.create_function(name, count, function, deterministic=True)
        run = self.connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=OFF")  # what a power cut takes is built again
        run("PRAGMA cache_size=-32000")
        (version,) = run("PRAGMA user_version").fetchone()
        if version == 0:
            self._create()
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
        self._names: set[tuple[str, str]] = set()

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    def _create(self) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in FIELDS.items())
        self.connection.executescript(_TABLES.format(columns=columns, version=VERSION))

    def write(self, entries: Iterable[Entry], removed: Sequence[int] = ()) -> None:
        """Put runs in, in place of what was known of them, and take others out, in one transaction."""
        with self._transaction() as run:
            run("UPDATE clock SET version = version + 1")
            (version,) = run("SELECT version FROM clock").fetchone()
            for key in removed:
                for table in ("runs", "details", "marks"):
                    run(f"DELETE FROM {table} WHERE key = ?", (key,))  # noqa: S608
            made = self._columns()
            for entry in entries:
                self._write(entry, version, made)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """All that is executed in it, or nothing."""
        run = self.connection.execute
        run("BEGIN IMMEDIATE")
        try:
            yield run
            run("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # a full disk has ended it
                run("ROLLBACK")
            self._names.clear()
            raise

    def _write(self, entry: Entry, version: int, made: Mapping[str, tuple[str, str, str]]) -> None:
        run, one = self.connection.execute, entry.summary
        kept = {"params": one.params, "metrics": _metrics(one), "tags": one.tags}
        row: dict[str, Any] = {name: getattr(one, name) for name in FIELDS}
        row |= {column: cell(kept[kind], kind, name, part) for column, (kind, name, part) in made.items()}
        row |= {"short": one.short_id, "version": version}
        names = ", ".join(row)
        known = ", ".join(f"{name} = excluded.{name}" for name in row)
        (key,) = run(
            f"INSERT INTO runs (path, {names}) VALUES (?{', ?' * len(row)}) "  # noqa: S608  names are our own
            f"ON CONFLICT (path) DO UPDATE SET {known} RETURNING key",
            (entry.path, *row.values()),
        ).fetchone()
        texts = [jsonlib.dumps(jsonable(kept[kind])).decode() for kind in KINDS]
        rest = jsonlib.dumps(jsonable({name: getattr(one, name) for name in _SUMMARY})).decode()
        run("INSERT OR REPLACE INTO details VALUES (?, ?, ?, ?, ?)", (key, *texts, rest))
        run("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)", (key, entry.path, entry.mark, one.sweep, entry.live))
        for kind, values in kept.items():
            for name in values:
                if (kind, name) not in self._names:
                    run("INSERT OR IGNORE INTO names VALUES (?, ?)", (kind, name))
                    self._names.add((kind, name))

    def set_state(self, key: int, status: str, reason: str | None) -> None:
        """Note what a run that has not changed is seen to be."""
        changed = "UPDATE runs SET status = ?, reason = ?, version = (SELECT version FROM clock) WHERE key = ?"
        with self._transaction() as run:
            run("UPDATE clock SET version = version + 1")
            run(changed, (status, reason, key))

    def column(self, kind: str, name: str, part: str = "last") -> str:
        """The column of `runs` that holds a parameter, a part of a metric, or a tag; made when it is first asked for.

        Numbers are numbers (booleans 0 and 1), texts texts, lists their JSON; NaN is the text "NaN".

        Raises:
            ConfigError: there are as many as SQLite takes.
        """
        found = self._find(kind, name, part)
        if found:
            return found
        with self._transaction() as run:
            if not (found := self._find(kind, name, part)):
                (count,) = run("SELECT coalesce(max(number), 0) FROM columns").fetchone()
                if count > 1900:  # SQLITE_MAX_COLUMN is 2000
                    raise ConfigError(
                        "this index has columns for 1,900 names already", f"remove {self._path}: it is made anew"
                    )
                found = f"c{count + 1}"
                run("INSERT INTO columns VALUES (?, ?, ?, ?)", (count + 1, kind, name, part))
                run(f"ALTER TABLE runs ADD COLUMN {found}")
                with closing(run(f"SELECT {kind}, key FROM details")) as rows:  # noqa: S608  one of KINDS
                    cells = [(cell(jsonlib.loads(text), kind, name, part), key) for text, key in rows]
                self.connection.executemany(
                    f"UPDATE runs SET {found} = ? WHERE key = ?",  # noqa: S608
                    [each for each in cells if each[0] is not None],
                )
        return found

    def _find(self, kind: str, name: str, part: str) -> str | None:
        asked = "SELECT number FROM columns WHERE kind = ? AND name = ? AND part = ?"
        found = self.connection.execute(asked, (kind, name, part)).fetchone()
        return f"c{found[0]}" if found else None

    def _columns(self) -> dict[str, tuple[str, str, str]]:
        rows = self.connection.execute("SELECT number, kind, name, part FROM columns")
        return {f"c{number}": (kind, name, part) for number, kind, name, part in rows}


def cell(values: Mapping[str, Any], kind: str, name: str, part: str) -> float | int | str | None:
    """What a column holds of a run."""
    value = values.get(name)
    if kind == "metrics":
        value = None if value is None else value[PARTS.index(part)]
    if value in ("Infinity", "-Infinity"):
        value = number(value)
    if isinstance(value, float):
        return "NaN" if isnan(value) else value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else float(value)
    return value if value is None or isinstance(value, str) else jsonlib.dumps(jsonable(value)).decode()


def _metrics(summary: Summary) -> dict[str, list[Any]]:
    best = summary.best
    return {
        name: [last, *(best.get(name, {}).get(part) for part in PARTS[1:])] for name, last in summary.metrics.items()
    }


def summary(root: str, path: str, row: Sequence[Any], details: Sequence[str]) -> Summary:
    """A summary from what `_write` kept of it."""
    params, metrics, tags, rest = map(jsonlib.loads, details)
    own = dict(zip(FIELDS, row, strict=True))
    del own["duration"]
    own["archived"] = bool(own["archived"])
    best = {}
    for name, values in metrics.items():
        read = [number(value) if isinstance(value, str) else value for value in values]
        metrics[name], best[name] = read[0], dict(zip(PARTS[1:], read[1:], strict=True))
    if rest["objective"]:
        rest["objective"] = tuple(rest["objective"])
    return Summary(**own, **rest, params=params, metrics=metrics, tags=tags, best=best, dir=f"{root}/{path}")


def _matches(pattern: str, value: Any) -> bool:
    """The REGEXP of SQLite."""
    return value is not None and re.search(pattern, str(value)) is not None


def _folded(value: Any) -> str | None:
    """A text without the difference of upper and lower case, of all alphabets: SQLite's lower() knows ASCII only."""
    return None if value is None else str(value).casefold()


def _number(value: Any) -> float | None:
    """What a text says if that is a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
