"""Asking another program now and then what jobs use, in a thread: the dispatcher never waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from lightex.dispatcher.engine import Usage

_AGAIN = 300.0  # seconds after which one that did not answer is asked again


class Gathering:
    """One question, asked again and again; one answer at most is on its way."""

    def __init__(self) -> None:
        """Nothing is asked before `news`."""
        self._thread = ThreadPoolExecutor(1, "lx-usage")
        self._asked: Future[Mapping[str, Usage] | None] | None = None
        self._due = 0.0

    def news(self, question: Callable[[], Mapping[str, Usage] | None], every: float) -> Mapping[str, Usage]:
        """What was gathered since the last time; mostly nothing.

        Args:
            question: gives what each job uses, or None where nobody answers; called in the thread, if it is time.
            every: seconds between two questions.
        """
        now = time.monotonic()
        if self._asked is None and now >= self._due:
            self._due = now + every
            self._asked = self._thread.submit(question)
        if self._asked is None or not self._asked.done():
            return {}
        done, self._asked = self._asked, None
        answer = done.result()
        if answer is None:
            self._due = now + _AGAIN
        return answer or {}

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
