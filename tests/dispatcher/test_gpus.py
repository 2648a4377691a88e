"""What NVML tells of GPUs; what it does not tell, or tells too late, holds nobody up."""

import os
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightex.dispatcher import gpus
from lightex.dispatcher.gpus import Gpu, gpu_loads, probe_gpus
from tests.helpers import wait_for


@pytest.fixture(autouse=True)
def anew():
    """What has NVML loaded ends before each test, and after it."""

    def end():
        gpus._let_go()
        gpus._begin_anew()

    end()
    yield
    end()


@pytest.fixture
def initialised(monkeypatch):
    """How often NVML is initialised just now, with the most that it was."""
    now = [0, 0]

    def change(by):
        now[0] += by
        now[1] += by > 0

    made = library(nvmlInit=lambda: change(1), nvmlShutdown=lambda: change(-1))
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return now


class NVMLError(Exception):
    """What the driver's library raises."""


class NotSupported(NVMLError):
    """What it raises where it cannot tell."""


def only(known):
    """Answers by handle; the others are not supported."""

    def answer(handle):
        if handle not in known:
            raise NotSupported
        return types.SimpleNamespace(**known[handle])

    return answer


def library(**more):
    """A stand-in for NVML with two GPUs, the second of which does not tell its use; there is no driver here."""

    found = types.ModuleType("pynvml")
    for name, value in {
        "NVMLError": NVMLError,
        "NVMLError_NotSupported": NotSupported,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=(handle + 1) << 30, total=80 << 30),
        "nvmlDeviceGetUtilizationRates": only({0: {"gpu": 70}}),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [types.SimpleNamespace(pid=7, usedGpuMemory=None)],
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}".encode() if handle else "GPU-0",
        **more,
    }.items():
        setattr(found, name, value)
    return found


def test_what_gpus_do_is_told_by_index_and_uuid(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    first, second = {"memory": 1 << 30, "use": 0.7}, {"memory": 2 << 30}
    assert gpu_loads() == {"0": first, "GPU-0": first, "1": second, "GPU-1": second}


def test_one_that_is_lost_hides_no_other(monkeypatch):
    def handle(index):
        if index == 0:
            raise NVMLError
        return index

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetHandleByIndex=handle))
    assert gpu_loads().keys() == {"1", "GPU-1"}
    assert probe_gpus() == (Gpu("1", 80 << 30, {7: None}),)


def test_one_without_memory_of_its_own_uses_the_machines(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetMemoryInfo=only({})))
    assert [gpu.memory for gpu in probe_gpus()] == [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    assert gpu_loads()["0"] == {"use": 0.7}


def test_a_part_of_one_is_known_by_its_uuid_and_tells_its_memory(monkeypatch):
    info = only({"MIG-a": {"used": 5, "total": 10 << 30}, 0: {"used": 9, "total": 80 << 30}})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a, ")
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetMemoryInfo=info, nvmlDeviceGetUUID=str))
    assert probe_gpus() == (Gpu("MIG-a", 10 << 30, {7: None}),)
    assert gpu_loads()["MIG-a"] == {"memory": 5}


def test_without_a_driver_nothing_is_told(monkeypatch):
    def fails():
        raise NVMLError

    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=fails))
    assert gpu_loads() == {}
    assert probe_gpus() == ()


def test_a_driver_that_hangs_holds_nobody_up_and_is_asked_again_when_it_has_answered(monkeypatch):
    asked, answers = [], threading.Event()

    def hangs():
        asked.append(1)
        answers.wait(20)

    monkeypatch.setattr("lightex.dispatcher.gpus._PATIENCE", 0.05)
    monkeypatch.setattr("lightex.dispatcher.gpus._PATIENCE_FIRST", 0.05)
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=hangs))
    assert [gpu_loads(), gpu_loads()] == [{}, {}]
    assert len(asked) == 1
    answers.set()
    wait_for(lambda: gpu_loads().keys() == {"0", "1", "GPU-0", "GPU-1"})


def test_several_who_ask_at_once_get_the_same_answer(monkeypatch):
    asked, here = [], threading.Barrier(3)

    def slow():
        asked.append(1)
        time.sleep(0.2)

    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=slow))

    def ask(_):
        here.wait(10)
        return gpu_loads()

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(ask, range(3)))
    assert [len(each) for each in found] == [4, 4, 4]
    assert len(asked) == 1


def test_it_is_initialised_once_and_given_up_when_nobody_asks(initialised, monkeypatch):
    monkeypatch.setattr(gpus, "_KEPT", 0.2)
    assert [len(gpu_loads()) for _ in range(5)] == [4] * 5
    assert len(probe_gpus()) == 2
    assert initialised == [1, 1]
    wait_for(lambda: initialised[0] == 0)
    assert len(gpu_loads()) == 4
    assert initialised == [1, 2]


def test_it_is_initialised_anew_after_the_driver_has_failed(initialised, monkeypatch):
    assert len(gpu_loads()) == 4
    fails = [NVMLError]

    def count():
        if fails:
            raise fails.pop()
        return 2

    monkeypatch.setattr(sys.modules["pynvml"], "nvmlDeviceGetCount", count)
    assert gpu_loads() == {}
    assert initialised == [0, 1]
    assert len(gpu_loads()) == 4
    assert initialised == [1, 2]


def test_a_fork_has_nothing_of_it_and_asks_for_itself(initialised):
    assert len(gpu_loads()) == 4
    child = os.fork()
    if child == 0:
        os._exit(0 if initialised[0] == 0 and len(gpu_loads()) == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(gpu_loads()) == 4
    assert initialised == [1, 2]


def test_a_driver_that_hangs_does_not_hold_up_a_fork_for_long(monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(gpus, "_answered", [])  # whatever was asked here before
    monkeypatch.setattr(gpus, "_PATIENCE_FIRST", 0.05)
    monkeypatch.setattr(gpus, "_PATIENCE", 20.0)
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=lambda: answers.wait(60)))
    assert gpu_loads() == {}
    began = time.monotonic()
    gpus._let_go()
    assert time.monotonic() - began < 5
    answers.set()
