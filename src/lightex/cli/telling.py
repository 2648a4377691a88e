"""Lines of long work on standard error: the last one on a terminal, some of them elsewhere."""

from __future__ import annotations

import sys
import time

import click

from lightex.cli.output import cut, terminal_width

_DETAIL = "building: "  # shown on a terminal only, but for
_MILESTONE = "building: Step "


class Telling:
    """Shows lines on standard error. Use as a context manager; call it with each line.

    Args:
        pauses: seconds between two lines at least, on a terminal and elsewhere.
    """

    def __init__(self, pauses: tuple[float, float] = (0.0, 0.0)) -> None:
        self._terminal = sys.stderr.isatty()
        self._pause = pauses[not self._terminal]
        self._shown, self._next = "", 0.0

    def __enter__(self) -> Telling:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, line: str) -> None:
        """Show one more line, as often as people can read it."""
        detail = line.startswith(_DETAIL) and not line.startswith(_MILESTONE)
        if line == self._shown or time.monotonic() < self._next or (detail and not self._terminal):
            return
        self._shown, self._next = line, time.monotonic() + self._pause
        shown = f"\r\033[K{cut(line, terminal_width() - 1)}" if self._terminal else line
        click.echo(shown, nl=not self._terminal, err=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal and self._shown:
            click.echo("\r\033[K", nl=False, err=True)
            self._shown = ""
