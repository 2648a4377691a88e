"""What processes use, by proc(5). Ray takes this module to nodes without LightEx: it imports Python's own alone."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass


@dataclass
class Counted:
    """What some processes have used together.

    Attributes:
        cpu_seconds: of them and of those children that they have waited for.
        memory: bytes that are resident now.
        read: bytes read from disks; None: not to be known.
        written: bytes written to disks; None: not to be known.
    """

    cpu_seconds: float = 0.0
    memory: int = 0
    read: int | None = None
    written: int | None = None


def members_of_sessions(leaders: Collection[int]) -> Mapping[int, list[int]]:
    """The processes of some sessions, by their leaders, in one look at all processes."""
    found: dict[int, list[int]] = {leader: [] for leader in leaders}
    with suppress(FileNotFoundError):  # macOS has no /proc
        for entry in os.listdir("/proc") if found else ():  # noqa: PTH208  as fast as can be
            if entry.isdigit():
                with suppress(OSError):
                    session = os.getsid(int(entry))
                    if session in found:
                        found[session].append(int(entry))
    return found


def count(pids: Iterable[int]) -> Counted:
    """What processes have used together; those that have ended are left out."""
    ticks = pages = 0
    found = Counted()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  this is done for every run
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
        pages += int(fields[21])
        with suppress(OSError), open(f"/proc/{pid}/io", "rb") as file:  # noqa: PTH123
            lines = file.read().split()
            found.read = (found.read or 0) + int(lines[9])
            found.written = (found.written or 0) + int(lines[11])
    found.cpu_seconds = ticks / os.sysconf("SC_CLK_TCK")
    found.memory = pages * os.sysconf("SC_PAGE_SIZE")
    return found
