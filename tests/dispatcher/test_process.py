"""The process engine: handles that are good in another process too."""

import os
import time

import pytest

from lightex.core.rundir import LOST, SUCCEEDED, RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.engines.process import ProcessEngine
from lightex.dispatcher.job import Job


@pytest.fixture
def job(tmp_path):
    run = RunDir.create(tmp_path / "a b ü" / "id-0", {}, {}, {"state": "QUEUED"})
    env = {"LX_RUN_DIR": str(run.path), "LX_ATTEMPT": "1"}
    command = ("sh", "-c", "while [ ! -e go ]; do sleep 0.02; done")
    return Job(run=run, command=command, env=env, cwd=tmp_path, resources=Resources())


def ended(engine, handle):
    deadline = time.monotonic() + 10
    while not (found := engine.poll([handle], 0.1)):
        assert time.monotonic() < deadline
    return found[handle]


def test_another_engine_watches_what_one_has_started(job, tmp_path):
    first, second = ProcessEngine(), ProcessEngine()
    handle, mark = first.submit(job, [])
    assert handle == f"{mark['pid']}:{mark['born']}"
    assert second.find(job) == (handle, mark)
    assert second.poll([handle], 0.05) == {}
    (tmp_path / "go").touch()
    assert ended(first, handle).state == SUCCEEDED
    assert ended(second, handle).state == LOST
    assert second.find(job) is None


def test_another_engine_can_end_it(job):
    first, second = ProcessEngine(), ProcessEngine()
    handle, _ = first.submit(job, [])
    second.cancel(handle, force=True)
    assert ended(first, handle).signal == 9
    second.cancel(handle)


def test_a_later_process_of_the_same_id_is_not_mistaken(job):
    engine = ProcessEngine()
    assert engine.poll([f"{os.getpid()}:1"], 0)[f"{os.getpid()}:1"].state == LOST
