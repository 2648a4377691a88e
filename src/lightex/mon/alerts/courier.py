"""Bringing notices to one target: those of a few seconds together, again with growing pauses while it is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from lightex.mon.alerts.notice import MOST, Notice, joined
from lightex.mon.alerts.services import Send

_GATHER = 2.0  # seconds for which further notices are waited for
_PAUSES = (10.0, 600.0)  # seconds after the first failure; each further one waits twice as long, up to the last


class Courier:
    """A thread for one target, so that one that hangs holds up no other one, nor whoever looks."""

    def __init__(
        self,
        name: str,
        send: Send,
        sent: Callable[[Sequence[Notice], str], None],
        say: Callable[[str], None],
        gather: float = _GATHER,
        pauses: tuple[float, float] = _PAUSES,
    ) -> None:
        """Begin.

        Args:
            name: of the target.
            send: sends to it.
            sent: told of notices that it has got.
            say: told in words what happens.
            gather: seconds for which further notices are waited for.
            pauses: seconds after the first failure, and at most.
        """
        self._name, self._send, self._sent, self._say = name, send, sent, say
        self._gather, self._pauses = gather, pauses
        self._waiting: list[Notice] = []
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"lx-alert {name}", daemon=True)
        self._thread.start()

    def put(self, notice: Notice) -> None:
        """Have it told."""
        with self._changed:
            self._waiting.append(notice)
            self._changed.notify_all()

    def close(self, until: float) -> None:
        """Send once more what waits, and end; what does not get through by then is left to the next watcher.

        Args:
            until: a time of the monotonic clock; no more notices may be put.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(lambda: self._closing, timeout=pause or self._gather)
                batch, closing = self._waiting[:MOST], self._closing
            if not batch:
                return
            reason = self._send(joined(batch))
            if reason is None:
                self._sent(batch, self._name)
                with self._changed:
                    del self._waiting[: len(batch)]
                pause = 0.0
                for each in batch:
                    self._say(f"told {self._name}: {each.title}")
                continue
            if closing:
                self._say(f"{self._name} was not told of {len(batch)}, the next watcher will: {reason}")
                return
            pause = min(self._pauses[1], pause * 2 or self._pauses[0])
            self._say(f"{self._name} cannot be told: {reason}; again in {pause:.0f} s")
