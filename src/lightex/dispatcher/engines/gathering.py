"""Asking another program now and then what jobs use, in a thread: the dispatcher never waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from lightex.dispatcher.engine import Usage

_AGAIN = 300.0  # seconds after which one that did not answer is asked again


class Gathering:
    """One question, asked again and again; one answer at most is on its way."""

    def __init__(self) -> None:
        """Nothing is asked before `news`."""
        self._thread = ThreadPoolExecutor(1, "lx-usage")
        self._asked: Future[Mapping[str, Usage] | None] | None = None
        self._untold: dict[str, Usage] = {}  # each job is asked about at moments of its own, not all at once
        self._due = 0.0

    def news(
        self, question: Callable[[], Mapping[str, Usage] | None], every: float, wanted: Iterable[str]
    ) -> Mapping[str, Usage]:
        """What was gathered of some jobs since each of them was told of last; mostly nothing.

        Args:
            question: gives what each job uses, or None where nobody answers; called in the thread, if it is time.
            every: seconds between two questions.
            wanted: the jobs.
        """
        now = time.monotonic()
        if self._asked is None and now >= self._due:
            self._due = now + every
            self._asked = self._thread.submit(question)
        if self._asked is not None and self._asked.done():
            done, self._asked = self._asked, None
            answer = None if done.exception() else done.result()  # no sample is a reason to end a dispatcher
            if answer is None:
                self._due = now + _AGAIN
            self._untold = {job: replace(usage, at=now) for job, usage in (answer or {}).items()}
        return {job: self._untold.pop(job) for job in wanted if job in self._untold}

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
