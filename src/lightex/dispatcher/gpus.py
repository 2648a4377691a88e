"""The GPUs of this machine and who is on them: the one place that asks NVML."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

# To initialise it takes far longer than to ask (up to a second for each GPU, without nvidia-persistenced), and a GPU is
# not reset while somebody has it: github.com/wookayin/gpustat, 54 and 166.
_KEPT = 30.0  # seconds that NVML stays initialised after a question

_PATIENCE = 5.0  # seconds: the driver of a GPU that has fallen off its bus may never answer
_PATIENCE_FIRST = 30.0  # the same until it has answered once: with many GPUs, and no nvidia-persistenced, it takes long


class _Asking:
    """A question to NVML, and its answer once there is one."""

    def __init__(self, question: Callable[[Any], Any]) -> None:
        self.question = question
        self.found: list[Any] = []
        self.error: Exception | None = None
        self.over = threading.Event()
        self.driver = _driver()
        self.until = time.monotonic() + (_PATIENCE if _answered else _PATIENCE_FIRST)


class _Driver(threading.Thread):
    """Asks NVML, one question after the other, in a thread that ends with the process: it may never answer."""

    def __init__(self) -> None:
        super().__init__(name="lx-nvml", daemon=True)
        self.questions = queue.SimpleQueue[_Asking | None]()  # None: enough
        self.left = False
        self.start()

    def run(self) -> None:
        """Answer until there are no more questions; NVML is initialised meanwhile."""
        import pynvml

        initialised = False
        while asking := self._next():
            try:
                if not initialised:
                    pynvml.nvmlInit()
                initialised = True
                asking.found.append(asking.question(pynvml))
            except pynvml.NVMLError:  # there is no driver, or it was loaded anew: nothing is found
                initialised = initialised and _shut_down(pynvml)
            except Exception as error:  # noqa: BLE001  it is raised to who has asked
                asking.error = error
            asking.over.set()
        if initialised:
            _shut_down(pynvml)

    def leave(self) -> None:
        """Answer no more; what was asked meanwhile is not answered."""
        with _turn:
            self.left = True
            self.questions.put(None)
            late = [each for each in _asking.values() if each.driver is self and not each.over.is_set()]
        if not any(time.monotonic() > each.until for each in late):  # else it hangs
            self.join(_PATIENCE)

    def _next(self) -> _Asking | None:
        try:
            return self.questions.get(timeout=_KEPT)
        except queue.Empty:
            with _turn:
                self.left = self.questions.empty()
            return None if self.left else self.questions.get()


_asking: dict[Callable[[Any], Any], _Asking] = {}  # the last of each question
_answered: list[bool] = []  # whether there was an answer to any, here or in the process that this one was forked from
_drivers: list[_Driver] = []  # the one there is, or none
_turn = threading.Lock()


def _driver() -> _Driver:
    if not _drivers or _drivers[0].left or not _drivers[0].is_alive():
        _drivers[:] = [_Driver()]
    return _drivers[0]


def _shut_down(nvml: Any) -> bool:
    """End NVML; whether it is still initialised."""
    with suppress(nvml.NVMLError):
        nvml.nvmlShutdown()
    return False


def _let_go() -> None:
    """End NVML: a fork must not have what this process has of it."""
    for driver in list(_drivers):
        driver.leave()


def _begin_anew() -> None:
    """Forget the parent's thread and what it was asked."""
    global _turn  # noqa: PLW0603  who held it is not here
    _turn = threading.Lock()
    _asking.clear()
    _drivers.clear()


os.register_at_fork(before=_let_go, after_in_child=_begin_anew)


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


def _asked(question: Callable[[Any], T], otherwise: T) -> T:
    """An answer of NVML; without one in time, another: who asks must go on.

    Who asks while the same is being asked gets that answer; until it comes nothing is asked anew.
    """
    with _turn:
        asking = _asking.get(question)
        if asking is None or asking.over.is_set() or not asking.driver.is_alive():
            asking = _asking[question] = _Asking(question)
            asking.driver.questions.put(asking)
    asking.over.wait(max(0.0, asking.until - time.monotonic()))
    if asking.error:
        raise asking.error
    if not asking.found:
        return otherwise
    _answered[:] = [True]
    found: T = asking.found[0]
    return found


def _probe(nvml: Any) -> tuple[Gpu, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = _indices(nvml) if visible is None else _names(visible)
    return tuple(found for name in names if (found := _gpu(nvml, name)))


def _loads(nvml: Any) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    # By index, whatever this process may use: others' leases name others. Parts of GPUs (MIG) have no index.
    for name in dict.fromkeys([*_indices(nvml), *_names(os.environ.get("CUDA_VISIBLE_DEVICES", ""))]):
        with suppress(nvml.NVMLError):  # one that is lost; the others go on
            handle, load = _handle(nvml, name), dict[str, float]()
            uuid = nvml.nvmlDeviceGetUUID(handle)
            found[name] = found[uuid if isinstance(uuid, str) else uuid.decode()] = load
            with suppress(nvml.NVMLError):  # not told where it is the machine's
                load["memory"] = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
            with suppress(nvml.NVMLError):  # not told of parts of a GPU
                load["use"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    return found


def _gpu(nvml: Any, name: str) -> Gpu | None:
    """One GPU; None: there is none of that name, or it is lost."""
    try:
        handle = _handle(nvml, name)
        memory = _memory(nvml, handle)
    except nvml.NVMLError:
        return None
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:  # not all drivers and virtual GPUs tell
        return Gpu(name, memory)
    return Gpu(name, memory, {int(each.pid): each.usedGpuMemory for each in processes})


def _memory(nvml: Any, handle: Any) -> int:
    """The bytes of a GPU; where it has none of its own (Jetson, GB10) it uses the machine's."""
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError_NotSupported:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _handle(nvml: Any, name: str) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)


def _indices(nvml: Any) -> list[str]:
    return [str(index) for index in range(nvml.nvmlDeviceGetCount())]


def _names(visible: str) -> list[str]:
    return [name.strip() for name in visible.split(",") if name.strip()]
