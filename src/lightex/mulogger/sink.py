"""The one signature that every sink shares: a backend that is fed the records of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lightex.core.journal import Record


@dataclass(frozen=True)
class Source:
    """The run that a sink is fed.

    Attributes:
        id: the run's id.
        short_id: the id without its time, as people type it.
        experiment: the experiment's name.
        dir: the run's directory; paths in records are relative to it.
        created: seconds since the epoch.
        params: the config's parameters by dotted names.
        tags: the config's tags.
        notice: tells people, once per text, what the backend cannot hold; it stays in the run.
    """

    id: str
    short_id: str
    experiment: str
    dir: Path
    created: float
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    notice: Callable[[str], None] = print


class Sink(Protocol):
    """A backend. Built by name through the entry-point group `lightex.sinks` with a Source and its own Options.

    It runs in the feeder, not in the training: any exception it raises is shown as its last error, and the same
    records come again later. What a crash interrupted comes again too: `state` is how a sink knows its own.

    A subclass has the defaults and helpers below; anything else with these members is a sink as well.

    Attributes:
        name: as of its entry point.
        Options: the dataclass of its options, all with defaults.
        alone: whether a process can hold only one run of it at a time (it then gets a process per run).
        direct: whether it is fed inside the training process, as the terminal has to be.
        environment: the variables that it, and its backend's own package in a training, are configured by; "NAME*" for
            several. Containers are given those of the loggers of their config.
        state: JSON that is kept with the run after each write; what identifies the run there belongs into it.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    alone: ClassVar[bool] = False
    direct: ClassVar[bool] = False
    environment: ClassVar[tuple[str, ...]] = ()
    source: Source
    options: Any
    state: dict[str, Any]

    def __init__(self, source: Source, options: Any) -> None:
        self.source, self.options, self.state = source, options, {}

    def open(self) -> bool:
        """Connect, and create the run there, or go on with the one that `state` names.

        Returns:
            Whether it has to begin anew, and wants all records again from the first.
        """

    def write(self, records: Sequence[Record]) -> None:
        """Hand over records, in order; they are safe there when it returns.

        A record has `time` and one of: `metrics` (floats by name; `step` may be missing), `params`, `tags`,
        `text`, `media`, `histogram`, `artifact` (docs/run-directory.md).
        """

    def close(self, status: str | None, reason: str | None) -> None:
        """Let go. status: SUCCEEDED, FAILED, CANCELLED, LOST, or None where the run goes on."""

    def whole(self, step: Any) -> int | None:
        """A step as a whole number of 64 bits; None: there is none, or it is none."""
        if not isinstance(step, (int, float)) or not isfinite(step) or not -(2**63) <= step < 2**63:
            return None
        if step != int(step):
            self.source.notice(f"{self.name} holds whole steps only: others are cut, and exact in the run")
        return int(step)

    def counted(self, name: str, step: Any) -> int:
        """The same; where there is none, how many of that name had none before."""
        found = self.whole(step)
        if found is None:
            found = self.state["counts"].get(name, 0)
            self.state["counts"][name] = found + 1
        return found

    def kept(self, artifact: Record) -> Path | None:
        """The file of an artifact; None where it is gone, which is told."""
        path = self.source.dir / str(artifact.get("path"))
        if path.exists():
            return path
        self.source.notice(f"{artifact.get('path')} is recorded and not there; {self.name} does not have it")
        return None
