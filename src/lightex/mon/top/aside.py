"""A thread that answers one question after another, and keeps nobody from leaving."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """One thread. An executor's is waited for at the end: a file server that hangs would hold the terminal."""

    def __init__(self, name: str) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def ask(self, work: Callable[[], T]) -> T:
        """What a call returns, or raises. It is made also where who asked has left meanwhile."""
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()  # it cannot be taken back
        self._asked.put((work, answer))
        return await asyncio.wrap_future(answer)

    def close(self) -> None:
        """Let it end after what was asked."""
        self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            work, answer = asked
            try:
                answer.set_result(work())
            except Exception as error:  # noqa: BLE001  it is raised where it was asked for
                answer.set_exception(error)


async def aside(work: Callable[[], T]) -> T:
    """What a call returns, made in a thread of its own."""
    thread = Aside("lx-aside")
    try:
        return await thread.ask(work)
    finally:
        thread.close()
