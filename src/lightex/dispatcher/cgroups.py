"""Where the control groups of processes are (cgroups(7)), of version 1 or 2."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def mount_of(controller: str) -> tuple[Path | None, int]:
    """Where a controller's groups are mounted, and their version: proc_pid_mounts(5)."""
    second: Path | None = None
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, folder, kind, options = line.split()[:4]
            if kind == "cgroup" and controller in options.split(","):
                return Path(folder), 1
            if kind == "cgroup2" and controller in (Path(folder) / "cgroup.controllers").read_text().split():
                second = Path(folder)
    return second, 2


def group_of(controller: str, pid: int) -> str | None:
    """The path of a process's group within its hierarchy: /proc/PID/cgroup."""
    found = None
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return path
            if number == "0":
                found = path
    return found


def own_folders(controller: str) -> list[Path]:
    """The folders of the group that this process is in, and of those above it: the limits of all of them hold."""
    mount, _ = mount_of(controller)
    if mount is None:
        return []
    own = mount / (group_of(controller, os.getpid()) or "").lstrip("/")
    own = own if own.is_dir() else mount  # in a container the path may be that of the host
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(mount)]
