"""What this machine has to share out: processors, memory, GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lightex.core.taxonomy import Resources
from lightex.core.units import format_size, parse_size
from lightex.dispatcher.cgroups import own_folders
from lightex.dispatcher.gpus import Gpu, probe_gpus

_MEMORY = ("memory.max", "memory.limit_in_bytes")
_GPUS_KEPT = 1.0  # seconds: a look takes NVML some milliseconds


@dataclass(frozen=True)
class Capacity:
    """What an engine has to share out. GPUs are asked for only when they matter: that loads NVML."""

    cpus: float
    memory: int
    find_gpus: Callable[[], tuple[Gpu, ...]] = field(default=probe_gpus)
    _seen: list[tuple[float, tuple[Gpu, ...]]] = field(default_factory=list, compare=False, repr=False)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs and who is on them, as of a second ago at most."""
        if not self._seen or time.monotonic() - self._seen[-1][0] > _GPUS_KEPT:
            self._seen[:] = [(time.monotonic(), self.find_gpus())]
        return self._seen[-1][1]

    def lacks(self, needs: Resources) -> str | None:
        """Why this can never be given, or None if it can."""
        memory = parse_size(needs.memory or 0)
        if needs.cpus > self.cpus:
            return f"needs {needs.cpus:g} cpus, there are {self.cpus:g}"
        if memory > self.memory:
            return f"needs {format_size(memory)} of memory, there are {format_size(self.memory)}"
        if needs.gpu_count and needs.gpu_count > len(self.gpus):
            none = "" if self.gpus else " (the driver does not answer, or tells of none: nvidia-smi)"
            return f"needs {needs.gpu_count} GPUs, there are {len(self.gpus)}{none}"
        if needs.gpu_memory:
            wanted = parse_size(needs.gpu_memory)
            if sum(gpu.memory >= wanted for gpu in self.gpus) < needs.gpu_count:
                largest = format_size(max(gpu.memory for gpu in self.gpus))
                return f"needs {format_size(wanted)} of a GPU's memory, the largest here has {largest}"
        return None


def this_machine() -> Capacity:
    """What this process may use of this machine: its CPU set counts, and the limits of its control groups."""
    cpus: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in own_folders("memory"):  # of version 2, and of version 1
        limits += [int(text) for name in _MEMORY if (text := _read(folder / name)).isdigit()]
    for folder in own_folders("cpu"):
        words = _read(folder / "cpu.max").split()
        words = words or [_read(folder / f"cpu.cfs_{word}_us") for word in ("quota", "period")]
        if all(word.isdigit() for word in words):  # else there is none
            cpus = min(cpus, int(words[0]) / int(words[1]))
    return Capacity(cpus, min(limits))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
