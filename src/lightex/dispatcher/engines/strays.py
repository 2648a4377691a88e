"""Processes that escape from a job, by a session of their own and a parent that ends: known by their environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from lightex.dispatcher.job import Job
from lightex.dispatcher.proc import Mark, mark_of


def marks(job: Job) -> Mark:
    """What the environment of a job's processes holds."""
    return frozenset({f"LX_RUN_DIR={job.run.path}".encode(), f"LX_ATTEMPT={job.attempt}".encode()})


def processes_of(wanted: Collection[Mark]) -> Iterator[int]:
    """The processes of this user that belong to one of some jobs. A process may hide by another environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        held = mark_of(int(entry.name))
        if any(mark <= held for mark in wanted):
            yield int(entry.name)


def end_strays(ended: set[Mark]) -> None:
    """Kill what has escaped from jobs that have ended, and clear them from the set."""
    for pid in processes_of(ended) if ended else ():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    ended.clear()
