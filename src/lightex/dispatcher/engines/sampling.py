"""What the processes of a job use, by proc(5): CPU time, resident memory, disk, and a network of their own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines.cage import group_of, mount_of

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def members_of_group(folder: str) -> list[int]:
    """The processes in a control group's folder."""
    with suppress(OSError), open(f"{folder}/cgroup.procs") as file:  # noqa: PTH123  this is done for every run
        return [int(line) for line in file]
    return []


def members_of_container(pid: int) -> list[int]:
    """The processes that share the control group of a container's first one; that alone where groups are not known."""
    mount, _ = mount_of("memory")
    group = group_of("memory", pid)
    return (members_of_group(f"{mount}/{group.lstrip('/')}") if mount and group and group != "/" else []) or [pid]


def members_of_sessions(leaders: Collection[int]) -> Mapping[int, list[int]]:
    """The processes of some sessions, by their leaders, in one look at all processes."""
    found: dict[int, list[int]] = {leader: [] for leader in leaders}
    if found:
        for entry in os.listdir("/proc"):  # noqa: PTH208  as fast as can be
            if entry.isdigit():
                with suppress(OSError):
                    session = os.getsid(int(entry))
                    if session in found:
                        found[session].append(int(entry))
    return found


def used_by(pids: Iterable[int], leader: int) -> Usage:
    """What processes use together.

    Args:
        pids: which; those that have ended are left out.
        leader: the one whose network is theirs.
    """
    ticks = pages = read = written = 0
    disk = False
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # its own and those of its children that it has waited for
        pages += int(fields[21])
        with suppress(OSError), open(f"/proc/{pid}/io", "rb") as file:  # noqa: PTH123
            lines = file.read().split()
            read, written, disk = read + int(lines[9]), written + int(lines[11]), True
    received, sent = _network(leader)
    return Usage(
        cpu_seconds=ticks / _TICKS,
        memory=pages * _PAGE,
        read=read if disk else None,
        written=written if disk else None,
        received=received,
        sent=sent,
    )


def _network(pid: int) -> tuple[int | None, int | None]:
    """Bytes received and sent in a process's network namespace; unknown where it is ours, which others use too."""
    with suppress(OSError):
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:  # noqa: PTH116
            return None, None
        with open(f"/proc/{pid}/net/dev") as file:  # noqa: PTH123
            lines = [line.replace(":", " ").split() for line in file.read().splitlines()[2:]]
        others = [line for line in lines if line[0] != "lo"]
        return sum(int(line[1]) for line in others), sum(int(line[9]) for line in others)
    return None, None
