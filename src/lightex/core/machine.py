"""What this machine has to share out, and who holds it, as it is told to those who watch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Device:
    """A GPU of this machine.

    Attributes:
        name: as CUDA_VISIBLE_DEVICES names it.
        memory: bytes in all.
        used: bytes in use, by all processes.
        use: the share of the last moment in which it computed; None: not told.
        runs: ids of the runs that hold it, with who runs them.
        strangers: processes on it that hold no lease.
    """

    name: str
    memory: int
    used: float
    use: float | None
    runs: list[str]
    strangers: list[int]


@dataclass(frozen=True)
class Machine:
    """This machine.

    Attributes:
        cpus: cores that there are to share out.
        cpus_leased: cores that are leased.
        memory: bytes that there are.
        memory_leased: bytes that are leased.
        holders: run id, who runs it, cores, bytes, of each lease.
        waiters: the same of who waits.
        devices: the GPUs.
    """

    cpus: float
    cpus_leased: float
    memory: int
    memory_leased: int
    holders: list[tuple[str, str, float, int]]
    waiters: list[tuple[str, str, float, int]]
    devices: list[Device] = field(default_factory=list)
