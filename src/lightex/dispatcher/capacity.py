"""What this machine has to share out: processors, memory, GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lightex.core.taxonomy import Resources
from lightex.core.units import format_size, parse_size


def probe_gpus() -> tuple[str, ...]:
    """The GPUs that may be used here, as CUDA_VISIBLE_DEVICES names them: by index, or as that variable has them.

    The variable, where it is set, bounds them, as it does for CUDA.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        found = [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(found)
    allowed = [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(name for name in allowed if not name.isdigit() or name in found)


@dataclass(frozen=True)
class Capacity:
    """What an engine has to share out. GPUs are asked for only when they matter: that loads NVML."""

    cpus: float
    memory: int
    find_gpus: Callable[[], tuple[str, ...]] = field(default=probe_gpus)

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        """The names of the GPUs."""
        return self.find_gpus()

    def lacks(self, needs: Resources) -> str | None:
        """Why this can never be given, or None if it can."""
        memory = parse_size(needs.memory or 0)
        if needs.cpus > self.cpus:
            return f"needs {needs.cpus:g} cpus, there are {self.cpus:g}"
        if memory > self.memory:
            return f"needs {format_size(memory)} of memory, there are {format_size(self.memory)}"
        if needs.gpus and needs.gpus > len(self.gpus):
            return f"needs {needs.gpus} GPUs, there are {len(self.gpus)}"
        return None


def this_machine() -> Capacity:
    """What this process may use of this machine: its CPU set and cgroup limits count."""
    cpus: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(name)
        if text.isdigit():
            limits.append(int(text))
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cpus = min(cpus, int(quota) / int(period))
    return Capacity(cpus, min(limits))


def _read(name: str) -> str:
    try:
        return Path(name).read_text().strip()
    except OSError:
        return ""
