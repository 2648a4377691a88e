"""What a queue knows of a job that is at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightex.core.rundir import RUNNING
from lightex.dispatcher.job import Job


@dataclass(frozen=True)
class Adopted:
    """A job that a former supervisor has started.

    Attributes:
        job: the job.
        handle: the engine's.
        since: when it started, seconds since the epoch.
        gpus: those that it was given.
        process: "PID:BORN" where it is a process of this machine.
        state: SUBMITTED where it waits in its engine's queue.
    """

    job: Job
    handle: str
    since: float
    gpus: tuple[str, ...] = ()
    process: str | None = None
    state: str = RUNNING


@dataclass
class Running:
    """A job at work. Times are of the monotonic clock: the other one may be set back."""

    job: Job
    state: str
    since: float
    gpus: Sequence[str] = ()
    waits_for: str | None = None  # what the engine says that it waits for
    told: float = float("-inf")  # when that was last written down
    told_words: str | None = None  # and what it was
    ending: tuple[str, str] | None = None  # cause and reason, once it was asked to end
    kill_at: float | None = None
    written: tuple[int, ...] = ()  # sizes of its output and records when it was last seen to write
    wrote: float = 0.0
    look_at: float = 0.0
