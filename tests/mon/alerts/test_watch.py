"""What each kind of rule finds on run directories, and that it is told once."""

import os
import shutil
from collections import namedtuple

import pytest

from lightex.core import journal
from lightex.core.index import Index
from tests.mon.alerts.conftest import NOW, end


def rule(when, **more):
    lines = [f"{key} = {value!r}" for key, value in more.items()]
    return "\n".join(["[[rule]]", f"when = '{when}'", *lines])


def written(run, at):
    """Have its files look as if they were written then."""
    for path in (run.output_file, *run.records_files()):
        if path.exists():
            os.utime(path, (at, at))


def log(run, *records):
    journal.append(run.records_file(), *map(journal.jsonable, records))


# ---------------------------------------------------------------------- ends


def test_an_end_is_told_once_with_what_helps(make, watch):
    one = watch(rule("failed"))
    run = make("3f9a-007", hp={"lr": 0.1}, sweep="3f9a", records=({"metrics": {"loss": 0.5}, "step": 1},))
    run.output_file.write_text("begun\nValueError: no\n")
    assert one.look(NOW - 50) == []
    end(run, "FAILED", NOW, reason="exit code 1")
    (notice,) = one.notices(NOW + 5)
    assert notice.title == "FAILED  3f9a-007  digits lr=0.1"
    assert notice.kind == "failure"
    assert notice.body.splitlines() == ["exit code 1, after 00:50", "loss 0.5", "| begun", "| ValueError: no",
                                        "lx why 3f9a-007 · lx logs 3f9a-007"]  # fmt: skip
    assert one.look(NOW + 10) == []
    assert one.look(NOW + 1000) == []  # also when all that ended lately is looked at again


@pytest.mark.parametrize(
    ("when", "told"),
    [("failed", ["FAILED"]), ("lost", ["LOST"]), ("ended", ["CANCELLED", "FAILED", "LOST", "SUCCEEDED"])],
)
def test_each_rule_has_its_ends(make, watch, when, told):
    one = watch(rule(when))
    for number, state in enumerate(["SUCCEEDED", "FAILED", "LOST", "CANCELLED"]):
        make(f"r{number}", state)
    make("r5")
    assert sorted(title.split()[0] for title in one.look(NOW + 5)) == told


def test_a_failure_that_is_tried_again_by_itself_is_not_told(make, watch):
    one = watch(rule("failed"))
    run = make("a")
    end(run, "FAILED", NOW)
    assert one.look(NOW + 0.5) == []
    run.append_event({"time": NOW + 0.6, "state": "QUEUED", "attempt": 2})
    assert one.look(NOW + 5) == []
    run.append_event({"time": NOW + 6, "state": "RUNNING", "attempt": 2})
    end(run, "FAILED", NOW + 10, attempt=2)
    assert one.look(NOW + 15) == ["FAILED  a  digits"]


def test_a_run_that_fails_again_after_a_retry_is_told_again(make, watch):
    one = watch(rule("failed"))
    run = make("a", "FAILED")
    assert one.look(NOW + 5) == ["FAILED  a  digits"]
    run.append_event({"time": NOW + 6, "state": "QUEUED", "attempt": 2})
    run.append_event({"time": NOW + 6, "state": "RUNNING", "attempt": 2})
    one.look(NOW + 7)
    end(run, "FAILED", NOW + 8, attempt=2)
    assert one.look(NOW + 15) == ["FAILED  a  digits"]


def test_what_happened_before_the_first_watch_is_not_told(make, watch):
    make("a", "FAILED", at=NOW - 200)
    make("b", "FAILED", at=NOW - 100.5)  # a moment before
    gone = make("c", at=NOW - 300)
    gone.append_event({"time": NOW - 200, "state": "RUNNING", "process": {"host": os.uname().nodename, "pid": 2**22 + 1,
                                                                         "born": "1"}})  # fmt: skip
    one = watch(rule("ended"))
    assert one.look(NOW) == []
    assert one.look(NOW + 1000) == []


