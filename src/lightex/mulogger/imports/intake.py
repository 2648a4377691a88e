"""Runs of a peer become run directories: each once, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core import journal
from lightex.core.errors import LightexError, StorageError, one_line
from lightex.core.journal import Record
from lightex.core.root import Root, claimed, letters, run_id
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, QUEUED, RUNNING, RunDir
from lightex.mulogger.imports.desk import Desk, quiet, text
from lightex.mulogger.imports.foreign import Foreign, Peer, Story
from lightex.mulogger.names import fit

_FAILURES = 5  # in a row: then it is the store that fails, and each further run would wait for its own timeout
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # writing to an open file names no file
_CAUSES = {CANCELLED: "cancelled", LOST: "lost"}  # why a run failed, no peer tells but by its exit code


@dataclass
class Taken:
    """What an import has done so far.

    Attributes:
        imported: runs that are new here.
        updated: runs that had gone on at the peer since.
        skipped: how many were here already.
        failed: names of runs that could not be read, and why.
        left_out: what run directories have no place for, and how often it was met.
        gave_up: whether so many failed in a row that the rest was not tried.
    """

    imported: list[RunDir] = field(default_factory=list)
    updated: list[RunDir] = field(default_factory=list)
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    gave_up: bool = False

    @property
    def groups(self) -> list[str]:
        """The first parts of the new runs' short ids: one for each experiment that they come from."""
        return list(dict.fromkeys(run.short_id.partition("-")[0] for run in self.imported + self.updated))


class Intake:
    """Brings the runs of a peer under a root. One at a time works on a root; `taken` tells how far it has got.

    Args:
        root: where to.
        peer: where from.
        tell: shows people what is being done.
    """

    def __init__(self, root: Root, peer: Peer, tell: Callable[[str], None] = quiet) -> None:
        self.root, self.peer, self.tell = root, peer, tell
        self.taken = Taken()
        self._work = root.path / ".import"
        self._known: dict[str, dict[str, RunDir]] = {}  # group -> id there -> run
        self._names: dict[str, set[str]] = {}  # group -> short ids
        self._there: dict[str, list[RunDir]] = {}

    def bring(self) -> Taken:
        """Take all that is new. What is interrupted leaves no half run; the next one goes on where it was.

        Raises:
            LightexError: the store cannot be read, or another import is at work on the root.
            StorageError: the root cannot be written.
        """
        lock = self._claim()
        try:
            for run in self.root.runs():
                self._there.setdefault(_group_of(run), []).append(run)
            failures = 0
            for foreign in self.peer.runs():
                failures = 0 if self._take(foreign) else failures + 1
                if failures == _FAILURES:
                    self.taken.gave_up = True
                    break
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
            with suppress(OSError):  # a root that nothing came into is not left behind
                self.root.path.rmdir()
            os.close(lock)
        return self.taken

    def _claim(self) -> int:
        """Hold the lock of the root; what an import that was killed had begun is taken back."""
        path = self._work / "lock"
        try:
            while True:
                self._work.mkdir(parents=True, exist_ok=True)
                lock = claimed(path)
                if lock is None:
                    raise LightexError(
                        f"another lx import is at work on {self.root.path}", "wait for its end, then try again"
                    )
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), path.stat()):
                        break
                os.close(lock)  # the one that held it has just taken it away
            shutil.rmtree(self._work / "run", ignore_errors=True)
            if (before := RunDir(self._work / "old")).path.exists():
                _put_back(before, self.root)
        except OSError as error:
            raise journal.cannot_write(self._work, error) from error
        return lock

    def _take(self, foreign: Foreign) -> bool:
        group = group_of(self.peer, foreign.series)
        old = self._known_in(group).get(text(foreign.id))
        if old is not None and old.identity["imported"].get("mark") == foreign.mark:
            self.taken.skipped += 1
            return True
        self.tell(f"{foreign.experiment}: {foreign.name}")
        try:
            run = self._make(foreign, group, old)
        except StorageError:  # it is the root that fails
            raise
        except Exception as error:  # noqa: BLE001  whatever a peer's library raises is its own, and costs one run
            self.taken.failed.append((foreign.name, one_line(error)))
            return False
        self._known[group][text(foreign.id)] = run
        (self.taken.imported if old is None else self.taken.updated).append(run)
        return True

    def _known_in(self, group: str) -> dict[str, RunDir]:
        """The runs that came from there, by their ids there."""
        if group not in self._known:
            found = self._known[group] = {}
            self._names[group] = {run.short_id for run in self._there.get(group, [])}
            for run in self._there.get(group, []):
                with suppress(StorageError):  # a broken one is no obstacle to the others
                    came = run.identity.get("imported") or {}
                    if (came.get("from"), came.get("uri")) == (self.peer.name, text(self.peer.uri)):
                        found[str(came.get("id"))] = run
        return self._known[group]

    def _make(self, foreign: Foreign, group: str, old: RunDir | None) -> RunDir:
        folder = self._work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with Desk(folder, lambda line: self.tell(f"{foreign.experiment}: {foreign.name}  {line}")) as desk:
                story = foreign.read(desk)
            if not desk.output.exists():
                desk.output.touch()
            self.taken.left_out += desk.left_out
            path = old.path if old is not None else self._path(foreign, group, story)
            return self._appear(path, folder, self._identity(path, foreign, story), _events(story), old)
        except OSError as error:
            if error.errno in _NO_ROOM or str(error.filename or "").startswith(str(self.root.path)):
                raise journal.cannot_write(self.root.path, error) from error
            raise  # it is the peer's file, or its server

    def _path(self, foreign: Foreign, group: str, story: Story) -> Path:
        """A place of its own; the name that people know is part of it."""
        name = re.sub(r"[^\w.]+", "_", foreign.name)[:40].strip("._") or "run"
        tail = f"{group}-{name}"
        if tail in self._names[group]:
            tail += f".{_letters(foreign.id, 6)}"
        self._names[group].add(tail)
        return self.root.path / _experiment(foreign.experiment) / run_id(story.created, tail)

    def _identity(self, path: Path, foreign: Foreign, story: Story) -> dict[str, Any]:
        came = {"from": self.peer.name, "uri": text(self.peer.uri), "id": text(foreign.id), "name": text(foreign.name),
                "experiment": text(foreign.experiment), "mark": foreign.mark, "time": time.time()}  # fmt: skip
        return {
            "id": path.name,
            "experiment": path.parent.name,
            "engine": self.peer.name,
            **{key: value for key, value in story.identity.items() if value is not None},
            "created": story.created,
            "imported": came,
        }

    def _appear(
        self, path: Path, folder: Path, identity: dict[str, Any], events: list[Record], old: RunDir | None
    ) -> RunDir:
        """Make the run, in the place of what was imported of it before."""
        half = path.with_name(f".{path.name}.part")
        shutil.rmtree(half, ignore_errors=True)  # of one that was killed here
        before = self._work / "old"

        def fill(run: RunDir) -> None:
            for item in folder.iterdir():
                item.rename(run.path / item.name)
            journal.append(run.events_file, *events[1:])
            if old is not None:
                _keep_what_came_since(before, run.path)

        if old is not None:
            path.rename(before)
        try:
            run = RunDir.create(path, identity, {}, events[0], fill)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            if old is not None:
                before.rename(path)
            raise
        shutil.rmtree(before, ignore_errors=True)
        return run


