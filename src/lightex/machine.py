"""What this machine is like now, by the dispatcher's own book, for those who watch."""

from __future__ import annotations

import time

from lightex.core.errors import StorageError
from lightex.core.machine import Device, Machine
from lightex.core.rundir import short
from lightex.dispatcher.board import Board
from lightex.dispatcher.book import Book, Entry
from lightex.dispatcher.capacity import Capacity, this_machine
from lightex.dispatcher.gpus import gpu_loads

_KEPT = 1.0  # seconds: GPUs are asked no more often


class Machines:
    """Looks at this machine, not more than once a second."""

    def __init__(self) -> None:
        self._capacity: Capacity = this_machine()
        self._seen: tuple[float, Machine] | None = None

    def look(self) -> Machine:
        """What it is like now."""
        if self._seen is None or time.monotonic() - self._seen[0] > _KEPT:
            self._seen = (time.monotonic(), self._look())
        return self._seen[1]

    def _look(self) -> Machine:
        try:
            page = Book().read()
            leases, waiters = page.leases, page.waiters
        except StorageError:  # another user's, locked for long: who holds what is not known
            leases, waiters = [], []
        capacity = self._capacity
        board = Board(capacity, leases)
        devices = []
        if capacity.gpus:
            loads, free = gpu_loads(), board.gpus
            for gpu in capacity.gpus:
                load = loads.get(gpu.name, {})
                held = [_name(entry) for entry in leases if gpu.name in entry.gpus]
                used = load.get("memory", float(gpu.memory - free[gpu.name]))
                strangers = board.strangers.get(gpu.name, [])
                devices.append(Device(gpu.name, gpu.memory, used, load.get("use"), held, strangers))
        return Machine(
            cpus=capacity.cpus,
            cpus_leased=board.cpus,
            memory=capacity.memory,
            memory_leased=board.memory,
            holders=[_row(entry) for entry in leases],
            waiters=[_row(entry) for entry in waiters],
            devices=devices,
        )


def _name(entry: Entry) -> str:
    return short(entry.run.rpartition("/")[2])


def _row(entry: Entry) -> tuple[str, str, float, int]:
    return _name(entry), entry.user, entry.cpus, entry.memory
