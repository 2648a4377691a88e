"""The app: it looks about once a second and shows what it finds."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

from textual.app import App
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen

from lightex.core.errors import LightexError
from lightex.core.summary import Summary
from lightex.mon.top.acting import RunScreen
from lightex.mon.top.detail import Detail
from lightex.mon.top.overview import Overview
from lightex.mon.top.told import Saying, bad
from lightex.mon.top.watch import Given, Sight, Watch, Wish

_THEMES = ("ansi-dark", "textual-ansi")  # the second is what Textual called it before 8
_LOOK = 1.0  # seconds between two looks
_SHARE = 3.0  # a look that takes long is followed by a pause so many times as long


class Reading(Message):
    """How far a long reading of runs has come."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__()
        self.done, self.total = done, total


class Top(App[None]):
    """`lx top`."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = "* { scrollbar-background: ansi_default; scrollbar-color: ansi_bright_black; }"
    BINDINGS = [
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]

    def __init__(self, given: Given) -> None:
        """`given`: what it is about."""
        super().__init__(ansi_color=True)  # the terminal's own colours, whichever they are; with NO_COLOR none
        self.theme = next(name for name in _THEMES if name in self.available_themes)
        self.given = given
        self.wish = Wish()
        self.wished: dict[str, tuple[int, float]] = {}  # row -> priority that was asked for, when
        self.in_turn = asyncio.Lock()
        self.saying: Saying | None = None
        self.watching = Watch(given, self._read)
        self._overview = Overview()
        self._soon = asyncio.Event()
        self._told = 0.0

    def get_default_screen(self) -> Screen[None]:
        """The table."""
        return self._overview

    def on_mount(self) -> None:
        """Begin to look."""
        self.run_worker(self._keep_looking())

    async def on_unmount(self) -> None:
        """Let go of the index."""
        await self.watching.close()

    def _read(self, done: int, total: int) -> None:
        if time.monotonic() - self._told > 0.2:  # called in the thread that reads, for each run
            self._told = time.monotonic()
            self.post_message(Reading(done, total))

    def on_reading(self, message: Reading) -> None:
        """Tell how far it is."""
        self._overview.reading(message.done, message.total)

    async def _keep_looking(self) -> None:
        while True:
            began = time.monotonic()
            self._soon.clear()
            try:
                self._show(await self.watching.look(self.wish))
            except LightexError as error:
                self.tell(bad(error))
            if self.saying and time.monotonic() > self.saying.until:
                self.tell(None)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._soon.wait(), max(_LOOK, _SHARE * (time.monotonic() - began)))

    def _show(self, sight: Sight) -> None:
        self._overview.show(sight)
        for screen in self.screen_stack:
            if isinstance(screen, Detail):
                screen.show(sight)

    # ------------------------------------------------------------------ for the screens

    def look_soon(self) -> None:
        """Look again at once: something has just been changed, or something else is wanted."""
        self._soon.set()

    def only(self, word: str | None = None, sweep: str | None = None) -> None:
        """Show only runs that show a word, or those of a sweep; empty: all again; None: as before."""
        wish = replace(
            self.wish, word=self.wish.word if word is None else word, sweep=self.wish.sweep if sweep is None else sweep
        )
        if wish != self.wish:
            self.wish = wish
            self.look_soon()

    def open(self, run: Summary) -> None:
        """Look at a run closely."""
        self.wish = replace(self.wish, run=run.id)
        self.look_soon()
        self.push_screen(Detail(run), self._left)

    def _left(self, _: None) -> None:
        self.wish = replace(self.wish, run="")

    def tell(self, saying: Saying | None) -> None:
        """Tell what came of an action, on whatever screen is in front."""
        self.saying = saying
        for screen in self.screen_stack:
            if isinstance(screen, RunScreen):
                screen.tell(saying)
