"""A run of another tool (a peer), and the one signature that every peer shares."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from lightex.core.errors import NotFoundError, needing
from lightex.core.rundir import SUCCEEDED
from lightex.mulogger.imports.desk import Desk

PEERS = {"mlflow": "MlflowPeer", "tensorboard": "TensorBoardPeer", "wandb": "WandbPeer"}
"""What can be imported from: the module beside this one, and its class."""


@dataclass(frozen=True)
class Story:
    """What became of a run of a peer, and who it was. Times are UTC seconds since the epoch.

    Attributes:
        created: when it began.
        status: a state of a run directory.
        ended: when it ended; None: unknown, or it goes on.
        reason: why it did not succeed.
        exit_code: of its command, where that is known.
        identity: more for run.json: command, user, host, cwd, git.
    """

    created: float
    status: str = SUCCEEDED
    ended: float | None = None
    reason: str | None = None
    exit_code: int | None = None
    identity: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreign:
    """A run of a peer, known and not yet read.

    Attributes:
        id: what tells it from all others of its store, for good.
        name: what people call it there.
        experiment: what its experiment is called there now.
        series: what tells its experiment from others, for good.
        mark: changes when the run has gone on there.
        read: puts all of it on a desk, and tells its story; raises whatever the peer's library raises.
    """

    id: str
    name: str
    experiment: str
    series: str
    mark: str
    read: Callable[[Desk], Story]


class Peer(Protocol):
    """A store of another tool's runs. Built with a URI and the name of the only experiment that is wanted, or None.

    Attributes:
        name: of the tool, as in PEERS.
        uri: of the store, in the one form that is kept with its runs.
    """

    name: str
    uri: str

    def __init__(self, uri: str, experiment: str | None) -> None: ...

    def runs(self) -> Iterator[Foreign]:
        """Its runs, the oldest first; raises a LightexError where the store cannot be read."""


def open_peer(name: str, uri: str, experiment: str | None = None) -> Peer:
    """The store of a peer.

    Args:
        name: one of PEERS.
        uri: where it is, in the peer's own words.
        experiment: take only this one; default: all.

    Raises:
        LightexError: there is no such store.
        NotFoundError: the peer's package is not installed (tells the pip install).
    """
    module = importlib.import_module(f"lightex.mulogger.imports.{name}")
    with needing(f"'{name}' needs", f"'lightex[{name}]'"):
        peer: Peer = getattr(module, PEERS[name])(uri, experiment)
    return peer


def mark_of(told: object) -> str:
    """A short mark of what a peer tells of a run, which changes with it."""
    return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def no_experiment(given: str, known: list[str], what: str = "experiment") -> NotFoundError:
    """The error for an experiment that a store does not have."""
    from lightex.core.errors import did_you_mean

    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    return NotFoundError(f"no {what} '{given}' there.{did_you_mean(given, known)}", f"there are: {shown or 'none'}")
