"""The watcher of alerts, made of what its parts need: rules, who is told, the language of filters."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightex.core.errors import LightexError
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.mon.alerts.rules import load
from lightex.mon.alerts.services import service
from lightex.mon.alerts.targets import targets
from lightex.mon.alerts.watch import Watcher
from lightex.qviz.filters import check
from lightex.qviz.runs import select

if TYPE_CHECKING:
    from lightex.mon.alerts.rules import Alerts


def watcher(root: Root, path: Path, say: Callable[[str], None]) -> tuple[Watcher, Alerts]:
    """A watcher, and its rules.

    Args:
        root: the folder of runs.
        path: of the rules.
        say: told in words what happens.

    Raises:
        LightexError: the rules are not valid, a variable is not set, Apprise is missing.
    """
    alerts = load(path, check)
    who = targets(alerts, os.environ)
    services = {target.name: service(target) for target in who.values()}
    return Watcher(root, alerts, who, services, _holds, say), alerts


class Alerting:
    """The watcher by the rules that a file has now: what is changed is read anew; what is broken changes nothing."""

    def __init__(self, root: Root, path: Path, say: Callable[[str], None]) -> None:
        """Nothing is read before `start` or the first look.

        Args:
            root: the folder of runs.
            path: of the rules.
            say: told in words what happens.
        """
        self.address = ""  # of `lx ui`, for links, where the rules name none
        self._root, self._path, self._say = root, path, say
        self._watcher: Watcher | None = None
        self._closing: threading.Thread | None = None
        self._stamp: tuple[int, int] | None = None
        self._wrong = ""

    def start(self) -> bool:
        """Read the rules, and become the one watcher of the folder; False: there is another, until that has ended.

        Raises:
            LightexError: as `watcher` does; the rules stay as they were.
        """
        self._stamp = self._stamped()
        made, alerts = watcher(self._root, self._path, self._say)
        if self._watcher:  # in a thread: it waits for whom it is telling; the new one watches when that has ended
            self._closing = threading.Thread(target=self._watcher.close)
            self._closing.start()
        self._watcher = made
        count = len(alerts.rules)
        self._say(f"{count} rule{'s' * (count != 1)} of {alerts.path}")
        return made.claim()

    @property
    def holder(self) -> str:
        """Who watches instead."""
        return self._watcher.holder if self._watcher else ""

    @property
    def wants(self) -> bool:
        """Whether there is something to look for, or new to be read."""
        return self._watcher is not None or self._stamped() != self._stamp

    def look(self, index: Index) -> None:
        """Look once, by the rules as they are now.

        Args:
            index: of the same root, brought up to date.
        """
        stamp = self._stamped()
        if stamp != self._stamp and stamp is not None:
            try:
                self.start()
            except LightexError as error:
                rest = ("the rules from before go on",) if self._watcher else ()
                self._say(". ".join((error.message, *error.details, *rest)))
        if self._watcher:
            self._watcher.address = self._watcher.address or self.address
            self._watcher.look(index)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Around a look: what goes wrong is said, once while it stays the same."""
        try:
            yield
            self._wrong = ""
        except Exception as error:  # noqa: BLE001  nobody would miss a watcher that has ended
            if str(error) != self._wrong:
                self._wrong = str(error)
                self._say(f"cannot look: {self._wrong}")

    def close(self) -> None:
        """Send what waits, and let another one watch."""
        if self._closing:
            self._closing.join()
        if self._watcher:
            self._watcher.close()
            self._watcher = None

    def _stamped(self) -> tuple[int, int] | None:
        """What tells one state of the file from another; None: there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def said(text: str) -> None:
    """Print what a watcher says, with the time. It goes on when nobody reads that any more."""
    with suppress(OSError):
        click.echo(f"{time.strftime('%H:%M:%S')}  {text}")


def _holds(index: Index, where: str, ids: Sequence[str]) -> set[str]:
    return {run.id for run in select(index, where, within=ids)}
