"""What runs use is sampled while they run, and written into them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lightex.core.rundir import RUNNING
from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines import sampling
from lightex.dispatcher.engines.process import ProcessEngine
from lightex.dispatcher.meter import Meter
from lightex.dispatcher.proc import Sessions
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
        members = wait_for(lambda: (found := Sessions().members([leader.pid])[leader.pid])[1:] and found)
        wait_for(lambda: sampling.used_by(members, leader.pid).memory > 80_000_000)
        before = sampling.used_by(members, leader.pid)
        wait_for(lambda: sampling.used_by(members, leader.pid).cpu_seconds > before.cpu_seconds + 0.2)
        assert before.received is None  # its network is ours
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(leader.pid)], check=False)
        leader.wait()


def test_sessions_that_a_run_begins_are_its_own_and_no_other_runs():
    """As torchrun begins one for each worker."""
    program = (
        "import os, subprocess, time; os.environ['NODE_RANK'] = '0'  # as some launchers set it for their workers\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    leaders = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            start_new_session=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"LX_RUN_DIR": f"/runs/demo/{number}", "LX_ATTEMPT": "1"},
        )
        for number in range(2)
    ]
    workers = [int(leader.stdout.readline()) for leader in leaders]
    try:
        sessions = Sessions()
        for asked in ([leaders[0].pid], [leader.pid for leader in leaders], []):  # known and unknown ones
            found = sessions.members(asked)
            assert {pid: sorted(pids) for pid, pids in found.items()} == {
                leader.pid: [leader.pid, worker]
                for leader, worker in zip(leaders, workers, strict=True)
                if leader.pid in asked
            }
    finally:
        for pid in (*workers, *(leader.pid for leader in leaders)):
            os.kill(pid, signal.SIGKILL)
        for leader in leaders:
            leader.communicate()


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


def test_a_sample_that_waited_is_of_when_it_was_taken(run_dir, running, clock):
    meter = Meter(Telling(Usage(10.0, at=1000.0), Usage(15.0, at=1005.0)))
    for moment in (1000.0, 1001.5, 1011.0):
        clock[0] = moment
        meter.look(running)
    assert run_dir.usage()[1]["cpu"] == 1.0


def test_a_run_is_told_the_gpus_that_it_was_given(run_dir, running, clock, monkeypatch):
    monkeypatch.setattr("lightex.dispatcher.meter.gpu_loads", lambda: {"0": {"use": 0.7}, "1": {"memory": 2 << 30}})
    running["1:2"].gpus = ("1",)
    meter = Meter(Telling(Usage(1.0, memory=5)))
    for moment in (1000.0, 1002.0):
        clock[0] = moment
        meter.look(running)
    assert run_dir.usage()[0]["gpus"] == {"1": {"memory": 2 << 30}}
