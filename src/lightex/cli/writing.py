"""Tables on their way out: to a file of a format, or to the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightex.cli.output import print_table
from lightex.core.errors import LightexError
from lightex.core.naming import show

if TYPE_CHECKING:
    from lightex.qviz.table import Table

_MOMENTS = frozenset({"time", "created", "started", "ended"})
_LONG_AGO = 1e8  # seconds since the epoch, in 1973: less is a duration
SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")


def check_suffix(path: str | None) -> None:
    """Refuse a file of no known format before any work is done.

    Raises:
        LightexError: its name ends otherwise.
    """
    if path and Path(path).suffix.lower() not in SUFFIXES:
        raise LightexError(f"cannot tell the format of {path}", f"end its name in {', '.join(SUFFIXES)}")


def write_table(table: Table, path: str) -> None:
    """Write a table in the format that the file's name ends in.

    Raises:
        LightexError: it cannot be written, or a package is missing.
    """
    file = Path(path)
    texts = {".csv": table.to_csv, ".json": table.to_json, ".jsonl": table.to_jsonl}

    def draw(staged: Path) -> None:
        if file.suffix.lower() == ".parquet":
            table.to_parquet(staged)
        else:
            staged.write_text(texts[file.suffix.lower()](), encoding="utf-8", newline="")

    write_file(file, draw, f"{len(table)} row{'s' * (len(table) != 1)}")


def write_file(path: Path, draw: Callable[[Path], object], what: str) -> None:
    """Have a file written under another name first, so that an old one is lost only for a whole new one; and say so.

    Args:
        path: where.
        draw: writes it.
        what: it holds, in words.

    Raises:
        LightexError: it cannot be written.
    """
    staged = path.with_name(f".part.{path.name}")  # its ending stays: programs go by it
    try:
        draw(staged)
        staged.replace(path)
    except OSError as error:
        raise LightexError(f"cannot write {path}: {error.strerror}") from error
    finally:
        staged.unlink(missing_ok=True)
    click.echo(f"{what} in {path}", err=True)


def print_rows(table: Table) -> None:
    """Print a table for people, moments as this machine's clock shows them."""
    numbers = [
        place
        for place, name in enumerate(table.columns)
        if any(isinstance(value, (int, float)) for value in table.column(name))
    ]
    print_table(table.columns, [list(map(_cell, table.columns, row)) for row in table.rows], right=numbers)


def _cell(column: str, value: Any) -> str:
    if column in _MOMENTS and isinstance(value, float) and value > _LONG_AGO:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    return show(value)
