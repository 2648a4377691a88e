"""What commands print: tables, JSON, states in colour."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lightex.core import jsonlib
from lightex.core.escapes import plain
from lightex.core.journal import jsonable

if TYPE_CHECKING:
    from lightex.core.errors import LightexError

COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "LOST": "red", "CANCELLED": "yellow", "RUNNING": "blue"}


def colourful() -> bool:
    """Whether standard output is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None = None, **style: Any) -> str:
    """Text in colour, where that is wanted."""
    return click.style(text, fg=colour, **style) if (colour or style) and colourful() else text


@contextmanager
def heard_or_not() -> Iterator[None]:
    """What is said within is no reason to stop, though nobody hears it: what runs matters more.

    Where the terminal was closed or the pipe is broken, nothing is said there any more; on a full disk, until there is
    room again.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN):
            return
        if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO):
            raise
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            try:
                stream.flush()
            except OSError:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)


def print_json(value: Any) -> None:
    """Print a value as JSON for machines."""
    click.echo(jsonlib.dumps(jsonable(value), option=jsonlib.OPT_INDENT_2).decode())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print columns; on a terminal the last one is cut to what fits.

    Args:
        header: names of the columns.
        rows: cells, uncoloured.
        right: the columns that are set flush right (numbers).
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = terminal_width() - sum(width + 2 for width in widths[:-1])
    for number, row in enumerate((header, *rows)):
        cells = []
        for column, cell in enumerate(row):
            text = cell
            if column == len(row) - 1 and column not in right:
                text = cut(text, max(room, 20)) if sys.stdout.isatty() else text
            else:
                text = text.rjust(widths[column]) if column in right else text.ljust(widths[column])
            colour = None if number == 0 else COLOURS.get(cell)
            cells.append(paint(text, dim=True) if number == 0 else paint(text, colour))
        click.echo("  ".join(cells).rstrip())


def cut(text: str, width: int) -> str:
    """Text cut in its end to fit."""
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def terminal_width() -> int:
    """Columns of the terminal; 80 if there is none."""
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


def print_error(error: LightexError) -> None:
    """Print an error and what to do about it to standard error."""
    click.echo(click.style("error: ", fg="red") + error.message, err=True)
    for line in error.details:
        click.echo(f"  {line}", err=True)
