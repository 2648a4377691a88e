"""A thread that answers one question after another, and keeps nobody from leaving."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Asked = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Aside:
    """One thread. An executor's is waited for at the end: a file server that hangs would hold the terminal."""

    def __init__(self, name: str) -> None:
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def ask(self, work: Callable[[], T]) -> T:
        """What a call returns, or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._asked.put((work, future, loop))
        return await future

    def close(self) -> None:
        """Let it end after what was asked."""
        self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            work, future, loop = asked
            try:
                tell, found = future.set_result, work()
            except Exception as error:  # noqa: BLE001  it is raised where it was asked for
                tell, found = future.set_exception, error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_answer, future, tell, found)


def _answer(future: asyncio.Future[Any], tell: Callable[[Any], None], found: Any) -> None:
    if not future.done():
        tell(found)


async def aside(work: Callable[[], T]) -> T:
    """What a call returns, made in a thread of its own."""
    thread = Aside("lx-aside")
    try:
        return await thread.ask(work)
    finally:
        thread.close()
