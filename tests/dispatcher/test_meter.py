"""What runs use is sampled while they run, and written into them."""

import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightex.core.rundir import RUNNING
from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines import sampling
from lightex.dispatcher.engines.proc import members_of_sessions
from lightex.dispatcher.engines.process import ProcessEngine
from lightex.dispatcher.gpus import gpu_loads
from lightex.dispatcher.meter import Meter
from lightex.dispatcher.running import Running
from tests.helpers import wait_for

BUSY = "import time\nheld = bytearray(80_000_000)\nuntil = time.time() + 60\nwhile time.time() < until: pass"


class Telling:
    """An engine that says what it is told to."""

    def __init__(self, *told):
        self.told, self.asked = list(told), []

    def usage(self, handles):
        self.asked.append(list(handles))
        return dict.fromkeys(handles, self.told.pop(0)) if self.told else {}


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def running(run_dir):
    job = type("Job", (), {"run": run_dir})()
    return {"1:2": Running(job, RUNNING, 1000.0)}


def test_a_sample_tells_cores_and_bytes_a_second_since_the_last_one(run_dir, running, clock):
    engine = Telling(Usage(10.0, 500, 1000, 0), Usage(13.0, 700, 4000, 200))
    meter = Meter(engine)
    for moment in (1000.0, 1001.5, 1003.0):
        clock[0] = moment
        meter.look(running)
    first, second = run_dir.usage()
    assert {name: first[name] for name in first if name != "time"} == {"memory": 500}
    assert {name: second[name] for name in second if name != "time"} == {
        "memory": 700, "cpu": 2.0, "read": 2000, "written": 133,
    }  # fmt: skip


def test_it_looks_less_often_the_longer_a_run_runs(running, clock):
    engine = Telling(*[Usage(1.0, 1)] * 10_000)
    meter = Meter(engine)
    for second in range(3600):
        clock[0] = 1000.0 + second
        meter.look(running)
    assert 360 < len(engine.asked) < 600


def test_a_run_that_waits_is_not_asked_about_and_one_that_cannot_be_written_stops_nothing(run_dir, running, clock):
    engine = Telling(Usage(1.0, 1))
    meter = Meter(engine)
    running["1:2"].state = "SUBMITTED"
    for moment in (1000.0, 1002.0):
        clock[0] = moment
        meter.look(running)
    assert engine.asked == []
    running["1:2"].state = RUNNING
    run_dir.remove()
    for moment in (1003.0, 1005.0):
        clock[0] = moment
        meter.look(running)
    assert engine.asked == [["1:2"]]


def test_the_processes_of_a_session_count_together_also_those_that_a_child_started():
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    leader = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        members = wait_for(lambda: (found := members_of_sessions([leader.pid])[leader.pid])[1:] and found)
        wait_for(lambda: sampling.used_by(members, leader.pid).memory > 80_000_000)
        before = sampling.used_by(members, leader.pid)
        wait_for(lambda: sampling.used_by(members, leader.pid).cpu_seconds > before.cpu_seconds + 0.2)
        assert before.received is None  # its network is ours
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(leader.pid)], check=False)
        leader.wait()


@pytest.mark.parametrize("memory", [None, "400MiB"])
def test_a_process_experiment_tells_what_it_uses(run_dir, tmp_path, memory):
    from lightex.core.taxonomy import Resources
    from lightex.dispatcher.job import Job

    engine = ProcessEngine()
    job = Job(
        run=run_dir, command=(sys.executable, "-c", BUSY), env={}, cwd=tmp_path, resources=Resources(memory=memory)
    )
    handle, _ = engine.submit(job, [])
    try:
        used = wait_for(lambda: (seen := engine.usage([handle]).get(handle)) and seen.memory > 80_000_000 and seen)
        assert used.cpu_seconds is not None
        assert used.written is not None
    finally:
        engine.cancel(handle, force=True)
        wait_for(lambda: engine.poll([handle], 0.1))
        engine.close()


class NVMLError(Exception):
    """What the driver's library raises."""


def library(**more):
    """A stand-in for NVML with two GPUs, the second of which does not tell its use; there is no driver here."""

    def use(handle):
        if handle == 1:
            raise NVMLError
        return types.SimpleNamespace(gpu=70)

    found = types.ModuleType("pynvml")
    for name, value in {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=(handle + 1) << 30),
        "nvmlDeviceGetUtilizationRates": use,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}".encode() if handle else "GPU-0",
        **more,
    }.items():
        setattr(found, name, value)
    return found


def test_what_gpus_do_is_told_by_index_and_uuid(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    first, second = {"memory": 1 << 30, "use": 0.7}, {"memory": 2 << 30}
    assert gpu_loads() == {"0": first, "GPU-0": first, "1": second, "GPU-1": second}


def test_without_a_driver_nothing_is_told(monkeypatch):
    def fails():
        raise NVMLError

    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=fails))
    assert gpu_loads() == {}


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


def test_a_sample_that_waited_is_of_when_it_was_taken(run_dir, running, clock):
    meter = Meter(Telling(Usage(10.0, at=1000.0), Usage(15.0, at=1005.0)))
    for moment in (1000.0, 1001.5, 1011.0):
        clock[0] = moment
        meter.look(running)
    assert run_dir.usage()[1]["cpu"] == 1.0


def test_a_run_is_told_the_gpus_that_it_was_given(run_dir, running, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    running["1:2"].gpus = ("1",)
    meter = Meter(Telling(Usage(1.0, memory=5)))
    for moment in (1000.0, 1002.0):
        clock[0] = moment
        meter.look(running)
    assert run_dir.usage()[0]["gpus"] == {"1": {"memory": 2 << 30}}
