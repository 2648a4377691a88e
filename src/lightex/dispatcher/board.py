"""What is free of a capacity while some hold leases: whether a wish fits, and where."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from lightex.core.units import format_size
from lightex.dispatcher.book import Entry
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.proc import mark_of

_ROUNDING = 1e-9  # ten leases of 0.1 cpu must fit in one cpu


class Board:
    """A picture of one moment. GPUs are looked at only where somebody wishes for some: that asks NVML.

    Args:
        capacity: what there is.
        leases: who holds what.
    """

    def __init__(self, capacity: Capacity, leases: Iterable[Entry]) -> None:
        self.capacity = capacity
        self.leases = list(leases)
        self.cpus = sum(entry.cpus for entry in self.leases)
        self.memory = sum(entry.memory for entry in self.leases)
        self._free: dict[str, int] | None = None
        self.strangers: dict[str, list[int]] = {}  # GPU -> processes there that hold no lease of it

    @property
    def gpus(self) -> dict[str, int]:
        """The free bytes of each GPU. One with a stranger on it is never whole."""
        if self._free is None:
            self._free = {gpu.name: gpu.memory for gpu in self.capacity.gpus}
            for entry in self.leases:
                self._occupy(entry.gpus)
            for gpu in self.capacity.gpus:
                holders = [entry for entry in self.leases if gpu.name in entry.gpus]
                strangers = {pid: used for pid, used in gpu.used.items() if not _is_of(pid, holders)}
                if strangers:
                    self.strangers[gpu.name] = list(strangers)
                    used = sum(gpu.memory if size is None else size for size in strangers.values())
                    self._free[gpu.name] -= max(1, used)
        return self._free

    def fits(self, wish: Entry) -> dict[str, int | None] | None:
        """The GPUs that a wish would get (none where it needs none), or None where something is not free."""
        if self.short_of(wish):
            return None
        return dict.fromkeys(self._places(wish)[: wish.gpu_count], wish.gpu_memory) if wish.gpu_count else {}

    def short_of(self, wish: Entry) -> str | None:
        """What is not free of a wish, in words; None where all is."""
        cpus, memory = self.capacity.cpus, self.capacity.memory
        if wish.cpus and self.cpus + wish.cpus > cpus + _ROUNDING:
            return f"a cpu ({self.cpus:g} of {cpus:g} in use)"
        if wish.memory and self.memory + wish.memory > memory:
            return f"memory ({format_size(self.memory)} of {format_size(memory)} in use)"
        if wish.gpu_count and len(free := self._places(wish)) < wish.gpu_count:
            total = len(self.gpus)
            share = f"{format_size(wish.gpu_memory)} of " if wish.gpu_memory else ""
            what = f"{share}a GPU" if wish.gpu_count == 1 else f"{share}{wish.gpu_count} GPUs"
            if not total:  # there were some when it was submitted
                return f"{what} (the driver does not answer, or tells of none: nvidia-smi)"
            return f"{what} ({total - len(free)} of {total} in use)"
        return None

    def take(self, wish: Entry) -> None:
        """Count a wish as given, also one that does not fit: then it has the places that come nearest to it."""
        self.cpus += wish.cpus
        self.memory += wish.memory
        if wish.gpu_count:
            nearest = sorted(self.gpus, key=lambda name: -self.gpus[name])
            places = list(dict.fromkeys([*self._places(wish), *nearest]))[: wish.gpu_count]
            self._occupy(dict.fromkeys(places, wish.gpu_memory))

    def _places(self, wish: Entry) -> list[str]:
        """The GPUs where it fits; the emptiest first where they are shared, so that each does its part."""
        if wish.gpu_memory is None:
            return [gpu.name for gpu in self.capacity.gpus if self.gpus[gpu.name] == gpu.memory]
        fitting = [name for name, free in self.gpus.items() if free >= wish.gpu_memory]
        return sorted(fitting, key=lambda name: -self.gpus[name])

    def _occupy(self, places: dict[str, int | None]) -> None:
        free = self.gpus
        for gpu in self.capacity.gpus:
            if gpu.name in places:
                size = places[gpu.name]
                free[gpu.name] -= gpu.memory if size is None else size


def _is_of(pid: int, entries: Collection[Entry]) -> bool:
    """Whether a process belongs to one of some runs: by its session, or by its environment where it has begun one."""
    try:
        session = os.getsid(pid)
    except ProcessLookupError:  # it is not to be seen from here (another container's)
        return False
    if any(entry.job and session == int(entry.job.partition(":")[0]) for entry in entries):
        return True
    return not mark_of(pid).isdisjoint(f"LX_RUN_DIR={entry.run}".encode() for entry in entries)
