"""What a supervisor has to do with one Ray: orders to send, wishes to pass on, states to hear; also when it is away."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.rundir import CANCELLED, LOST, SUBMITTED
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.rayside.link import BrokenError, Link
from lightex.dispatcher.engines.rayside.place import LOCAL

_AGAIN = 1.0  # seconds between two tries to reach what is away
_GONE = 120.0  # seconds without an answer after which a cluster is given up: its nodes end themselves after 60
_PATIENCE = 10.0  # the same for a job that was to be killed
_FORCE_AGAIN = 5.0  # seconds between two wishes to kill the same job


class Channel:
    """The dealings with one Ray. Nothing here raises where it is away: that shows in the states."""

    def __init__(self, place: str) -> None:
        self.link = Link(place)
        self._orders: dict[str, dict[str, Any]] = {}  # not sent yet, by name
        self._sent: dict[int, dict[str, dict[str, Any]]] = {}  # not answered yet, by the question's number
        self._watched: set[str] = set()
        self._wishes: dict[str, bool] = {}  # not sent yet: whether to kill it, by name
        self._killed: dict[str, float] = {}  # when that was last wished
        self._kill_since: dict[str, float] = {}
        self._states: dict[str, JobState] = {}  # known without asking
        self._away_since: float | None = None
        self._said: dict[str, str] = {}  # why it is away, by the job that this was said of
        self._why_away = ""
        self._tried = 0.0

    def order(self, order: dict[str, Any]) -> None:
        """Have a job started."""
        self._orders[order["name"]] = order

    def end(self, name: str, force: bool) -> None:
        """Have a job ended."""
        if self._orders.pop(name, None):
            self._states[name] = JobState(CANCELLED, "cancelled", "it was ended before it had started")
        elif not force:
            self._wishes.setdefault(name, False)
        elif time.monotonic() - self._killed.get(name, float("-inf")) > _FORCE_AGAIN:
            now = time.monotonic()
            self._killed[name] = now
            self._kill_since.setdefault(name, now)
            self._wishes[name] = True
        if self.link.is_open:
            with suppress(BrokenError):  # it shows when it is listened to
                self._send_wishes()

    def forget(self, name: str) -> None:
        """Its end has been noted down."""
        for known in (self._killed, self._kill_since, self._wishes, self._states):
            known.pop(name, None)
        self._watched.discard(name)
        self.link.used.pop(name, None)
        if self.link.is_open:
            with suppress(BrokenError):
                self.link.tell("forget", names=[name])

    def sync(self, names: Collection[str]) -> None:
        """Send what is to be sent, and have these jobs watched."""
        if not self._is_up(names):
            return
        try:
            if self._orders:
                sent, self._orders = self._orders, {}
                self._sent[-1] = sent  # until there is a number
                self._sent[self.link.tell("take", orders=list(sent.values()))] = self._sent.pop(-1)
            if new := [name for name in names if name not in self._watched]:
                self._watched |= set(new)
                self.link.tell("watch", names=new)
            self._send_wishes()
        except BrokenError as error:
            self._lose(error)

    def _send_wishes(self) -> None:
        for force in (False, True):
            if wished := [name for name, wish in self._wishes.items() if wish is force]:
                self.link.tell("end", names=wished, force=force)
                self._wishes = {name: wish for name, wish in self._wishes.items() if wish is not force}

    def hear(self, names: Collection[str], wait: float) -> dict[str, JobState]:
        """What has changed of these jobs; waits for it where there is a connection."""
        try:
            if self.link.is_open:
                self.link.listen(0.0 if self.link.news or self._states else wait)
        except BrokenError as error:
            self._lose(error)
        self._hear_answers()
        news, self.link.news = self.link.news, {}
        known = {name: JobState(**state) for name, state in news.items()}
        known |= {name: self._states.pop(name) for name in list(self._states) if name in names}
        if self._away_since is not None:
            known |= self._while_away(names)
        return {name: state for name, state in known.items() if name in names}

    def close(self) -> None:
        """Pass on what is left to be said, and take leave."""
        self.sync(())
        self.link.leave()

    def _is_up(self, names: Collection[str]) -> bool:
        if self.link.is_open:
            return True
        now = time.monotonic()
        if now - self._tried < _AGAIN:
            return False
        self._tried = now
        unsent = bool(self._orders or self._sent)
        if self.link.place == LOCAL and not unsent and not self.link.lives:  # it has ended, and all in it
            kept = self.link.kept(names)
            gone = JobState(LOST, "lost", "the Ray that lx had started on this machine was ended, and it with it")
            self._states |= {name: JobState(**kept[name]) if name in kept else gone for name in names}
            self._wishes.clear()
            return False
        if not names and not unsent and not self._wishes:
            return False
        try:
            self.link.open()
        except LightexError as error:
            self._lose(error)
            return False
        self._away_since = None
        self._said.clear()
        self._watched.clear()
        for sent in self._sent.values():  # nobody has said that these have arrived; a second time does no harm
            self._orders = {**sent, **self._orders}
        self._sent.clear()
        return True

    def _lose(self, error: LightexError) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
        self._why_away = error.message

    def _while_away(self, names: Iterable[str]) -> dict[str, JobState]:
        now, since = time.monotonic(), self._away_since or 0.0
        unsent = {*self._orders, *(name for sent in self._sent.values() for name in sent)}
        states = {}
        for name in names:
            if name in unsent and self._said.get(name) != self._why_away:
                self._said[name] = self._why_away
                states[name] = JobState(SUBMITTED, reason=self._why_away)
            elif name in unsent:
                continue
            elif now - since > _GONE or now - self._kill_since.get(name, now) > _PATIENCE:
                states[name] = JobState(LOST, "lost", f"{self._why_away}, for {now - since:.0f} s")
        return states

    def _hear_answers(self) -> None:
        for number, words in self.link.answered().items():
            orders = self._sent.pop(number, None)
            if orders and words:
                self._states |= {name: JobState("FAILED", "launch", words) for name in orders}
