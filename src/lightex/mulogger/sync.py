"""Bringing over at once what the sinks of runs have not got: `lx sync`, and the end of `lx run`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lightex.core import plugins
from lightex.core.rundir import ENDED, RunDir
from lightex.core.summary import status_of
from lightex.mulogger.delivery import Delivery, Progress, chosen, progress
from lightex.mulogger.feeder import look_after, run_alone


def sync(run: RunDir, name: str) -> Progress:
    """Feed one sink all that it lacks, now, once; what fails is in the answer.

    Raises:
        NotFoundError: there is no such sink, or its package is missing.
    """
    if plugins.load(plugins.SINKS, name).alone:
        run_alone(run, name, Path(os.devnull), LX_SYNC_PATIENCE="0")
        return progress(run, name)
    status, reason = status_of(run)
    delivery = Delivery(run, name)
    with suppress(Exception):  # whatever a backend raises is its own, and kept with the run
        if delivery.open():
            while delivery.feed():
                pass
            delivery.close(*((status, reason) if status in ENDED else ()))
    return progress(run, name)


def behind(runs: Iterable[RunDir]) -> list[tuple[RunDir, Progress]]:
    """The sinks that have not been told the end of their runs."""
    found = [(run, progress(run, name)) for run in runs for name in chosen(run)]
    return [(run, lag) for run, lag in found if lag.closed is None]


def wait(runs: Iterable[RunDir], seconds: float) -> list[tuple[RunDir, Progress]]:
    """Wait for the feeder to bring everything of ended runs over, no longer than that; returns what is behind."""
    left = behind(runs)
    for run in {run.path: run for run, _ in left}.values():
        look_after(run)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = behind({run.path: run for run, _ in left}.values())
    return left