def test_a_run_whose_process_is_gone_is_told_when_that_is_sure(make, watch):
    one = watch(rule("lost"))
    run = make("a")
    run.append_event({"time": NOW, "state": "RUNNING", "attempt": 1,
                      "process": {"host": os.uname().nodename, "pid": 2**22 + 1, "born": "1"}})  # fmt: skip
    assert one.look(NOW + 1) == []
    assert one.look(NOW + 7) == ["LOST  a  digits"]
    assert one.look(NOW + 1000) == []


def test_a_new_rule_begins_with_what_happens_then(make, watch):
    one = watch(rule("failed"))
    make("a", "FAILED")
    make("b", "SUCCEEDED")
    assert one.look(NOW + 5) == ["FAILED  a  digits"]
    one = watch(rule("failed") + "\n" + rule("ended"), first=False)
    assert one.look(NOW + 10) == []
    make("c", "SUCCEEDED", at=NOW + 11)
    assert one.look(NOW + 15) == ["SUCCEEDED  c  digits"]


def test_several_rules_about_one_run_are_one_message(make, watch):
    one = watch(rule("failed") + "\n" + rule("ended") + "\n" + rule("failed", where="hp.lr > 0.01"))
    make("a", "FAILED", hp={"lr": 0.1})
    (notice,) = one.notices(NOW + 5)
    assert notice.title == "FAILED  a  digits lr=0.1"
    assert len(notice.keys) == 3


def test_a_rule_may_be_about_some_runs_only(make, watch):
    one = watch(rule("failed", where="hp.lr > 0.01"))
    make("a", "FAILED", hp={"lr": 0.1})
    make("b", "FAILED", hp={"lr": 0.001})
    assert one.look(NOW + 5) == ["FAILED  a  digits lr=0.1"]


def test_a_broken_run_is_told_and_harms_no_other(make, watch):
    one = watch(rule("ended"))
    broken = make("a")
    broken.config_file.write_text("{")
    make("b", "SUCCEEDED")
    os.utime(broken.path)
    assert one.look(NOW + 5) == ["SUCCEEDED  b  digits"]
    assert one.look(NOW + 15) == ["LOST  a  digits"]
    assert one.look(NOW + 30) == []


def test_an_index_that_is_made_anew_loses_and_doubles_nothing(make, watch):
    one = watch(rule("failed"))
    make("a", "FAILED")
    assert one.look(NOW + 5) == ["FAILED  a  digits"]
    one.index.path.unlink()
    make("b", "FAILED", at=NOW + 6)
    assert one.look(NOW + 10) == ["FAILED  b  digits"]


