"""One picture of everything."""

import os
import time

import pytest

from lightex.core import journal
from lightex.core.index import Index
from lightex.core.liveness import process_mark
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.mon.state import picture


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    return Root(tmp_path / "runs")


def make(root, name, *states, sweep=None, **more):
    now = time.time()
    identity = {
        "id": name,
        "experiment": "demo",
        "sweep": sweep,
        "created": now,
        "engine": "process",
        "config_name": "grid",
    }
    config = {"hp": {"lr": 0.1}, "resources": {"cpus": 2, "memory": "1GiB"}, "priority": 3}
    run = RunDir.create(root.path / "demo" / name, identity, config, {"time": now, "state": "QUEUED", "attempt": 1})
    for state in states:
        run.append_event({"time": time.time(), "state": state, "attempt": 1, **more})
    return run


def test_what_runs_waits_and_ended_lately_with_what_it_uses(root):
    mark = process_mark(os.getpid())
    run = make(root, "260101-000000-aaaaa", "RUNNING", process=mark, gpus=["0", "1"])
    run.append_usage({"time": time.time(), "cpu": 1.5, "memory": 2**20, "gpus": {"0": {"use": 0.5, "memory": 9}}})
    journal.append(run.records_file(), {"time": 1.0, "progress": {"done": 1, "total": 4}})
    make(root, "260101-000000-bbbbb", "SUBMITTED", reason="a node (2 of 2 in use)")
    make(root, "260101-000000-ccccc", "RUNNING", "FAILED", reason="exit code 1", process=mark)
    with Index(root) as index:
        seen = picture(index)
    assert seen.counts == {"RUNNING": 1, "SUBMITTED": 1, "FAILED": 1}
    (live,) = seen.running
    assert (live.run.node, live.run.gpus, live.progress.share, live.usage["cpu"]) == (
        mark["host"],
        ["0", "1"],
        0.25,
        1.5,
    )
    assert live.run.wants == {"cpus": 2, "memory": "1GiB", "priority": 3}
    (waiting,) = seen.waiting
    assert waiting.reason == "a node (2 of 2 in use)"
    (ended,) = seen.ended
    assert (ended.short_id, ended.reason) == ("ccccc", "exit code 1")
    (node,) = seen.nodes
    assert (node.name, node.cpu, node.memory, list(node.gpus)) == (mark["host"], 1.5, 2**20, ["0", "1"])
    assert node.loads == {"0": {"use": 0.5, "memory": 9}}


def test_an_old_sample_tells_nothing_of_now(root):
    run = make(root, "260101-000000-aaaaa", "RUNNING", process=process_mark(os.getpid()))
    run.append_usage({"time": time.time() - 600, "cpu": 1.5})
    with Index(root) as index:
        assert picture(index).running[0].usage == {}


def test_a_run_whose_process_and_dispatcher_are_gone_is_lost_at_the_next_look(root):
    mark = process_mark(os.getpid())
    run = make(root, "260101-000000-aaaaa", "RUNNING", process=mark)
    with Index(root) as index:
        assert picture(index).counts == {"RUNNING": 1}
        run.append_event({"time": time.time(), "state": "RUNNING", "attempt": 1, "process": {**mark, "born": "0"}})
        index.refresh(whole=False)
        assert picture(index).counts == {"LOST": 1}
        assert picture(index).running == []


def test_a_sweep_is_a_row_with_what_is_left_of_it(root):
    sweep = root.new_sweep({"total": 4, "created": time.time(), "experiments": ["demo"]})
    assert sweep.claim()
    sweep.waits_for = "a cpu (2 of 2 in use)"
    mark = process_mark(os.getpid())
    done = make(root, f"260101-000000-{sweep.id}-000", sweep=sweep.id)
    done.append_event({"time": 100.0, "state": "RUNNING", "attempt": 1})
    done.append_event({"time": 160.0, "state": "SUCCEEDED", "attempt": 1})
    make(root, f"260101-000000-{sweep.id}-001", "RUNNING", sweep=sweep.id, process=mark)
    make(root, f"260101-000000-{sweep.id}-002", sweep=sweep.id)
    with Index(root) as index:
        (row,) = picture(index).sweeps
        assert (row.id, row.name, row.total, row.ended, row.at_work, row.paused) == (
            sweep.id,
            "grid",
            4,
            1,
            True,
            False,
        )
        assert (row.counts, row.waits, row.left) == (
            {"SUCCEEDED": 1, "RUNNING": 1, "QUEUED": 1}, "a cpu (2 of 2 in use)", 180.0
        )  # fmt: skip
        sweep.paused = True
        assert picture(index).sweeps[0].waits == "the end of its pause"
        sweep.release()
        index.refresh()
        assert not picture(index).sweeps[0].at_work


def test_the_lost_are_shown_and_the_latest_sweep_comes_first(root):
    gone = {**process_mark(os.getpid()), "pid": 2**22 + 1}
    make(root, "260101-000000-zzzz-000", "RUNNING", process=gone, sweep="zzzz")
    make(root, "260101-000001-aaaa-000", "RUNNING", "SUCCEEDED", process=gone, sweep="aaaa")
    make(root, "260101-000002-mmmm-000", "RUNNING", "SUCCEEDED", process=gone, sweep="mmmm")
    with Index(root) as index:
        seen = picture(index)
    assert {run.status: run.sweep for run in seen.ended if run.status == "LOST"} == {"LOST": "zzzz"}
    assert (len(seen.ended), seen.ended_in_all) == (3, 3)
    assert [sweep.id for sweep in seen.sweeps] == ["mmmm", "aaaa", "zzzz"]


def test_of_a_sweep_that_nobody_works_on_no_time_is_told(root):
    mark = process_mark(os.getpid())
    make(root, "260101-000000-aaaa-000", "RUNNING", "SUCCEEDED", process=mark, sweep="aaaa")
    make(root, "260101-000000-aaaa-001", sweep="aaaa")
    with Index(root) as index:
        (sweep,) = picture(index).sweeps
    assert (sweep.ended, sweep.total, sweep.left) == (1, 2, None)
