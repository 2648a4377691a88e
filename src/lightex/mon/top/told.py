"""The line that tells what came of an action: it stays long enough to be read."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.text import Text
from textual.widgets import Static

from lightex.core.errors import LightexError
from lightex.core.escapes import plain

_GOOD, _BAD = 12.0, 60.0  # seconds that it stays; esc takes it away sooner
_LINES = 8


@dataclass(frozen=True)
class Saying:
    """What is told, whether it is an error, and until when (of the monotonic clock)."""

    lines: tuple[str, ...]
    bad: bool
    until: float

    def text(self) -> Text:
        """As it is shown."""
        first, *rest = self.lines
        text = Text("error: " if self.bad else "", "bold red" if self.bad else "")
        text.append(plain(first), "bold")
        for each in rest[: _LINES - 1]:
            text.append(f"\n  {plain(each)}", "")
        return text


def good(words: str) -> Saying:
    """That something was done."""
    return Saying((words,), False, time.monotonic() + _GOOD)


def bad(error: LightexError) -> Saying:
    """That it was refused."""
    return Saying((error.message, *error.details), True, time.monotonic() + _BAD)


class Told(Static):
    """Shows what was told last."""

    DEFAULT_CSS = "Told { height: auto; max-height: 8; padding: 0 1; display: none; }"

    def tell(self, saying: Saying | None) -> None:
        """Show it; None: nothing any more."""
        self.display = saying is not None
        if saying:
            self.update(saying.text())