def test_a_look_that_fails_loses_nothing(make, watch, monkeypatch):
    one = watch(rule("failed"))
    make("a", "FAILED")
    with monkeypatch.context() as patched:
        patched.setattr("lightex.mon.alerts.words.of_run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.look(NOW + 5)
    assert one.look(NOW + 10) == ["FAILED  a  digits"]


def test_the_address_of_the_ui_is_a_link(make, watch):
    one = watch('address = "https://lx.example.com/"\n' + rule("failed"))
    make("a", "FAILED")
    (notice,) = one.notices(NOW + 5)
    assert notice.body.splitlines()[-1] == "https://lx.example.com/run/270101-000000-a"


def test_no_output_is_told_where_that_is_not_wanted(make, watch):
    one = watch("lines = 0\n" + rule("failed"))
    make("a", "FAILED").output_file.write_text("secret\n")
    assert "secret" not in one.notices(NOW + 5)[0].body


# ---------------------------------------------------------------------- what runs do


def test_a_run_that_is_silent_is_told_each_time_it_falls_silent(make, watch):
    one = watch(rule("stalled", minutes=30))
    run = make("a", at=NOW - 3600)
    run.output_file.write_text("step 1\n")
    written(run, NOW)
    assert one.look(NOW + 29 * 60) == []
    assert one.look(NOW + 31 * 60) == ["STALLED  a  digits"]
    assert one.look(NOW + 61 * 60) == []
    log(run, {"metrics": {"loss": 1}})
    written(run, NOW + 62 * 60)
    assert one.look(NOW + 63 * 60) == []
    assert one.look(NOW + 93 * 60) == ["STALLED  a  digits"]


def test_a_run_that_has_just_begun_is_not_silent(make, watch):
    one = watch(rule("stalled", minutes=1))
    run = make("a", at=NOW)  # began at NOW - 50, and its folder has files of an hour ago
    run.output_file.write_text("copied\n")
    written(run, NOW - 3600)
    assert one.look(NOW) == []
    assert one.look(NOW + 60) == ["STALLED  a  digits"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_told_once(make, watch, value):
    one = watch(rule("nan", metric="loss"))
    run = make("a", records=({"metrics": {"train.loss": 1.0, "grad": value}, "step": 1, "time": NOW},))
    assert one.look(NOW + 1) == []
    log(run, {"metrics": {"train.loss": value}, "step": 2, "time": NOW + 2})
    (notice,) = one.notices(NOW + 5)
    assert notice.title == "NAN  a  digits"
    assert notice.body.startswith(f"train.loss is {value}")
    assert "lx stop a" in notice.body
    log(run, {"metrics": {"train.loss": value}, "step": 3, "time": NOW + 8})
    assert one.look(NOW + 10) == []


def test_a_nan_between_two_looks_is_seen(make, watch):
    one = watch(rule("nan"))
    run = make("a")
    one.look(NOW)
    log(run, {"metrics": {"loss": float("nan")}, "step": 1, "time": NOW + 1}, {"metrics": {"loss": 1}, "step": 2})
    end(run, "SUCCEEDED", NOW + 2)
    assert one.look(NOW + 5) == ["NAN  a  digits"]


def test_a_nan_of_before_is_told_only_where_it_is_so_still(make, watch):
    past = {"metrics": {"loss": float("nan")}, "step": 1, "time": NOW - 500}
    make("a", records=(past, {"metrics": {"loss": 1}, "step": 2, "time": NOW - 400}))
    make("b", records=(past,))
    one = watch(rule("nan"), first=False)
    assert one.look(NOW) == ["NAN  b  digits"]


def test_a_nan_of_a_former_attempt_is_not_of_this_one(make, watch):
    one = watch(rule("nan"))
    run = make("a")
    log(run, {"metrics": {"loss": float("nan")}, "step": 1, "time": NOW}, {"attempt": 2, "time": NOW},
        {"metrics": {"loss": 1.0}, "step": 1, "time": NOW})  # fmt: skip
    assert one.look(NOW + 1) == []


def test_a_metric_that_explodes_is_told_by_a_filter(make, watch):
    one = watch(rule("metric", where="train.loss > 100"))
    run = make("a")
    assert one.look(NOW) == []
    assert one.said == ["rule 1 (metric), line 2: no run has 'train.loss'."]  # once, and it goes on
    log(run, {"metrics": {"train.loss": 5}, "step": 1})
    assert one.look(NOW + 1) == []
    log(run, {"metrics": {"train.loss": 1e6}, "step": 2})
    assert one.look(NOW + 2) == ["METRIC  a  digits"]
    log(run, {"metrics": {"train.loss": 1e7}, "step": 3})
    assert one.look(NOW + 3) == []
    assert len([said for said in one.said if said.startswith("rule")]) == 1


def test_no_improvement_counts_from_the_best_value(make, watch):
    one = watch(rule("no-improvement", minutes=10))
    config = {"metric": "val.acc", "mode": "max"}
    run = make("a", at=NOW, config=config, records=({"metrics": {"val.acc": 0.8, "loss": 1}, "step": 1, "time": NOW},))
    make("b", records=({"metrics": {"val.acc": 0.8}, "step": 1, "time": NOW},))  # has no metric of its own
    assert one.look(NOW + 9 * 60) == []
    log(run, {"metrics": {"val.acc": 0.7}, "step": 2, "time": NOW + 5 * 60})
    (notice,) = one.notices(NOW + 11 * 60)
    assert notice.title == "NO IMPROVEMENT  a  digits"
    assert notice.body.startswith("val.acc has not got better than 0.8 for 11:00")
    log(run, {"metrics": {"val.acc": 0.9}, "step": 3, "time": NOW + 12 * 60})
    assert one.look(NOW + 21 * 60) == []
    assert one.look(NOW + 23 * 60) == ["NO IMPROVEMENT  a  digits"]


def test_no_improvement_of_a_named_metric_is_of_its_least_value(make, watch):
    one = watch(rule("no-improvement", metric="^loss$", minutes=10))
    run = make("a", records=({"metrics": {"loss": 1.0}, "step": 1, "time": NOW},))
    log(run, {"metrics": {"loss": 0.5}, "step": 2, "time": NOW + 5 * 60})
    assert one.look(NOW + 12 * 60) == []
    assert one.look(NOW + 16 * 60) == ["NO IMPROVEMENT  a  digits"]


def sample(run, at, *uses):
    gpus = {f"GPU-{number}": {"use": use, "memory": 1 << 30} for number, use in enumerate(uses)}
    run.append_usage({"time": at, "cpu": 0.1, "gpus": gpus})


def test_a_run_whose_gpus_are_all_idle_is_told(make, watch):
    one = watch(rule("gpu-idle", minutes=10))
    idle, busy = make("a", gpus=("GPU-0", "GPU-1")), make("b", gpus=("GPU-0", "GPU-1"))
    for minute in range(12):
        sample(idle, NOW + 60 * minute, 0.0, 0.01)
        sample(busy, NOW + 60 * minute, 0.0, 0.6)
    assert one.look(NOW + 11 * 60) == ["GPU IDLE  a  digits"]
    sample(idle, NOW + 12 * 60, 0.9, 0.9)
    assert one.look(NOW + 12 * 60) == []
    for minute in range(13, 24):
        sample(idle, NOW + 60 * minute, 0.0, 0.0)
    assert one.look(NOW + 23 * 60) == ["GPU IDLE  a  digits"]  # once more, after it has worked


def test_gpus_that_nobody_samples_are_not_idle(make, watch):
    one = watch(rule("gpu-idle", minutes=10))
    run = make("a", gpus=("GPU-0",))
    for minute in range(12):
        sample(run, NOW + 60 * minute, 0.0)
    assert one.look(NOW + 60 * 60) == []


# ---------------------------------------------------------------------- sweeps, disks


@pytest.fixture
def sweep(root):
    return root.new_sweep({"total": 2, "experiments": ["digits"], "config_name": "grid"})


def test_a_sweep_is_told_when_all_of_it_has_ended(make, watch, sweep):
    config = {"metric": "acc", "mode": "max"}
    one = watch(rule("sweep-finished"))
    make(
        f"{sweep.id}-000",
        "SUCCEEDED",
        sweep=sweep.id,
        hp={"lr": 0.1},
        config=config,
        records=({"metrics": {"acc": 0.7}},),
    )
    last = make(f"{sweep.id}-001", sweep=sweep.id, config=config, records=({"metrics": {"acc": 0.9}},))
    assert one.look(NOW + 5) == []
    end(last, "FAILED", NOW + 10)
    (notice,) = one.notices(NOW + 15)
    assert notice.title == f"FINISHED  sweep {sweep.id}  digits: 1 succeeded, 1 failed"
    assert notice.body.startswith(f"best: acc 0.9 of {sweep.id}-001")
    assert f"lx resume {sweep.id}" in notice.body
    assert one.look(NOW + 20) == []
    assert one.look(NOW + 1000) == []
    last.append_event({"time": NOW + 1100, "state": "RUNNING", "attempt": 2})
    one.look(NOW + 1101)
    end(last, "SUCCEEDED", NOW + 1110, attempt=2)
    assert one.look(NOW + 1120) == [f"FINISHED  sweep {sweep.id}  digits: 2 succeeded"]


def test_a_sweep_is_not_finished_while_somebody_works_on_it(make, watch, sweep):
    one = watch(rule("sweep-finished"))
    assert sweep.claim()
    for number in range(2):
        make(f"{sweep.id}-00{number}", "SUCCEEDED", sweep=sweep.id)
    assert one.look(NOW + 5) == []
    sweep.release()
    assert len(one.look(NOW + 10)) == 1


def test_a_search_that_ended_early_is_finished_after_a_while(make, watch, sweep):
    one = watch(rule("sweep-finished"))
    make(f"{sweep.id}-000", "SUCCEEDED", sweep=sweep.id)
    assert one.look(NOW + 5) == []
    assert len(one.look(NOW + 70)) == 1


Disk = namedtuple("Disk", "total used free")


def test_a_disk_is_told_once_until_it_has_room_again(watch, monkeypatch):
    free = [50]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(1000, 0, free[0]))
    one = watch(rule("disk", free="10%") + "\n" + rule("disk", free="100B"), first=False)
    (notice,) = one.notices(NOW)
    assert notice.title.startswith("DISK NEARLY FULL  /")
    assert "50 B of" in notice.title
    for at, left in ((5, 50), (10, 105), (15, 90)):  # a little more is no end of it
        free[0] = left
        assert one.look(NOW + at) == []
    free[0] = 200
    assert one.look(NOW + 20) == []
    free[0] = 90
    assert len(one.look(NOW + 25)) == 1
    one = watch(rule("disk", free="10%"), first=False)
    assert one.look(NOW + 30) == []  # nor after a restart


def test_the_folder_of_runs_need_not_be_there(watch, root, monkeypatch):
    root.path.rmdir()
    one = watch(rule("disk", free="0%") + "\n" + rule("failed"))
    assert one.look() == []


# ---------------------------------------------------------------------- acting


def test_a_run_that_cannot_be_stopped_is_told_with_the_reason(make, watch):
    one = watch(rule("nan", act="stop"))
    make("a", records=({"metrics": {"loss": float("nan")}, "step": 1, "time": NOW},))
    (notice,) = one.notices(NOW + 1)
    assert "it could not be asked to end: run a was not started by lx" in notice.body


def test_nothing_is_done_that_no_rule_says(make, watch, sweep):
    one = watch(rule("nan"))
    assert sweep.claim()
    make(f"{sweep.id}-000", sweep=sweep.id, records=({"metrics": {"loss": float("nan")}, "step": 1, "time": NOW},))
    assert len(one.look(NOW + 1)) == 1
    assert sweep.take_requests() == []


@pytest.mark.parametrize("when", ["stalled", "nan", "gpu-idle", "metric", "no-improvement"])
def test_a_rule_that_acts_asks_as_lx_stop_does_once(make, watch, sweep, when):
    more = {"stalled": {"minutes": 1}, "gpu-idle": {"minutes": 1}, "metric": {"where": "loss is nan"}, "nan": {},
            "no-improvement": {"minutes": 1, "metric": "acc"}}[when]  # fmt: skip
    one = watch(rule(when, act="stop", **more))
    assert sweep.claim()
    values = {"metrics": {"loss": float("nan"), "acc": 1.0}, "step": 1, "time": NOW}
    run = make(f"{sweep.id}-000", sweep=sweep.id, gpus=("G",), records=(values,))
    written(run, NOW)
    for second in range(0, 120, 10):
        sample(run, NOW + second, 0.0)
    (notice,) = one.notices(NOW + 115)
    assert f"it was asked to end, by rule 1 ({when})" in notice.body
    one.look(NOW + 118)
    (request,) = sweep.take_requests()
    assert request["runs"] == [run.id]
    assert request["do"] == "stop"
    assert request["reason"].startswith(f"stopped by an alert: {when}")
    assert request["kill"] is False


def test_a_rule_that_is_to_act_from_now_on_acts_on_what_was_told_before(make, watch, sweep):
    one = watch(rule("nan"))
    assert sweep.claim()
    make(f"{sweep.id}-000", sweep=sweep.id, records=({"metrics": {"loss": float("nan")}, "step": 1, "time": NOW},))
    assert len(one.look(NOW + 1)) == 1
    one = watch(rule("nan", act="stop"), first=False)
    assert len(one.look(NOW + 2)) == 1
    assert len(sweep.take_requests()) == 1


def test_a_preview_tells_and_does_nothing(make, watch, root, sweep):
    one = watch(rule("nan", act="stop") + "\n" + rule("failed"), first=False)
    assert sweep.claim()
    make(f"{sweep.id}-000", sweep=sweep.id, records=({"metrics": {"loss": float("nan")}, "step": 1, "time": NOW},))
    make("b", "FAILED")
    with Index(root) as index:
        (found,) = one.watcher.preview(index)
    assert "it is asked to end, by rule 1" in found.body
    assert sweep.take_requests() == []
    assert not (root.path / ".alerts").exists()
