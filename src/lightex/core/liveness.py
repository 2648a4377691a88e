"""Whether a process that wrote down its id is still the one that runs under it."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any


@cache
def host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def user() -> str:
    """The name of the user, or the number of one without a name (as in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def birth_mark(pid: int, zombies: bool = False) -> str | None:
    """What tells a process from a later one with the same id: its start in clock ticks since boot.

    None: there is no such process, or (unless `zombies`) it has ended and waits for its parent. On systems without
    /proc the mark is empty and the id alone has to do.
    """
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123  this is done for every run
            stat = file.read()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            with suppress(PermissionError):
                os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return ""
    except ProcessLookupError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may hold spaces and parentheses: proc(5)
    return None if fields[0] in "ZX" and not zombies else fields[19]


def lives(mark: str) -> bool:
    """Whether a process still runs, by "PID:BORN"."""
    pid, _, born = mark.partition(":")
    return pid.isdigit() and birth_mark(int(pid)) == born


def process_mark(pid: int, zombies: bool = False) -> dict[str, Any]:
    """What an event tells of a process, for `alive`."""
    return {"host": host(), "pid": pid, "born": birth_mark(pid, zombies)}


def alive(mark: dict[str, Any] | None) -> bool | None:
    """Whether the process of a mark still runs; None if that cannot be known (another machine, no mark)."""
    if not mark or mark.get("host") != host() or not isinstance(mark.get("pid"), int):
        return None
    born = birth_mark(mark["pid"])
    return born is not None and born == mark.get("born")
