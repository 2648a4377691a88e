"""Cages: what holds a process experiment to its memory and its CPUs, and finds all that it started.

A cage is a control group (cgroups(7)), of version 1 or 2, whichever has the controller; where this process may not make
one, memory is bounded by RLIMIT_DATA (setrlimit(2)) and CPUs are not.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lightex.core.liveness import birth_mark
from lightex.dispatcher.cgroups import group_of, mount_of, own_folders

_PERIOD = 100_000  # microseconds: the kernel's default for CPU quotas (admin-guide/cgroup-v2, cpu.max)
_LEAST_QUOTA = 1000  # microseconds: the least that the kernel takes
_PREFIX = "lx-"
_NUMBERS = itertools.count()
_PATIENCE = 2.0  # seconds for what was killed to be gone


@dataclass
class Cage:
    """The groups that one run after the other lives in.

    Attributes:
        folders: where its controllers are; one folder for all of version 2.
        homes: where this process is in these hierarchies otherwise.
        memory: the folder that tells of memory, and its limit in bytes; None: not limited.
        cpu: the folder that limits CPUs, and how many cores; None: not limited.
        oom_before: how many processes were killed for memory in it before the present run.
        limits: cores and bytes, 0: none; of one that this process has made.
    """

    folders: tuple[str, ...]
    homes: tuple[str, ...] = ()
    memory: tuple[str, int] | None = None
    cpu: tuple[str, float] | None = None
    oom_before: int = 0
    limits: tuple[float, int] | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within this block this process is inside, so that what it starts is so from its first moment on.

        Moving a process that has just been started comes too late for what it starts in turn, and a shell that moves
        itself before it becomes the command costs 0.8 ms; this costs 0.1 ms.
        """
        try:
            for folder in self.folders:
                _join(folder)
            yield
        finally:
            for home in self.homes:
                _join(home)
        if self.cpu:  # only now: a group whose time is used up would hold this process as well
            _limit_cpus(*self.cpu)

    def oom_kills(self) -> int:
        """How many processes of the present run were killed for memory."""
        for name in ("memory.events", "memory.oom_control") if self.memory else ():
            with suppress(OSError):
                words = Path(self.memory[0], name).read_text().split()  # type: ignore[index]
                if "oom_kill" in words:
                    return int(words[words.index("oom_kill") + 1]) - self.oom_before
        return 0

    def empty(self) -> bool:
        """Kill what is left inside; whether nothing is."""
        left = [line for folder in self.folders for line in _read(f"{folder}/cgroup.procs").split()]
        for line in left:
            with suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
        return not left

    def remove(self) -> bool:
        """Take it away; False: something inside is still dying."""
        for folder in self.folders:
            try:
                os.rmdir(folder)  # noqa: PTH106
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


