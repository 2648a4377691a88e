"""Which runs a command is about: by id, by sweep, by a filter; and the progress of reading many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lightex.core.root import Root
from lightex.core.summary import read_all

if TYPE_CHECKING:
    from lightex.core.index import Index
    from lightex.qviz.runs import Runs

_PATIENCE = 0.7  # seconds of silence before progress is told
_BETWEEN = 0.2, 10.0  # seconds between two words of it, on a terminal and elsewhere


def where_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--where FILTER`."""
    return click.option(
        "--where",
        "-w",
        metavar="FILTER",
        help="Only runs for which it holds, e.g. 'hp.lr > 0.01 and status = failed order by val.acc desc limit 10'.",
    )(command)


def select(
    root: Root,
    which: Sequence[str],
    where: str | None,
    everything: bool = False,
    states: Sequence[str] = (),
    archived: bool = False,
) -> Runs:
    """The runs that ids, sweeps and a filter select. Of runs that were put away only those that are named count.

    Args:
        root: the folder of runs.
        which: prefixes of ids, or sweeps.
        where: a filter; with ids it holds of these.
        everything: where neither is given: all runs; else those of the latest sweep.
        states: only runs of these; empty: of all.
        archived: also runs that were put away and are not named.

    Raises:
        NotFoundError: there are none of that name.
        FilterError: the filter is not understood.
    """
    from lightex.qviz.runs import Runs, select

    chosen = {run.id: run for prefix in which for run in root.find(prefix)}
    if where is None and not everything:
        return Runs(read_all(root, chosen.values() or root.latest()))
    with opened(root) as index:
        return select(index, where or "", within=list(chosen) or None, states=states, archived=archived or bool(chosen))


@contextmanager
def opened(root: Root) -> Iterator[Index]:
    """The index of a root, up to date; a long reading is told on standard error."""
    from lightex.core.index import Index

    with reading() as progress, Index(root, progress) as index:
        yield index


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Tells how far a reading of many runs has come, if it takes long."""
    from lightex.cli.telling import Telling

    began = time.monotonic()
    with Telling(_BETWEEN) as line:

        def tell(done: int, total: int) -> None:
            if (passed := time.monotonic() - began) >= _PATIENCE:
                left = passed / max(done, 1) * (total - done)
                line(f"reading runs for the index, once: {done:,} of {total:,}, {left:.0f} s left")

        yield tell
