"""What is told: one notice for each thing that happened, and a message that puts several together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("info", "success", "warning", "failure")
"""What a service may show in a colour, the worst last."""

_WHOLE = 5  # notices that a message holds in full; of more, a line each
MOST = 50
"""Notices that are put into one message."""


@dataclass(frozen=True)
class Message:
    """What a service is given."""

    title: str
    body: str
    kind: str


@dataclass(frozen=True)
class Notice:
    """Something to be told.

    Attributes:
        id: of its own.
        title: one line.
        body: some lines; no secret of an address is in it.
        kind: one of KINDS.
        keys: of what it tells: none of these is told again.
        to: the names of those who are to be told.
    """

    id: str
    title: str
    body: str
    kind: str
    keys: tuple[str, ...]
    to: tuple[str, ...]


def joined(notices: Sequence[Notice]) -> Message:
    """One message of several notices (one at least)."""
    worst = max(notices, key=lambda each: KINDS.index(each.kind)).kind
    if len(notices) == 1:
        return Message(notices[0].title, notices[0].body, worst)
    counts = Counter(each.title.partition("  ")[0] for each in notices)
    title = f"{len(notices)} alerts: " + ", ".join(f"{count} {what}" for what, count in counts.items())
    if len(notices) <= _WHOLE:
        return Message(title, "\n\n".join(f"{each.title}\n{each.body}" for each in notices), worst)
    return Message(title, "\n".join(each.title for each in notices), worst)