def group_of(peer: Peer, series: str) -> str:
    """What the short ids of all runs of one experiment of a store begin with. A sweep's id is one letter shorter."""
    return _letters("\0".join((peer.name, peer.uri, series)), 5)


def _group_of(run: RunDir) -> str:
    return run.short_id.partition("-")[0]


def _put_back(before: RunDir, root: Root) -> None:
    """A run that was about to be replaced when its import was killed stands in its place again."""
    place = root.path / str(before.identity["experiment"]) / str(before.identity["id"])
    if place.exists():
        shutil.rmtree(before.path)
    else:
        before.path.rename(place)


def _keep_what_came_since(before: Path, path: Path) -> None:
    """What people put beside an imported run stays; how far its loggers got counts bytes of the former records."""
    for item in before.iterdir():
        if item.name == "sinks" or (path / item.name).exists():
            continue
        copy = shutil.copytree if item.is_dir() else shutil.copy2
        copy(item, path / item.name)


def _events(story: Story) -> list[Record]:
    begun: Record = {"time": story.created, "state": QUEUED if story.status == QUEUED else RUNNING, "attempt": 1}
    if story.status not in ENDED:
        return [begun]
    ended = story.ended if story.ended is not None else story.created
    end: Record = {"time": ended, "attempt": 1, "state": story.status}
    if story.reason:
        end["reason"] = text(story.reason)
    if cause := "exit" if story.status == FAILED and story.exit_code else _CAUSES.get(story.status):
        end["cause"] = cause
    if story.exit_code is not None:
        end["exit_code"] = story.exit_code
    if story.ended is not None:
        end["duration"] = max(0.0, round(ended - story.created, 3))
    return [begun, end]


def _experiment(name: str) -> str:
    """The name of an experiment as that of a folder, which is not hidden."""
    return fit(name if not name.startswith(".") else f"_{name}", r"\w.\-", 60)


def _letters(of: str, count: int) -> str:
    return letters(hashlib.sha256(of.encode("utf-8", "surrogatepass")).digest()[:count])
