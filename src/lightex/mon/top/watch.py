"""Looking at the runs, once a second, in the one thread that has the index."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from lightex.core.errors import StorageError
from lightex.core.index import Index
from lightex.core.machine import Machine
from lightex.core.naming import label
from lightex.core.root import Root
from lightex.core.rundir import RUNNING, RunDir
from lightex.core.summary import Summary, Why
from lightex.mon.progress import Progress, progress_of
from lightex.mon.state import EVERYTHING, Condition, Picture, last_usage, picture
from lightex.mon.top.aside import Aside

T = TypeVar("T")

_PARTING = 2.0  # seconds that closing the index may take


@dataclass(frozen=True)
class Given:
    """What `lx top` is about, and what it is told by others.

    Attributes:
        root: the folder of runs.
        machine: tells what this machine is like now.
        why: explains a run.
        within: which runs it is about.
        named: the same in words; empty: all.
    """

    root: Root
    machine: Callable[[], Machine]
    why: Callable[[RunDir], Why]
    within: Condition = EVERYTHING
    named: str = ""


@dataclass(frozen=True)
class Wish:
    """What is wanted of a look.

    Attributes:
        word: only runs that show it; empty: all.
        sweep: only runs of it; empty: all.
        run: the id of the run that is looked at closely; empty: none.
    """

    word: str = ""
    sweep: str = ""
    run: str = ""


@dataclass(frozen=True)
class Close:
    """A run that is looked at closely.

    Attributes:
        run: the run.
        progress: how far it is.
        usage: what it uses.
        lines: the last of its output.
    """

    run: Summary
    progress: Progress | None
    usage: dict[str, Any]
    lines: list[str]


@dataclass(frozen=True)
class Sight:
    """What a look has found: the wish it was for, everything, this machine, the run that was asked for."""

    wish: Wish
    picture: Picture
    machine: Machine
    close: Close | None


class Watch:
    """The index, in a thread of its own."""

    def __init__(self, given: Given, progress: Callable[[int, int], None]) -> None:
        """Nothing is opened before the first look.

        Args:
            given: what it is about.
            progress: told, in the thread, how far a long reading has come.
        """
        self._given, self._progress = given, progress
        self._thread = Aside("lx-index")
        self._index: Index | None = None
        self._leaving = False

    async def look(self, wish: Wish) -> Sight:
        """What there is to see now.

        Raises:
            StorageError: the index cannot be kept, or is broken and will be made anew.
        """
        return await self._thread.ask(lambda: self._look(wish))

    async def ask(self, question: Callable[[Index], T]) -> T:
        """What the index answers, as of now.

        Raises:
            StorageError: as `look` does.
        """
        return await self._thread.ask(lambda: question(self._fresh()))

    async def close(self) -> None:
        """Let go of the index; a long reading is given up."""
        self._leaving = True
        with suppress(TimeoutError):  # a file server hangs: the thread dies with the process
            await asyncio.wait_for(self._thread.ask(self._shut), _PARTING)
        self._thread.close()

    def _shut(self) -> None:
        if self._index:
            self._index.close()
            self._index = None

    def _fresh(self) -> Index:
        if self._leaving:
            raise StorageError("given up")
        if self._index is None:
            self._index = Index(self._given.root, self._told)
        else:
            self._index.refresh(self._told, whole=False)
        return self._index

    def _told(self, done: int, total: int) -> None:
        if self._leaving:
            raise StorageError("given up")
        self._progress(done, total)

    def _look(self, wish: Wish) -> Sight:
        index = self._fresh()
        within = self._given.within
        if wish.sweep:
            within = f"({within[0]}) AND sweep = ?", (*within[1], wish.sweep)
        now = time.time()
        seen = picture(index, now, within, keep=kept_by(wish.word))
        return Sight(wish, seen, self._given.machine(), _close(index, wish.run, now) if wish.run else None)


def kept_by(word: str) -> Callable[[Summary], bool] | None:
    """Whether a run shows a word: in its id, experiment, state, what varies, where it is, why it ended; tags."""
    if not word:
        return None
    sought = word.lower()

    def keep(run: Summary) -> bool:
        tags = " ".join(f"{name}={value}" for name, value in run.tags.items())
        texts = (run.id, run.experiment, run.status, label(run.varied), run.config_name, run.node, run.reason, tags)
        return sought in " ".join(text for text in texts if text).lower()

    return keep


def _close(index: Index, run_id: str, now: float) -> Close | None:
    found = index.select("id = ?", (run_id,))
    if not found:
        return None
    run = found[0]
    at_work = run.status == RUNNING
    lines = RunDir(run.dir).last_output(16384)
    return Close(run, progress_of(run, now) if at_work else None, last_usage(run, now) if at_work else {}, lines)