class Cages:
    """Makes cages, where the system lets this process, and uses them again for runs with the same limits.

    Attributes:
        bases: the folder below which groups are made, by controller ("cpu", "memory"); none where that is not allowed.
    """

    def __init__(self) -> None:
        self.bases = {name: base for name in ("cpu", "memory") if (base := _base(name))}
        self._homes = {name: str(own_folders(name)[0]) for name in self.bases}
        self._free: dict[tuple[float, int], list[Cage]] = {}
        self._emptying: list[Cage] = []
        for folder in {folder for base in self.bases.values() for folder in base.glob(f"{_PREFIX}*")}:
            pid, _, born = folder.name.removeprefix(_PREFIX).rpartition("-")[0].partition("-")
            if pid.isdigit() and birth_mark(int(pid)) != born:  # a dispatcher that was killed has left it
                with suppress(OSError):
                    folder.rmdir()

    def get(self, cpus: float, memory: int) -> Cage | None:
        """A cage for one run.

        Args:
            cpus: CPU cores; 0: no limit.
            memory: bytes; 0: no limit.

        Returns:
            The cage; None where nothing is to be bounded that can be.
        """
        limits = cpus if "cpu" in self.bases else 0.0, memory if "memory" in self.bases else 0
        if not any(limits):
            return None
        return self._free[limits].pop() if self._free.get(limits) else self._make(*limits)

    def give_back(self, cage: Cage) -> None:
        """Let a run's cage be used again, once all that is left in it has been killed."""
        cage.oom_before += cage.oom_kills()
        if not cage.empty():
            self._emptying.append(cage)
        elif cage.limits:
            if cage.cpu:
                _limit_cpus(cage.cpu[0], None)
            self._free.setdefault(cage.limits, []).append(cage)
        else:
            cage.remove()

    def tend(self) -> None:
        """Look whether what was killed is gone."""
        emptying, self._emptying = self._emptying, []
        for cage in emptying:
            self.give_back(cage)

    def close(self) -> None:
        """Take all unused cages away."""
        deadline = time.monotonic() + _PATIENCE
        while (self._emptying or self._free) and time.monotonic() < deadline:
            self.tend()
            free = {limits: [cage for cage in cages if not cage.remove()] for limits, cages in self._free.items()}
            self._free = {limits: cages for limits, cages in free.items() if cages}
            time.sleep(0.001 if self._emptying or self._free else 0)

    def find(self, pid: int) -> Cage | None:
        """The cage that a process is in, which another dispatcher has made."""
        folders = {key: str(base / Path(group_of(key, pid) or "/").name) for key, base in self.bases.items()}
        folders = {key: folder for key, folder in folders.items() if Path(folder).name.startswith(_PREFIX)}
        limit = _limit_of(folders["memory"]) if "memory" in folders else None
        memory = (folders["memory"], limit) if limit is not None else None
        return Cage(tuple(sorted(set(folders.values()))), memory=memory) if folders else None

    def _make(self, cpus: float, memory: int) -> Cage | None:
        name = f"{_PREFIX}{os.getpid()}-{birth_mark(os.getpid())}-{next(_NUMBERS)}"
        folders = {key: str(base / name) for key, base in self.bases.items() if (cpus if key == "cpu" else memory)}
        homes = {self._homes[key] for key in folders}
        cage = Cage(
            folders=tuple(sorted(set(folders.values()))),
            homes=tuple(sorted(homes)),
            memory=(folders["memory"], memory) if memory else None,
            cpu=(folders["cpu"], cpus) if cpus else None,
            limits=(cpus, memory),
        )
        try:
            for folder in cage.folders:
                os.mkdir(folder)  # noqa: PTH102
            if memory:
                _limit_memory(Path(folders["memory"]), memory)
        except OSError:  # the group we live in was taken away, or its own limits refuse
            cage.remove()
            return None
        return cage


def bound(pid: int, memory: int) -> None:
    """Bound the memory, in bytes, of each of the processes that a process will be."""
    if hasattr(resource, "prlimit"):
        with suppress(OSError):  # it has ended already
            resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))


def machine_oom_kills() -> int:
    """How many processes of this machine, or of the container that we are in, were killed for memory so far."""
    found = 0
    for name in ("/proc/vmstat", "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with suppress(OSError):
            words = Path(name).read_text().split()
            found += int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
    return found


def _limit_memory(folder: Path, size: int) -> None:
    if (folder / "memory.max").exists():
        (folder / "memory.max").write_text(str(size))
        with suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
        return
    (folder / "memory.limit_in_bytes").write_text(str(size))
    with suppress(OSError):  # where swap is not accounted for, the file is missing
        (folder / "memory.memsw.limit_in_bytes").write_text(str(size))


def _limit_cpus(folder: str, cpus: float | None) -> None:
    """Bound the CPUs of a group; None: no more."""
    quota = None if cpus is None else max(_LEAST_QUOTA, round(cpus * _PERIOD))
    try:
        _write(f"{folder}/cpu.cfs_quota_us", str(quota or -1))
    except FileNotFoundError:
        _write(f"{folder}/cpu.max", f"{quota or 'max'} {_PERIOD}")


def _base(controller: str) -> Path | None:
    """The nearest group, from ours upwards, in which this process may make groups with that controller."""
    _, version = mount_of(controller)
    for base in own_folders(controller):
        if os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK) and _gives(base, controller, version):
            return base
    return None


def _gives(base: Path, controller: str, version: int) -> bool:
    """Whether a group made in a base has a controller."""
    if version == 1:
        return True
    control = base / "cgroup.subtree_control"
    with suppress(OSError):
        if controller not in control.read_text().split():
            control.write_text(f"+{controller}")  # refused where the base has processes itself
        return controller in control.read_text().split()
    return False


def _limit_of(folder: str) -> int | None:
    """The limit of a group's memory in bytes."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (text := _read(f"{folder}/{name}").strip()).isdigit():
            return int(text)
    return None


def _read(path: str) -> str:
    try:
        with open(path) as file:  # noqa: PTH123  this is done for every run
            return file.read()
    except OSError:
        return ""


def _join(folder: str) -> None:
    """Move this process into a group. Version 1 can move its thread alone, and spares the kernel a global lock then
    (kernel/cgroup/cgroup.c, cgroup_procs_write_start), which costs milliseconds."""
    try:
        _write(f"{folder}/tasks", "0")
    except FileNotFoundError:
        _write(f"{folder}/cgroup.procs", "0")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
