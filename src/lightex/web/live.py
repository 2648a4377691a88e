"""The index of a running server: asked in one thread, kept up to date, and whoever watches is told of changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lightex.core.index import Index
from lightex.core.root import Root

T = TypeVar("T")

_LOOK = 0.5  # seconds between two looks at the runs: with looking and asking, what a page shows is a second old at most
_BEAT = 15.0  # seconds after which a silent stream says that it lives: proxies cut silent ones


class Live:
    """An index for the handlers of requests."""

    def __init__(self, root: Root) -> None:
        """Nothing is opened before `open`."""
        self.root = root
        self._thread = ThreadPoolExecutor(1, "lx-index")  # an index belongs to one thread
        self._index: Index | None = None
        self._looked, self._version, self._whole = 0.0, 0, False
        self._watchers: set[asyncio.Event] = set()
        self._beats = 0
        self._leaving = False

    def open(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Open the index and read what is new.

        Raises:
            StorageError: there is no place for an index.
        """
        self._index = self._thread.submit(Index, self.root, progress).result()
        self._looked = time.monotonic()

    def close(self) -> None:
        """Let go of it."""
        if self._index:
            self._thread.submit(self._index.close).result()
        self._thread.shutdown()

    async def ask(self, question: Callable[[Index], T]) -> T:
        """What the index answers, a second old at most."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question)

    def _ask(self, question: Callable[[Index], T]) -> T:
        if self._index is None:
            raise RuntimeError("the index is not open")
        if time.monotonic() - self._looked >= _LOOK:
            whole, self._whole = self._whole, False
            self._version = self._index.refresh(whole=whole)
            self._looked = time.monotonic()
        return question(self._index)

    def look(self, whole: bool = True) -> None:
        """Have the next question look anew; `whole`: at all runs, since one that has ended has been changed."""
        self._looked, self._whole = 0.0, self._whole or whole

    def leave(self) -> None:
        """End all streams: the server is about to."""
        self._leaving = True
        for watcher in self._watchers:
            watcher.set()

    async def run(self) -> None:
        """Look at the runs again and again while somebody watches, and tell of changes; ends when it is cancelled."""
        told = 0
        while True:
            await asyncio.sleep(_LOOK)
            if not self._watchers:
                continue
            self._looked = 0.0  # timers are some milliseconds early now and then
            version, running = await self.ask(lambda index: (index.version, index.count("status = 'RUNNING'")))
            self._beats += bool(running)
            if version != told or running:
                told = version
                for watcher in self._watchers:
                    watcher.set()

    async def changes(self) -> AsyncIterator[str]:
        """The version as server-sent events, when it grows; else a `beat` with each look while something runs.

        See https://html.spec.whatwg.org/multipage/server-sent-events.html.
        """
        watcher, beats = asyncio.Event(), self._beats
        self._watchers.add(watcher)
        try:
            told = await self.ask(lambda index: index.version)
            yield f"data: {told}\n\n"
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watcher.wait(), _BEAT)
                if self._leaving:
                    return
                if not watcher.is_set():
                    yield ": alive\n\n"
                    continue
                watcher.clear()
                version = await self.ask(lambda index: index.version)
                if version != told:
                    told = version
                    yield f"data: {version}\n\n"
                elif beats != self._beats:
                    yield f"event: beat\ndata: {self._beats}\n\n"
                beats = self._beats
        finally:
            self._watchers.discard(watcher)
