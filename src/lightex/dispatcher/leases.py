"""Who holds what of a capacity, so that what runs at once fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lightex.core.taxonomy import Resources
from lightex.core.units import format_size, parse_size
from lightex.dispatcher.capacity import Capacity

_ROUNDING = 1e-9  # ten leases of 0.1 cpu must fit in one cpu


@dataclass(frozen=True)
class Lease:
    """What one job holds."""

    cpus: float
    memory: int
    gpus: tuple[str, ...]


class Pool:
    """A capacity, shared out."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.cpus = 0.0
        self.memory = 0
        self.gpus: list[str] = []

    def lease(self, needs: Resources) -> Lease | None:
        """Take what a job needs, or None if it is not free now."""
        if self.short_of(needs):
            return None
        free = [gpu for gpu in self.capacity.gpus if gpu not in self.gpus] if needs.gpus else []
        lease = Lease(needs.cpus, parse_size(needs.memory or 0), tuple(free[: needs.gpus]))
        self._add(lease)
        return lease

    def hold(self, needs: Resources, gpus: Iterable[str]) -> Lease:
        """Note what a job holds that was started before, also where it is more than there is."""
        lease = Lease(needs.cpus, parse_size(needs.memory or 0), tuple(gpus))
        self._add(lease)
        return lease

    def _add(self, lease: Lease) -> None:
        self.cpus += lease.cpus
        self.memory += lease.memory
        self.gpus += lease.gpus

    def release(self, lease: Lease) -> None:
        """Give back what a job held."""
        self.cpus -= lease.cpus
        self.memory -= lease.memory
        self.gpus = [gpu for gpu in self.gpus if gpu not in lease.gpus]

    def short_of(self, needs: Resources) -> str | None:
        """What is not free now of what a job needs, in words; None if all is."""
        capacity = self.capacity
        if self.cpus + needs.cpus > capacity.cpus + _ROUNDING:
            return f"a cpu ({self.cpus:g} of {capacity.cpus:g} in use)"
        if needs.memory and self.memory + parse_size(needs.memory) > capacity.memory:
            return f"memory ({format_size(self.memory)} of {format_size(capacity.memory)} in use)"
        if needs.gpus and len(self.gpus) + needs.gpus > len(capacity.gpus):
            return f"a GPU ({len(self.gpus)} of {len(capacity.gpus)} in use)"
        return None
