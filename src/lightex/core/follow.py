"""Following a sweep that another process runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from lightex.core.journal import Record
from lightex.core.naming import label
from lightex.core.root import SweepDir
from lightex.core.rundir import ENDED, RunDir

_LOOK = 0.2  # seconds between two looks


def follow(sweep: SweepDir, until: float | None = None) -> Iterator[tuple[RunDir, Record]]:
    """The runs of a sweep with their last events, each as it ends, until all have or nobody is at work on it.

    Args:
        sweep: which.
        until: a time of the monotonic clock to give up at.

    Raises:
        TimeoutError: that time has come.
    """
    total, more = int(sweep.about["total"]), bool(sweep.about.get("search"))  # a search's runs come one by one
    runs = sweep.runs()
    left, ended = {run.id: run for run in runs}, 0
    while True:
        supervised = sweep.supervised  # asked first: what it wrote before it left is then seen
        if more:
            known = {run.id for run in runs}
            runs = sweep.runs()
            left |= {run.id: run for run in runs if run.id not in known}
        for run in list(left.values()):
            events = run.events()
            if events and events[-1].get("state") in ENDED:
                del left[run.id]
                ended += 1
                yield run, events[-1]
        if ended >= total or not supervised:
            return
        if until is not None and time.monotonic() >= until:
            raise TimeoutError(f"{total - ended} of {total} experiments of sweep {sweep.id} have not ended")
        time.sleep(_LOOK)


def line(run: RunDir, last: Record, count: int, total: int, paint: Callable[[str], str] = str) -> str:
    """What is told of a run that has ended: the how manieth, its state (through `paint`), its id, what it is, why."""
    about = f"{label(run.identity.get('varied') or {})}  {last.get('reason') or ''}".strip()
    state = str(last["state"])
    return f"{f'{count}/{total}':>9}  {paint(state)}{' ' * (9 - len(state))}  {run.short_id}  {about}"
