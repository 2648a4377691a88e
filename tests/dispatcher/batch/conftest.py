"""A job, and its script run by bash as Slurm would."""

import os
import subprocess

import pytest

from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.engines.batch import script
from lightex.dispatcher.job import Job


@pytest.fixture
def job(tmp_path):
    """Makes jobs in a folder whose name needs quoting."""
    folder = tmp_path / 'it\'s a "folder" ü'
    folder.mkdir()

    def make(command=("true",), **fields):
        run = RunDir.create(folder / "demo" / "261123-101010-abcd-000", {"id": "x"}, {}, {"state": "QUEUED"})
        return Job(run=run, command=tuple(command), cwd=folder, **{"env": {}, "resources": Resources(), **fields})

    return make


@pytest.fixture
def bash():
    """Runs the script of a job without Slurm."""

    def run(job, place="lx-abcd-1/7", **env):
        script.write(job, place)
        name, _, task = place.partition("/")
        own = {"SLURM_JOB_NAME": name, "SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": task,
               "SLURMD_NODENAME": "c1"}  # fmt: skip
        path = script.path_of(job.run, job.attempt)
        return subprocess.Popen(["bash", str(path)], env={**os.environ, **own, **env})

    return run
