"""What the control groups of a process count: CPU time, and the most memory that it has held at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lightex.dispatcher.engines.cage import group_of, mount_of

# Files of version 1 (admin-guide/cgroup-v1/memory.rst, cpuacct.rst) and of version 2 (admin-guide/cgroup-v2.rst).
_MEMORY = ("memory.max_usage_in_bytes", "memory.peak")
_NANOSECONDS, _MICROSECONDS = "cpuacct.usage", "cpu.stat"


def usage(pid: int) -> tuple[float | None, int | None]:
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
