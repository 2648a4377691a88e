"""Columns of a table: how wide each is, so that a line fits and does not jump from one second to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from lightex.mon.top.words import end, middle

_GAP = 2
_MOST = 60  # columns that one cell may ask for


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its heading.
        least: columns that are left of it where room is short; 0: it is never cut.
        inside: cut in the middle, not in the end.
        right: flush right.
        state: its words are states, and have their colours.
    """

    title: str
    least: int = 0
    inside: bool = False
    right: bool = False
    state: bool = False


def widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, before: Sequence[int]) -> list[int]:
    """How wide each is; 0: nothing is in it, it is left out.

    Args:
        columns: which.
        rows: the cells of each line.
        width: of the line.
        before: what was found the last time: what is never cut does not get narrower.
    """
    found = []
    for number, column in enumerate(columns):
        cells = [cell_len(row[number]) for row in rows]
        if not any(cells):
            found.append(0)
            continue
        needed = max(len(column.title), *cells)
        if number < len(columns) - 1:
            needed = min(_MOST, needed)
        found.append(needed if column.least else max(needed, before[number] if before else 0))
    excess = sum(found) + _GAP * sum(1 for one in found if one) - _GAP - width
    while excess > 0:
        spare = [(found[n] - column.least, n) for n, column in enumerate(columns) if 0 < column.least < found[n]]
        if not spare:
            break
        found[max(spare)[1]] -= 1
        excess -= 1
    return found


def line(columns: Sequence[Column], cells: Sequence[str], found: Sequence[int]) -> list[tuple[str, Column]]:
    """The cells of a line, each as wide as its column and with the gap behind it."""
    made = []
    for column, cell, width in zip(columns, cells, found, strict=True):
        if width:
            text = middle(cell, width) if column.inside else end(cell, width)
            padding = " " * (width - cell_len(text))
            text = padding + text if column.right else text + padding
            made.append((set_cell_size(text, width) + " " * _GAP, column))
    return made
