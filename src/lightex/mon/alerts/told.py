"""What was told, and what is still to be: ROOT/.alerts/told.jsonl, kept by the one watcher of a folder of runs.

A notice is noted down before it is sent, and again when it was: a watcher that is killed in between sends it once more.
So nothing is lost, and at most what was being sent is told twice.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from lightex.core import journal
from lightex.core.errors import StorageError
from lightex.core.journal import Record
from lightex.core.liveness import host
from lightex.core.root import Root, claimed
from lightex.mon.alerts.notice import Notice

_LARGE = 1 << 20  # bytes from which on it is written anew when it is opened
_KEPT = 90 * 86400.0  # seconds for which it is known then that something was told


class Told:
    """The journal. It is changed by the thread that looks and by those that send."""

    def __init__(self, root: Root, say: Callable[[str], None]) -> None:
        """Nothing is opened before `claim`.

        Args:
            root: the folder of runs.
            say: told of a journal that cannot be written.
        """
        self._folder = root.path / ".alerts"
        self.path = self._folder / "told.jsonl"
        self._say = say
        self._lock: int | None = None
        self._guard = threading.Lock()
        self._keys: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self._pending: dict[str, tuple[Notice, set[str]]] = {}
        self._unwritten: list[Record] = []
        self._count = 0

    def claim(self) -> bool:
        """Become the one watcher, until `release` or the end of the process; False: another one is.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self._lock is not None:
            return True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = claimed(self._folder / "lock")
        except OSError as error:
            raise journal.cannot_write(self._folder, error) from error
        if self._lock is None:
            return False
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{host()}, process {os.getpid()}".encode(), 0)
        self.read()
        self._tidy()
        return True

    def release(self) -> None:
        """Let another one watch."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def holder(self) -> str:
        """Who watches, or was the last to."""
        try:
            return (self._folder / "lock").read_text() or "another process"
        except OSError:
            return "another process"

    def read(self) -> None:
        """Take in what is noted down (`claim` does)."""
        with self._guard:
            self._keys, self._begun, self._pending = {}, {}, {}
            for record in journal.read(self.path):
                self._take(record)

    def _take(self, record: Record) -> None:
        at = float(record.get("time") or 0)
        if isinstance(rule := record.get("begin"), str):
            self._begun[rule] = at
            self._keys |= {str(key): at for key in record.get("keys") or ()}
        elif isinstance(about := record.get("notice"), dict):
            notice = Notice(**about | {"keys": tuple(about["keys"]), "to": tuple(about["to"])})
            self._keys |= dict.fromkeys(notice.keys, at)
            if notice.to:
                self._pending[notice.id] = (notice, set(notice.to))
        elif isinstance(ids := record.get("sent"), list):
            for each in ids:
                if each in self._pending:
                    self._pending[each][1].discard(str(record.get("to")))
                    if not self._pending[each][1]:
                        del self._pending[each]
        elif isinstance(key := record.get("clear"), str):
            self._keys.pop(key, None)

    # ------------------------------------------------------------------ asked

    def knows(self, key: str) -> bool:
        """Whether it was told, or is about to be."""
        return key in self._keys

    def begun(self, rule: str) -> float | None:
        """Since when a rule is looked for, by its key, in UTC seconds since the epoch; None: it is new."""
        return self._begun.get(rule)

    def pending(self) -> list[tuple[Notice, str]]:
        """What is still to be told, and to whom, in order."""
        with self._guard:
            return [(notice, name) for notice, left in self._pending.values() for name in notice.to if name in left]

    # ------------------------------------------------------------------ changed

    def begin(self, rule: str, keys: Sequence[str], now: float) -> None:
        """A rule is new: what has happened already (its keys) is not told."""
        self._add({"time": now, "begin": rule, "keys": list(keys)})

    def note(self, title: str, body: str, kind: str, keys: Sequence[str], to: Sequence[str], now: float) -> Notice:
        """Something is to be told; where the disk is full it is told all the same, and noted down later."""
        self._count += 1
        notice = Notice(f"{time.time_ns()}-{self._count}", title, body, kind, tuple(keys), tuple(to))
        self._add({"time": now, "notice": vars(notice)})
        return notice

    def sent(self, notices: Sequence[Notice], to: str, now: float) -> None:
        """Somebody was told."""
        self._add({"time": now, "sent": [each.id for each in notices], "to": to})

    def clear(self, key: str, now: float) -> None:
        """It is over: should it come back, that is told again."""
        self._add({"time": now, "clear": key})

    def _add(self, record: Record) -> None:
        with self._guard:
            self._take(record)
            self._unwritten.append(record)
            try:
                journal.append(self.path, *self._unwritten)
            except StorageError as error:
                if len(self._unwritten) == 1:
                    self._say(f"{error.message}; were it started again, it would tell some things again")
            else:
                self._unwritten.clear()

    def _tidy(self) -> None:
        """Cut off what a killed watcher left of a line; of a long journal, keep what matters."""
        try:
            descriptor = journal.open_for_append(self.path)
            try:
                journal.cut_torn_line(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > _LARGE:
                self._shorten()
        except OSError as error:
            self.release()
            raise journal.cannot_write(self.path, error) from error

    def _shorten(self) -> None:
        oldest = time.time() - _KEPT
        by_time: dict[float, list[str]] = {}
        for key, at in self._keys.items():
            if at > oldest:
                by_time.setdefault(at, []).append(key)
        records: list[dict[str, Any]] = [{"time": at, "begin": rule, "keys": []} for rule, at in self._begun.items()]
        records += [{"time": at, "notice": _known(keys)} for at, keys in by_time.items()]
        records += [
            {"time": time.time(), "notice": vars(one) | {"to": sorted(to)}} for one, to in self._pending.values()
        ]
        staged = self.path.with_name(".told.part")
        staged.write_bytes(b"".join(map(journal.encode, records)))
        staged.replace(self.path)
        self.read()


def _known(keys: list[str]) -> dict[str, Any]:
    """A notice that nobody is to be told any more."""
    return vars(Notice("", "", "", "info", tuple(keys), ()))
