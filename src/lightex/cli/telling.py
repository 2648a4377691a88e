"""Lines of long work that comes before anything runs: the last one on a terminal, the milestones elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

import click

from lightex.cli.output import cut, terminal_width

_DETAIL = "building: "
_MILESTONE = "building: Step "


class Telling:
    """Shows lines on standard error. Use as a context manager; call it with each line."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""

    def __enter__(self) -> Telling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self._shown:
            click.echo("\r\033[K", nl=False, err=True)

    def __call__(self, line: str) -> None:
        """Show one more line."""
        if line == self._shown or (not self._terminal and line.startswith(_DETAIL) and not line.startswith(_MILESTONE)):
            return
        self._shown = line
        if self._terminal:
            click.echo(f"\r\033[K{cut(line, terminal_width() - 1)}", nl=False, err=True)
        else:
            click.echo(line, err=True)
