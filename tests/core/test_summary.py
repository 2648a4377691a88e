"""What becomes of records and events in a summary."""

import math
import os

from lightex.core import journal
from lightex.core.liveness import process_mark
from lightex.core.logged import Logged
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import latest_metrics, read_all, summarize


def logged(*records):
    result = Logged()
    for record in records:
        result.add(record)
    return result


def test_last_is_the_value_of_the_highest_step_and_nan_is_no_extreme():
    metric = logged(
        {"metrics": {"loss": 3.0}, "step": 1},
        {"metrics": {"loss": 1.0}, "step": 5},
        {"metrics": {"loss": "NaN"}, "step": 7},
        {"metrics": {"loss": 9.0}, "step": 2},
    ).metrics["loss"]
    assert math.isnan(metric.last)
    assert (metric.min, metric.max) == (1.0, 9.0)


def test_a_further_attempt_that_starts_over_has_the_last_word():
    metric = logged({"metrics": {"a": 1.0}, "step": 9}, {"attempt": 2}, {"metrics": {"a": 2.0}, "step": 0}).metrics["a"]
    assert metric.last == 2.0


def test_records_of_other_shapes_are_passed_over():
    result = logged({"metrics": 3}, {"metrics": {"a": "high", "b": 1}}, {"other": 1}, {})
    assert list(result.metrics) == ["b"]


def test_a_running_run_whose_process_is_gone_is_lost(run_dir):
    run_dir.append_event({"time": 2.0, "state": "RUNNING", "process": {**process_mark(os.getpid()), "born": "0"}})
    assert summarize(run_dir, lambda _: False).status == "LOST"
    run_dir.append_event({"time": 2.0, "state": "RUNNING", "process": process_mark(os.getpid())})
    assert summarize(run_dir, lambda _: False).status == "RUNNING"


def test_a_run_that_nobody_looks_after_stays_as_it_was_seen_with_that_reason(tmp_path):
    identity = {"format": 1, "id": "r", "experiment": "demo", "command": ["true"], "sweep": "abcd"}
    run = RunDir.create(tmp_path / "demo" / "260101-000000-abcd-0", identity, {}, {"time": 1.0, "state": "QUEUED"})
    run.append_event({"time": 2.0, "state": "RUNNING", "process": process_mark(os.getpid())})
    seen = summarize(run, lambda _: False)
    assert (seen.status, seen.reason) == ("RUNNING", "its dispatcher is gone: lx resume abcd looks after it")
    run.append_event({"time": 2.0, "state": "RUNNING", "process": {"host": "elsewhere", "pid": 1, "born": "1"}})
    seen = summarize(run, lambda _: False)
    words = "its dispatcher is gone, and whether it still runs is not known here: lx resume abcd looks after it"
    assert (seen.status, seen.reason) == ("RUNNING", words)
    assert summarize(run, lambda _: True).reason is None


def test_a_broken_run_does_not_hide_the_others(run_dir):
    other = run_dir.path.parent / "260101-000000-s"
    other.mkdir()
    root = Root(run_dir.path.parents[1])
    statuses = {one.id: (one.status, one.reason) for one in read_all(root, root.runs())}
    assert statuses[run_dir.id][0] == "QUEUED"
    assert statuses[other.name][0] == "LOST"
    assert "broken" in statuses[other.name][1]


def test_latest_metrics_reads_the_end_only(run_dir):
    journal.append(run_dir.records_file(), *({"metrics": {"a": n}, "step": n} for n in range(1000)))
    assert latest_metrics(run_dir) == {"step": 999, "a": 999}
