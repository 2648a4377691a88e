"""The one signature that every engine shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lightex.core.errors import LightexError
from lightex.core.rundir import RUNNING
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.job import Job


class LaunchError(LightexError):
    """A job could not be started; its run fails with this as the reason, the others go on."""


@dataclass(frozen=True)
class JobState:
    """What is known of a job.

    Attributes:
        state: SUBMITTED, RUNNING, or one of the ends: SUCCEEDED, FAILED, CANCELLED, LOST.
        cause: why it did not succeed, a key of CAUSES; an engine tells it only where it knows more than the exit code.
        reason: the same in words.
        exit_code: of the command, if it ended by itself.
        signal: that killed it, if one did.
        peak_memory: bytes; None: unknown.
        cpu_seconds: of the command and its children; None: unknown.
    """

    state: str = RUNNING
    cause: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    peak_memory: int | None = None
    cpu_seconds: float | None = None

    def known(self) -> dict[str, Any]:
        """What is known, as an event has it."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Engine(Protocol):
    """Runs jobs. Built by name through the entry-point group `lightex.engines`, with no arguments."""

    def capacity(self) -> Capacity | None:
        """What there is to share out, or None if the engine queues by itself."""

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
        """Start a job, on these GPUs if it was given any.

        Returns:
            A handle that is good in another process too, and what readers may know of it (recorded as
            `process` in the event: host, pid, born).

        Raises:
            LaunchError: it cannot be started.
        """

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """What `submit` would have returned for a job whose submission was cut off; None: it is not there."""

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """The states of jobs, in bulk; may wait up to `wait` seconds for one of them to change.

        Jobs that another process submitted count too; LOST: it is gone and nobody can tell how it ended.
        """

    def cancel(self, handle: str, force: bool = False) -> None:
        """Ask a job to end, or (force) end it. Nothing happens if it has ended already."""

    def close(self) -> None:
        """Nothing more will be asked: let go of what is held, and end what ended jobs have left behind."""
