"""Reading many runs, by several processes where there are many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from lightex.core.index import entry as entries
from lightex.core.index.entry import Entry
from lightex.core.root import Root

_ALONE = 1500  # runs that one process reads before another one has started and pays for itself
_AT_ONCE = 100
_MOST = 8  # processes: beyond that the one that writes is the limit


def read_many(
    root: str, changed: Sequence[tuple[str, bytes | None]], supervised: Callable[[str], bool]
) -> Iterator[Entry]:
    """Read runs, in any order.

    Args:
        root: the folder of runs.
        changed: EXPERIMENT/RUN_ID and the entry's `live` of each.
        supervised: tells of a sweep whether its dispatcher lives.
    """
    processes = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, _MOST)
    if len(changed) < _ALONE or processes < 2:
        for path, live in changed:
            yield entries.read(root, path, supervised, live)
        return
    import multiprocessing

    pieces = [(root, changed[start : start + _AT_ONCE]) for start in range(0, len(changed), _AT_ONCE)]
    # Not fork: a server that has threads keeps the locks they held.
    with multiprocessing.get_context("forkserver").Pool(processes) as pool:
        for read in pool.imap_unordered(_read, pieces):
            yield from read


def _read(piece: tuple[str, Sequence[tuple[str, bytes | None]]]) -> list[Entry]:
    root, changed = piece
    supervised = cache(lambda sweep: Root(root).sweep(sweep).supervised)
    return [entries.read(root, path, supervised, live) for path, live in changed]
