"""Several processes of one run: ranks, forked and spawned workers."""

import subprocess
import sys

import pytest

import lightex
from lightex.core.logged import read_logged
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import status_of

FORKED = """
import os, lightex
run = lightex.start_run("demo", params={"owner": "parent"})
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        for number in range(500):
            run.log({f"child{child}": number}, step=number)
        run.log_params({"owner": "child"})
        run.finish("FAILED", "only the parent may say so")
        os._exit(0)
    children.append(pid)
for number in range(500):
    run.log({"parent": number}, step=number)
for pid in children:
    os.waitpid(pid, 0)
run.finish()
"""

SPAWNED = """
import multiprocessing, lightex

def work(child):
    with lightex.start_run() as run:
        for number in range(200):
            run.log({f"child{child}": number}, step=number)

if __name__ == "__main__":
    with lightex.start_run("demo") as run:
        with multiprocessing.get_context("{method}").Pool(3) as pool:
            for number in range(200):
                run.log({"parent": number}, step=number)
            pool.map(work, range(3), chunksize=1)
"""


def one_run(folder):
    (run,) = Root(folder / "runs").runs()
    return run


def test_forked_children_log_without_loss_and_do_not_end_the_run(tmp_path):
    subprocess.run([sys.executable, "-c", FORKED], cwd=tmp_path, check=True)
    run = one_run(tmp_path)
    metrics = read_logged(run).metrics
    assert {name: metric.last for name, metric in metrics.items()} == dict.fromkeys(
        ["parent", "child0", "child1", "child2", "child3"], 499
    )
    assert sum(path.read_bytes().count(b"metrics") for path in run.records_files()) == 2500
    assert status_of(run) == ("SUCCEEDED", None)
    assert read_logged(run).params["owner"] == "parent"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_of_multiprocessing_join_the_run(tmp_path, method):
    (tmp_path / "program.py").write_text(SPAWNED.replace("{method}", method))
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, timeout=60)
    metrics = read_logged(one_run(tmp_path)).metrics
    assert {name: metric.last for name, metric in metrics.items()} == dict.fromkeys(
        ["parent", "child0", "child1", "child2"], 199
    )


def test_rank_0_owns_params_and_status(run_dir: RunDir, monkeypatch):
    monkeypatch.setenv("LX_RUN_DIR", str(run_dir.path))
    runs = []
    for rank in (1, 0, 2):
        monkeypatch.setenv("RANK", str(rank))
        runs.append(lightex.start_run(params={"rank": rank, f"of{rank}": True}))
    for run in runs:
        run.log({f"loss{run.writer}": 1.0})
    assert [run.writer for run in runs] == [1, 0, 2]
    runs[0].finish("FAILED", "a rank's own end")
    runs[1].finish()
    runs[2].finish()
    logged = read_logged(run_dir)
    assert logged.params == {"rank": 0, "of0": True, "of1": True, "of2": True}
    assert logged.finish["status"] == "SUCCEEDED"
    assert sorted(logged.metrics) == ["loss0", "loss1", "loss2"]
