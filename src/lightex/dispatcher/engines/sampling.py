"""What the processes of a job on this machine use: CPU time, memory, disk, and a network of their own; and the most
memory that their control group has held at once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lightex.dispatcher.cgroups import group_of, mount_of
from lightex.dispatcher.engine import Usage
from lightex.dispatcher.proc import count

# Files of version 1 (admin-guide/cgroup-v1/memory.rst, cpuacct.rst) and of version 2 (admin-guide/cgroup-v2.rst).
_MEMORY = ("memory.max_usage_in_bytes", "memory.peak")
_NANOSECONDS, _MICROSECONDS = "cpuacct.usage", "cpu.stat"


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


def used_by(pids: Iterable[int], leader: int) -> Usage:
    """What processes use together.

    Args:
        pids: which; those that have ended are left out.
        leader: the one whose network is theirs.
    """
    received, sent = _network(leader)
    return Usage(**count(pids), received=received, sent=sent)


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


def counted(pid: int) -> tuple[float | None, int | None]:
    """CPU seconds, and peak memory in bytes, of all that is in the groups of a process; None: it is not counted."""
    return _cpu(pid), _peak(pid)


def _cpu(pid: int) -> float | None:
    if text := _read(pid, "cpuacct", _NANOSECONDS):
        return int(text) / 1e9
    words = _read(pid, "cpu", _MICROSECONDS).split()
    return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else None


def _peak(pid: int) -> int | None:
    return next((int(text) for name in _MEMORY if (text := _read(pid, "memory", name).strip())), None)


def _read(pid: int, controller: str, name: str) -> str:
    mount, _ = mount_of(controller)
    group = group_of(controller, pid)
    if mount and group:
        with suppress(OSError):
            return (Path(mount) / group.lstrip("/") / name).read_text()
    return ""
