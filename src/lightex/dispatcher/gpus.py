"""The GPUs of this machine and who is on them: the one place that asks NVML."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 5.0  # seconds: the driver of a GPU that has fallen off its bus may never answer
_PATIENCE_FIRST = 30.0  # the same until it has answered once: with many GPUs, and no nvidia-persistenced, it takes long


class _Asking:
    """A question to NVML, in a thread that ends with the process."""

    def __init__(self, question: Callable[[], Any]) -> None:
        self.found: list[Any] = []
        self.error: Exception | None = None
        self.until = time.monotonic() + (_PATIENCE if _answered else _PATIENCE_FIRST)
        self.thread = threading.Thread(target=self._ask, args=(question,), name="lx-nvml", daemon=True)
        self.thread.start()

    def _ask(self, question: Callable[[], Any]) -> None:
        try:
            self.found.append(question())
        except Exception as error:  # noqa: BLE001  it is raised to who has asked
            self.error = error


_asking: dict[Callable[[], Any], _Asking] = {}  # the last of each question
_answered: list[bool] = []  # whether there was an answer to any, here or in the process that this one was forked from
_turn = threading.Lock()


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as CUDA_VISIBLE_DEVICES names it: its index, or its UUID where that variable has UUIDs.
        memory: bytes in all.
        used: bytes that each process which computes on it uses, by process id; None: all that there is.
    """

    name: str
    memory: int
    used: Mapping[int, int | None] = field(default_factory=dict)


def probe_gpus() -> tuple[Gpu, ...]:
    """The GPUs that may be used here; none where there is no driver, or it does not answer.

    CUDA_VISIBLE_DEVICES, where it is set, bounds them, as it does for CUDA.
    """
    return _asked(_probe, ())


def gpu_loads() -> dict[str, dict[str, float]]:
    """What each GPU does, by the names that CUDA_VISIBLE_DEVICES has for it (index, UUID).

    `use` is the share of the last moment in which it computed, `memory` the bytes in use by all processes. Empty where
    there is no driver, or it does not answer.
    """
    return _asked(_loads, {})


def _asked(question: Callable[[], T], otherwise: T) -> T:
    """An answer of NVML; without one in time, another: who asks must go on.

    Who asks while the same is being asked gets that answer; until it comes nothing is asked anew.
    """
    with _turn:
        asking = _asking.get(question)
        if asking is None or not asking.thread.is_alive():
            asking = _asking[question] = _Asking(question)
    asking.thread.join(max(0.0, asking.until - time.monotonic()))
    if asking.error:
        raise asking.error
    if not asking.found:
        return otherwise
    _answered[:] = [True]
    found: T = asking.found[0]
    return found


def _probe() -> tuple[Gpu, ...]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = pynvml.nvmlDeviceGetCount()
        names = [str(index) for index in range(count)]
        if visible is not None:
            allowed = [name.strip() for name in visible.split(",") if name.strip()]
            names = [name for name in allowed if not name.isdigit() or name in names]
        return tuple(found for name in names if (found := _gpu(pynvml, name)))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, name: str) -> Gpu | None:
    """One GPU; None: there is none of that UUID."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:
        return None
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:  # not all drivers and virtual GPUs tell
        return Gpu(name, memory)
    return Gpu(name, memory, {int(each.pid): each.usedGpuMemory for each in processes})


def _loads() -> dict[str, dict[str, float]]:
    import pynvml

    found: dict[str, dict[str, float]] = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return found
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            load: dict[str, float] = {"memory": int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)}
            with suppress(pynvml.NVMLError):  # not told of parts of a GPU (MIG)
                load["use"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            found[str(index)] = found[uuid if isinstance(uuid, str) else uuid.decode()] = load
    except pynvml.NVMLError:
        return found
    finally:
        pynvml.nvmlShutdown()
    return found
