"""An index over the runs of a root: kept up to date by what files look like, asked in SQL."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from lightex.core.cache import local_folder
from lightex.core.errors import StorageError
from lightex.core.index import entry as entries
from lightex.core.index.database import FIELDS, KINDS, Database, summary
from lightex.core.index.entry import Entry
from lightex.core.index.reading import Changed, read_many
from lightex.core.root import Root
from lightex.core.summary import Summary, seen_state

Progress = Callable[[int, int], None]
"""Told how many of how many runs are read."""

_ELSEWHERE = "choose another folder with LX_CACHE"
_CHUNK = 500  # runs that are written in one transaction
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: "no such table"
_SHARE = 20.0  # a look at all runs may cost one part in so many of the time


@dataclass
class Known:
    """What is known of a run without reading it."""

    key: int
    mark: str
    sweep: str | None
    live: bytes | None
    state: tuple[str, ...]


class Index:
    """The runs of a root, as a table.

    Several processes may have one open at once; what one reads the others need not. It belongs to the thread that
    opened it.
    """

    def __init__(self, root: Root, progress: Progress | None = None) -> None:
        """Open the index of a root and bring it up to date.

        Args:
            root: the folder of runs.
            progress: told how far a long reading has come.

        Raises:
            StorageError: the cache folder cannot be written.
        """
        self.root = root
        self._folder = os.path.realpath(root.path)
        name = hashlib.sha256(self._folder.encode()).hexdigest()[:16]
        try:
            folder = local_folder() / "index"
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / f"{name}.sqlite"
            self._lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"no index can be kept in {error.filename}: {error.strerror}", _ELSEWHERE) from error
        self._database = self._opened()
        self.generation = 0  # grows when the file is made anew: its versions then begin again
        self._looked, self._cost = 0.0, 0.0
        self._listed = dict[str, float]()
        self.refresh(progress)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its files."""
        self._database.close()
        os.close(self._lock)

    def _opened(self) -> Database:
        try:
            return Database(self.path)
        except sqlite3.DatabaseError as error:
            self._refuse_if_unwritable(error)
        with self._alone(None):  # of another version, or broken: it is built again
            try:
                return Database(self.path)  # by another process, meanwhile
            except sqlite3.DatabaseError:
                self._remove()
                return Database(self.path)

    def _refuse_if_unwritable(self, error: sqlite3.DatabaseError) -> None:
        """Say what to do about an index that is not broken, and still cannot be used."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if isinstance(error, sqlite3.OperationalError) and code not in _BROKEN:
            raise StorageError(f"the index {self.path} cannot be written: {error}", _ELSEWHERE) from error

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{end}")  # noqa: PTH108

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """A question, which may find the file broken."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                raise  # a mistake of ours
            self._refuse_if_unwritable(error)
            self._remove()
            raise StorageError(
                f"the index {self.path} was broken and is removed: {error}", "try again: it is made anew"
            ) from error

    # ------------------------------------------------------------------ keeping up

    def refresh(self, progress: Progress | None = None, whole: bool = True) -> int:
        """Take in what has changed; returns the version, which grows with each change.

        Args:
            progress: told how far a long reading has come.
            whole: look at all runs; False: where that would cost more than a twentieth of the time since it was last
                done, only at those that are new, have not ended or whose sweep is at work.
        """
        if not self.path.exists():  # somebody tidied up: what is left open is nobody's
            self._again()
        try:
            return self._refresh(progress, whole)
        except sqlite3.DatabaseError as error:
            self._refuse_if_unwritable(error)
        with self._alone(None):
            self._remove()
        self._again()
        return self._refresh(progress, True)

    def _again(self) -> None:
        """Open the file anew."""
        self._database.close()
        self._database = self._opened()
        self.generation += 1
        self._listed.clear()

    def _refresh(self, progress: Progress | None, whole: bool) -> int:
        began = time.monotonic()
        whole = whole or began - self._looked > self._cost * _SHARE
        with self._alone(progress):
            supervised = cache(lambda sweep: self.root.sweep(sweep).supervised)
            stirred = self._stirred(whole)
            known = self._known() if whole else self._known_at_work(stirred)
            found = {path for name in stirred for path in self._runs_of(name)}
            if not whole:
                found |= {path for path in known if path.partition("/")[0] not in stirred}
            changed = list[Changed]()
            for path in sorted(found):
                one = known.get(path)
                if one is None or entries.mark(f"{self._folder}/{path}", one.mark) != one.mark:
                    changed.append((path, one.live if one else None))
                elif one.live:
                    self._look(one, supervised)
            removed = [one.key for path, one in known.items() if path not in found]
            self._take(changed, known, removed, supervised, progress)
        if whole:
            self._looked, self._cost = time.monotonic(), time.monotonic() - began
        return self.version

    def _take(
        self,
        changed: Sequence[Changed],
        known: Mapping[str, Known],
        removed: Sequence[int],
        supervised: Callable[[str], bool],
        progress: Progress | None,
    ) -> None:
        """Read runs and write them down."""
        waiting = list[Entry]()
        for done, each in enumerate(read_many(self._folder, changed, supervised), start=1):
            if not self._is_as_known(each, known.get(each.path)):
                waiting.append(each)
            if len(waiting) == _CHUNK:
                self._database.write(waiting, removed)
                waiting, removed = [], ()
            if progress:
                progress(done, len(changed))
        if waiting or removed:
            self._database.write(waiting, removed)

    def _is_as_known(self, entry: Entry, one: Known | None) -> bool:
        """Whether a run that was read again because its mark could not be trusted is what it was."""
        if one is None or one.mark[:1] not in ("", entries.UNSURE) or one.mark != entry.mark:
            return False
        (said,) = self.select("key = ?", (one.key,))
        return repr(replace(said, dir="")) == repr(replace(entry.summary, dir=""))

    def _look(self, one: Known, supervised: Callable[[str], bool]) -> None:
        """See whether a run that has not changed still lives."""
        state = seen_state(entries.last_event(one.live or b"{}"), one.sweep, supervised)
        if state != one.state:
            self._database.set_state(one.key, *state)

    def _known(self, where: str = "1", values: Sequence[object] = ()) -> dict[str, Known]:
        rows = self._database.connection.execute(
            "SELECT m.path, m.key, m.mark, m.sweep, m.live, r.status, r.reason "  # noqa: S608  our own conditions
            f"FROM marks m JOIN runs r USING (key) WHERE {where}",
            values,
        )
        known = {}
        for path, key, mark, sweep, live, *state in rows:
            known[path] = Known(key, mark, sweep, live, tuple(state))
        return known

    def _known_at_work(self, experiments: Iterable[str]) -> dict[str, Known]:
        """The runs that have not ended, those of sweeps that are at work, those of some experiments."""
        known = self._known("m.live IS NOT NULL")
        for sweep in self.root.sweeps():
            if sweep.supervised:
                known |= self._known("m.sweep = ?", (sweep.id,))
        for name in experiments:  # "0" comes next after "/"
            known |= self._known("m.path > ? AND m.path < ?", (f"{name}/", f"{name}0"))
        return known

    def _stirred(self, whole: bool) -> set[str]:
        """The experiments whose folders have changed since they were listed; `whole`: all."""
        found = set()
        try:
            folders = [entry for entry in os.scandir(self._folder) if _is_folder(entry)]
        except (FileNotFoundError, NotADirectoryError):
            folders = []
        for entry in folders:
            try:
                changed = entry.stat().st_mtime
            except FileNotFoundError:
                continue
            if whole or self._listed.get(entry.name) != changed:
                found.add(entry.name)
                # A folder's time is coarse: what comes in the moment after the listing must be seen too.
                self._listed[entry.name] = changed if time.time() - changed > entries.COARSE else 0.0
        for name in self._listed.keys() - {entry.name for entry in folders}:
            del self._listed[name]
            found.add(name)
        return found

    def _runs_of(self, experiment: str) -> Iterator[str]:
        """EXPERIMENT/RUN_ID of its runs."""
        # A folder that may not be entered is none of ours: lost+found.
        with (
            suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            os.scandir(f"{self._folder}/{experiment}") as inside,
        ):
            for each in inside:
                if _is_folder(each):
                    yield f"{experiment}/{each.name}"

    @contextmanager
    def _alone(self, progress: Progress | None) -> Iterator[None]:
        """Only one process reads at a time; those that wait tell how far it has come."""
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if progress and (total := sum(1 for name in self._stirred(True) for _ in self._runs_of(name))):
                    progress(min(self.count(), total), total)
                time.sleep(0.05)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    # ------------------------------------------------------------------ asking

    @property
    def version(self) -> int:
        """Grows with each change, by whichever process."""
        (version,) = self._database.connection.execute("SELECT version FROM clock").fetchone()
        return int(version)

    def names(self) -> dict[str, list[str]]:
        """The names of parameters, metrics and tags that any run has had, by kind."""
        rows = self.rows("SELECT kind, name FROM names ORDER BY kind, name")
        return {kind: [str(name) for found, name in rows if found == kind] for kind in KINDS}

    def column(self, kind: str, name: str, part: str = "last") -> str:
        """The column of `runs` for a parameter, metric or tag (`Database.column`)."""
        with self._asked():
            return self._database.column(kind, name, part)

    def count(self, where: str = "1", values: Sequence[object] = ()) -> int:
        """How many runs a condition in SQL holds for."""
        ((count,),) = self.rows(f"SELECT count(*) FROM runs WHERE {where}", values)  # noqa: S608  made by filters
        return int(str(count))

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """What a SELECT over `runs` yields."""
        with self._asked():
            return self._database.connection.execute(sql, values).fetchall()

    def select(
        self, where: str = "1", values: Sequence[object] = (), order: str = "id", limit: int = -1, offset: int = 0
    ) -> list[Summary]:
        """The runs that a condition in SQL holds for.

        Args:
            where: over the columns of `runs`; never anybody's text.
            values: for its question marks.
            order: columns to order by.
            limit: at most so many; -1: all.
            offset: leave out so many.
        """
        columns = ", ".join(f"r.{name}" for name in FIELDS)
        rows: list[Any] = self.rows(
            f"SELECT r.path, {columns}, d.params, d.metrics, d.tags, d.rest FROM "  # noqa: S608
            f"(SELECT key, row_number() OVER (ORDER BY {order}) AS place FROM runs WHERE {where} "
            f"ORDER BY {order} LIMIT ? OFFSET ?) p JOIN runs r USING (key) JOIN details d USING (key) ORDER BY p.place",
            (*values, limit, offset),
        )
        count = len(FIELDS)
        return [summary(str(self.root.path), row[0], row[1 : count + 1], row[count + 1 :]) for row in rows]

    def since(self, version: int) -> list[Summary]:
        """The runs that have changed since a version."""
        return self.select("version > ?", (version,))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it may be an experiment or a run: names that are not UTF-8 are none of ours."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return False
    return entry.name[0] != "." and entry.is_dir()
