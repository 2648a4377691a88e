"""What torchrun starts is the run's, and why a worker failed is told instead of torchrun's report."""

import sys

import pytest

from lightex.core.taxonomy import Resources
from lightex.dispatcher.death import certify, last_lines
from lightex.dispatcher.engines.process import ProcessEngine
from lightex.dispatcher.job import Job
from lightex.dispatcher.torchrun import report
from tests.helpers import wait_for

REPORT = [
    "W1126 18:53:38.9 18021 torch/distributed/elastic/multiprocessing/api.py:919] Sending process 18380 closing signal SIGTERM",
    "E1126 18:53:39.7 18021 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0 (pid: 18377) of binary: /usr/bin/python3",
    "Traceback (most recent call last):",
    '  File "/venv/torch/distributed/launcher/api.py", line 383, in launch_agent',
    "    raise ChildFailedError(",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
    "============================================================",
    "train.py FAILED",
    "------------------------------------------------------------",
    "Failures:",
    "[1]:",
    "  time      : 2026-11-26_18:53:39",
    "  host      : localhost",
    "  rank      : 1 (local_rank: 1)",
    "  exitcode  : 1 (pid: 18380)",
    "  error_file: <N/A>",
    "------------------------------------------------------------",
    "Root Cause (first observed failure):",
    "[0]:",
    "  time      : 2026-11-26_18:53:38",
    "  host      : localhost",
    "  rank      : 0 (local_rank: 0)",
    "  exitcode  : 1 (pid: 18377)",
    "  error_file: <N/A>",
    "============================================================",
]
WORKERS = ["epoch 1", "[rank0]: Traceback", "[rank0]: ValueError: no data", "[rank1]: RuntimeError: a peer has left"]


def test_its_own_lines_are_left_out_and_the_worker_that_failed_first_is_known():
    found = report(WORKERS + REPORT)
    assert found.before == WORKERS
    assert found.of_root == ["Traceback", "ValueError: no data"]
    assert (found.rank, found.exit_code) == (0, 1)


def test_a_report_without_a_root_cause_and_lines_that_no_rank_is_known_of():
    assert report(["ValueError: no", *REPORT]).of_root == ["ValueError: no"]
    cut = report([*WORKERS, *REPORT[:8], REPORT[-1]])
    assert (cut.of_root, cut.rank) == (["epoch 1", *(line[9:] for line in WORKERS[1:])], None)


@pytest.mark.parametrize("lines", [[], WORKERS, WORKERS + REPORT[:2], [*WORKERS, *REPORT, "FileNotFoundError: data"]])
def test_other_outputs_have_none(lines):
    assert report(lines) is None


PROGRAM = """
import os, signal, sys, time
held = bytearray(200_000_000)
print("waits", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
if os.environ["RANK"] == "1":
    if sys.argv[1] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("no data for rank 1")
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [("raises", "ValueError: no data for rank 1"), ("dies", "the worker of rank 1 was killed by SIGKILL")],
)
def test_the_real_one(how, why, run_dir, tmp_path):
    pytest.importorskip("torch", reason="not installed: pip install torch")
    (tmp_path / "train.py").write_text(PROGRAM)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    job = Job(
        run=run_dir,
        command=(*launcher, "train.py", how),
        env={"LX_RUN_DIR": str(run_dir.path), "LX_ATTEMPT": "1"},
        cwd=tmp_path,
        resources=Resources(cpus=0),  # in no control group: its processes are known by session and environment
    )
    engine = ProcessEngine()
    handle, _ = engine.submit(job, [])
    try:
        wait_for(lambda: run_dir.last_output().count("waits") == 2, 60)
        used = engine.usage([handle])[handle]
        assert used.memory > 400_000_000  # of both workers, which are in sessions of their own
        (tmp_path / "go").touch()
        ended = wait_for(lambda: engine.poll([handle], 0.1), 60)[handle]
        assert certify(run_dir, ended).reason == f"exit code 1: {why}"
        assert not any("ChildFailedError" in line for line in last_lines(run_dir))
    finally:
        engine.cancel(handle, force=True)
        engine.close()
