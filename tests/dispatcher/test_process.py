"""The process engine: handles that are good in another process too."""

import os
import sys
import time
from pathlib import Path

import pytest

from lightex.core.rundir import LOST, SUCCEEDED, RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.engines.cage import Cages
from lightex.dispatcher.engines.process import ProcessEngine
from lightex.dispatcher.engines.strays import marks, processes_of
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.helpers import wait_for


@pytest.fixture
def engine():
    engine = ProcessEngine()
    yield engine
    engine.close()


class TestProcessEngine(EngineContract):
    @pytest.fixture
    def make_engine(self):
        return ProcessEngine

    def test_another_engine_cannot_know_how_it_ended_but_the_first_does(self, engine, job):
        one = job("while [ ! -e go ]; do sleep 0.02; done")
        second = ProcessEngine()
        handle, mark = engine.submit(one, [])
        assert handle == f"{mark['pid']}:{mark['born']}"
        assert second.poll([handle], 0.05) == {}
        (one.cwd / "go").touch()
        assert self.ends(engine, handle)[handle].state == SUCCEEDED
        assert self.ends(second, handle)[handle].state == LOST
        assert second.find(one) is None
        second.close()

    def test_it_is_found_among_sessions_that_it_has_begun(self, engine, job, monkeypatch):
        one = job("setsid sh -c 'touch begun; exec sleep 60' & wait")
        handle, _ = engine.submit(one, [])
        wait_for((one.cwd / "begun").exists)
        known = list(processes_of({marks(one)}))
        assert len(known) > 1
        monkeypatch.setattr("lightex.dispatcher.engines.process.processes_of", lambda _: reversed(known))
        assert engine.find(one)[0] == handle
        engine.cancel(handle, force=True)
        self.ends(engine, handle)

    def test_a_later_process_of_the_same_id_is_not_mistaken(self, engine):
        assert engine.poll([f"{os.getpid()}:1"], 0)[f"{os.getpid()}:1"].state == LOST


EATS = "import sys; kept = []\nfor n in range(400): kept.append(bytearray(1 << 20))\nprint('fed')"


def certificate(engine, job):
    queue = Queue([job], engine, "process")
    queue.run()
    return job.run.events()[-1]


@pytest.fixture
def make(tmp_path):
    def make(command, **options):
        run = RunDir.create(tmp_path / "demo" / "261123-101010-abcd-000", {}, {}, {"state": "QUEUED"})
        env = {"LX_RUN_DIR": str(run.path), "LX_ATTEMPT": "1"}
        command = ("sh", "-c", command) if isinstance(command, str) else tuple(command)
        return Job(run=run, command=command, env=env, cwd=tmp_path, **{"resources": Resources(), **options})

    return make


caged = pytest.mark.skipif("memory" not in Cages().bases, reason="this process may not make control groups for memory")


@caged
def test_a_job_that_takes_more_memory_than_it_said_is_killed_and_told_so(make, engine):
    job = make([sys.executable, "-c", EATS], resources=Resources(memory="64MiB"))
    end = certificate(engine, job)
    assert (end["state"], end["cause"], end["signal"]) == ("FAILED", "oom", 9)
    assert end["reason"] == "out of memory: killed by its memory limit of 64 MiB (cgroup)"


@caged
def test_memory_that_a_child_of_the_job_takes_counts_too(make, engine):
    job = make(["sh", "-c", '"$0" -c "$1"; exit 3', sys.executable, EATS], resources=Resources(memory="64MiB"))
    end = certificate(engine, job)
    assert (end["cause"], end["exit_code"]) == ("oom", 3)
    assert "exit code 3 after a process of it was killed by its memory limit of 64 MiB" in end["reason"]


def test_without_control_groups_memory_is_bounded_by_an_rlimit(make, engine):
    engine._cages.bases = {}
    end = certificate(engine, make([sys.executable, "-c", EATS], resources=Resources(memory="64MiB")))
    assert (end["state"], end["cause"], end["exit_code"]) == ("FAILED", "oom", 1)
    assert end["reason"].startswith("out of memory, Python: ")
    assert "MemoryError" in end["reason"]  # Python 3.13 may lack the memory to print it as usual


def test_enough_memory_is_enough(make, engine):
    end = certificate(engine, make([sys.executable, "-c", EATS], resources=Resources(memory="600MiB")))
    assert end["state"] == SUCCEEDED


@pytest.mark.skipif("cpu" not in Cages().bases, reason="this process may not make control groups for CPUs")
def test_a_job_gets_no_more_cpu_than_it_said(make, engine):
    spin = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    end = certificate(engine, make([sys.executable, "-c", spin], resources=Resources(cpus=0.2)))
    assert end["cpu_seconds"] < 0.6 * end["duration"]


ESCAPES = "setsid sh -c 'sleep 100 & echo $! > escaped' & sleep 0.3"


def alive(path):
    try:
        return Path(f"/proc/{int(path.read_text())}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("groups", [True, False])
def test_what_escapes_by_a_double_fork_ends_with_its_job(make, engine, tmp_path, groups):
    if not groups:
        engine._cages.bases = {}
    assert certificate(engine, make(ESCAPES))["state"] == SUCCEEDED
    deadline = time.monotonic() + 5
    while alive(tmp_path / "escaped"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_groups_are_left_behind(make, engine):
    certificate(engine, make("true", resources=Resources(memory="64MiB")))
    left = [folder for base in engine._cages.bases.values() for folder in base.glob(f"lx-{os.getpid()}-*")]
    assert left == []
