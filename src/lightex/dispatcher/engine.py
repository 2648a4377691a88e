"""The one signature that every engine shares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lightex.core.errors import LightexError
from lightex.core.rundir import RUNNING
from lightex.core.taxonomy import Experiment, Storage
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.job import Job
from lightex.storage import store


class LaunchError(LightexError):
    """A job could not be started; its run fails with this as the reason, the others go on."""


@dataclass(frozen=True)
class JobState:
    """What is known of a job.

    Attributes:
        state: SUBMITTED, RUNNING, or one of the ends: SUCCEEDED, FAILED, CANCELLED, LOST.
        cause: why it did not succeed, a key of CAUSES; an engine tells it only where it knows more than the exit code.
        reason: the same in words; of a job that is SUBMITTED, what it waits for.
        exit_code: of the command, if it ended by itself.
        signal: that killed it, if one did.
        peak_memory: bytes; None: unknown.
        cpu_seconds: of the command and its children; None: unknown.
        duration: seconds that it ran, where the engine knows that better than who asks it now and then.
        process: of a job that runs or has run, what readers may know of it: host, pid and born where it is a process of
            this machine, and whatever else the engine has to say.
    """

    state: str = RUNNING
    cause: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    peak_memory: int | None = None
    cpu_seconds: float | None = None
    duration: float | None = None
    process: Mapping[str, Any] | None = None

    def known(self) -> dict[str, Any]:
        """What is known, as an event has it."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Usage:
    """What a job has used so far; None: unknown.

    Attributes:
        cpu_seconds: of all its processes.
        memory: bytes that they hold now.
        read: bytes read from disks.
        written: bytes written to disks.
        received: bytes from the network.
        sent: bytes to the network.
        cores: that they use now, from an engine that tells these instead of CPU seconds.
        at: when that was, by the monotonic clock, where it is not of now.
    """

    cpu_seconds: float | None = None
    memory: int | None = None
    read: int | None = None
    written: int | None = None
    received: int | None = None
    sent: int | None = None
    cores: float | None = None
    at: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Finding:
    """What `lx doctor` says of one thing.

    Attributes:
        what: the thing, in a word.
        ok: None: neither good nor bad, or not to be known.
        words: what was found and, where it is not well, what to do.
    """

    what: str
    ok: bool | None
    words: str


class Engine(Protocol):
    """Runs jobs. Built by name through the entry-point group `lightex.engines`, with no arguments.

    Subclass it: the methods from `takes_more` on have defaults.

    Attributes:
        python: how a command names Python there.
        children: whether jobs are child processes of the one that submits them, and handles "PID:BORN": then their ends
            are found in the keeper's ledger where a dispatcher was killed.
        several_nodes: whether it runs one command on several nodes at once (`resources.nodes`).
        most_open: jobs that one which queues by itself is given at once; None: all.
    """

    python: ClassVar[str] = sys.executable
    children: ClassVar[bool] = False
    several_nodes: ClassVar[bool] = False
    most_open: int | None = None

    def capacity(self) -> Capacity | None:
        """What there is to share out, or None (the default) if the engine queues by itself."""
        return None

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
        """Start a job, on these GPUs if it was given any.

        Returns:
            A handle that is good in another process too, and what readers may know of it (recorded as `process` in the
            event, see JobState); empty where it does not run yet, which `poll` tells then.

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

    def forget(self, handle: str) -> None:
        """The end that `poll` told of a job is noted down: what keeps it may go. Until then it is to be told again,
        also to another process."""

    def close(self) -> None:
        """Nothing more will be asked: let go of what is held, and end what ended jobs have left behind."""

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:  # noqa: ARG002
        """What jobs that run use, in bulk, of those where that is known; asked every second, and must not wait."""
        return {}

    def takes_more(self, jobs: int) -> bool:
        """Whether it takes a further job beside so many; asked only of an engine that queues by itself."""
        return self.most_open is None or jobs < self.most_open

    @classmethod
    def folders(cls, storage: Storage, project: Path) -> Mapping[str, str]:
        """Where a command finds its named folders.

        Raises:
            ConfigError: one is no store, or not to be had there.
        """
        return {name: str(path) for name, path in store.folders_here(storage, project).items()}

    def stage(self, storages: Iterable[Storage], project: Path, tell: Callable[[str], None]) -> None:
        """Bring here what named folders keep elsewhere; `tell` is given lines of long work.

        Raises:
            LightexError: it cannot be brought.
        """
        for place in _staged(storages, project):
            from lightex.storage import staging

            staging.fetch(place, tell)

    def collect(self, job: Job, tell: Callable[[str], None]) -> None:
        """Bring back what a job that has ended has written into such folders.

        Raises:
            LightexError: it cannot be brought back.
        """
        for place in _staged([job.storage], job.project or job.cwd):
            if place.store.write and place.here:
                from lightex.storage import staging

                staging.send(place, place.here, tell)

    def check(self, experiment: Experiment[Any], project: Path) -> None:
        """Look whether an experiment is one for this engine, before anything is written.

        Raises:
            ConfigError: it is not.
        """

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:
        """Get ready what experiments need before they can start, such as an image; `tell` is given lines of long work.

        Raises:
            LightexError: it cannot be.
        """

    def manifest(self, job: Job) -> str:  # noqa: ARG002
        """What a person types, or applies, to have the same job run without lx."""
        raise LightexError("this engine has no manifest to show")

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:  # noqa: ARG002
        """Look whether all is ready for some experiments."""
        return [Finding("engine", True, "ready")]


def _staged(storages: Iterable[Storage], project: Path) -> list[store.Place]:
    """The places, each once, that are staged through a cache of this machine; one that is written to counts first."""
    places = [place for each in storages for place in store.folders(each, project).values() if place.kind == "s3"]
    return list({place.here: place for place in sorted(places, key=lambda place: place.store.write)}.values())
