"""Which processes are a run's, and what they use, by proc(5).

Ray takes this module to nodes without LightEx: it imports Python's own alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

Mark = frozenset[bytes]
"""The entries of an environment by which the processes of one attempt at a run (on one of its nodes) are known."""

_RANK = b"NODE_RANK="
_NAMES = (b"LX_RUN_DIR=", b"LX_ATTEMPT=", _RANK)


def mark_of(pid: int) -> Mark:
    """By what in its environment a process is known as a run's; empty where it is no run's, or another user's."""
    return _mark(_environment(pid))


def _environment(pid: int) -> bytes:
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123  this is done for every run
        return file.read()
    return b""


def _mark(environment: bytes) -> Mark:
    return frozenset(entry for entry in environment.split(b"\0") if entry.startswith(_NAMES))


class Sessions:
    """The processes of runs, each run known by the leader of its session.

    Sessions that a run's processes begin are its own too (torchrun begins one for each worker): they are known by
    their environment, which is read once for each session.
    """

    def __init__(self) -> None:
        self._others: dict[int, Mark] = {}  # sessions that have been seen, other than those that were asked about

    def members(self, leaders: Collection[int]) -> Mapping[int, list[int]]:
        """The processes of some runs, by their leaders, in one look at all processes."""
        found: dict[int, list[int]] = {leader: [] for leader in leaders}
        marked = {mark: leader for leader in leaders if (mark := mark_of(leader))}
        others: dict[int, Mark] = {}
        with suppress(FileNotFoundError):  # macOS has no /proc
            for entry in os.listdir("/proc") if found else ():  # noqa: PTH208  as fast as can be
                if entry.isdigit():
                    with suppress(OSError):
                        pid = int(entry)
                        session = os.getsid(pid)
                        if session not in found:
                            if session not in others and (its := self._mark_of(session, pid)) is not None:
                                others[session] = its
                            session = _leader(marked, others.get(session, frozenset()))
                        if session in found:
                            found[session].append(pid)
        self._others = others
        return found

    def _mark_of(self, session: int, pid: int) -> Mark | None:
        """That of a session, by one of its processes; None: not to be read, or not yet (it is just being started)."""
        if session in self._others:
            return self._others[session]
        environment = _environment(pid)
        return _mark(environment) if environment else None


def _leader(marked: Mapping[Mark, int], mark: Mark) -> int:
    """The leader that a mark leads to; 0: none. A launcher may have given its workers a rank that it has not."""
    plain = frozenset(entry for entry in mark if not entry.startswith(_RANK))
    return marked.get(mark) or marked.get(plain, 0)


def count(pids: Iterable[int]) -> dict[str, Any]:
    """What processes have used together, as `engine.Usage` has it; those that have ended are left out.

    CPU seconds are those of children too that they have waited for, `memory` what is resident now.
    """
    ticks = pages = 0
    read = written = None
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
            read, written = (read or 0) + int(lines[9]), (written or 0) + int(lines[11])
    used = {"cpu_seconds": ticks / os.sysconf("SC_CLK_TCK"), "memory": pages * os.sysconf("SC_PAGE_SIZE")}
    return {**used, "read": read, "written": written}
