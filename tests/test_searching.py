"""Searches for real: with Optuna, with processes, and through kills."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import LX, supervisors

optuna = pytest.importorskip("optuna", reason="pip install 'lightex[search]'")


CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, loguniform, replace, search


@dataclass(frozen=True)
class MLP:
    width: int = 32


@dataclass(frozen=True)
class HP:
    lr: float = 1e-2
    fails: bool = False
    steps: int = 1
    model: MLP | None = None

    def __post_init__(self):
        if self.lr > 0.5 and self.fails:
            raise ValueError("too fast")


base = Experiment(name="demo", command="python train.py {{ hp.lr }} {{ hp.steps }} {{ hp.fails }}", hp=HP(),
                  metric="acc", mode="max", resources=Resources(cpus=0.5))
space = {"hp.lr": loguniform(1e-4, 1), "hp.model": [MLP(), MLP(width=3)]}
tune = search(base, space, trials=8, seed=1)
refused = search(replace(base, {"hp.fails": True}), {"hp.lr": loguniform(0.6, 1)}, trials=8)
aimless = search(Experiment(name="demo", command="true", hp=HP()), space, trials=8)
"""

# The metric is told through the documented file, so that a trial costs no import.
TRAIN = """import json, math, os, sys, time
lr, steps, fails = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "true"
with open(os.environ["LX_RUN_DIR"] + "/records.jsonl", "a", buffering=1) as records:
    for step in range(steps):
        good = -abs(math.log10(lr) + 2) - 1 / (step + 1)
        records.write(json.dumps({"time": time.time(), "step": step, "metrics": {"acc": good}}) + "\\n")
        if steps > 1:
            time.sleep(0.1)
sys.exit(3 if fails and not os.path.exists("mended") else 0)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "lxconfig.py").write_text(CONFIG)
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    return tmp_path


def runs_of(lx):
    return lx("ls", "--all", "--json").json


def trials_of(here):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    (path,) = (here / "runs" / ".sweeps").glob("*/study.jsonl")
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=path.parent.name, storage=storage).trials


def test_a_search_tries_what_it_was_told_to_and_its_study_is_optunas(here, lx):
    done = lx("run", "tune", "-j", "3")
    assert done.code == 0
    assert "8 succeeded" in done.out
    assert "best acc " in done.out
    runs, trials = runs_of(lx), trials_of(here)
    assert [run["status"] for run in runs] == ["SUCCEEDED"] * 8
    values = {(run["params"]["hp.lr"], run["metrics"]["acc"]) for run in runs}
    assert {(trial.params["hp.lr"], trial.value) for trial in trials} == values
    assert {run["params"]["hp.model.width"] for run in runs} == {3, 32}


def test_what_one_process_drew_another_does_not_draw_again(here, lx):
    lx("run", "tune", "trials=3", "sampler=random")
    (here / "lxconfig.py").write_text(CONFIG.replace("trials=8", "trials=6"))
    sweep = next((here / "runs" / ".sweeps").iterdir())
    about = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps(about | {"overrides": ["sampler=random"]}))
    assert "3 succeeded before, 0 to run, 3 trials to choose" in lx("resume").out
    assert len({run["params"]["hp.lr"] for run in runs_of(lx)}) == 6


def test_bad_runs_are_given_up_and_nobody_wants_them_again(here, lx):
    text = CONFIG.replace(
        "trials=8", 'trials=5, pruner="threshold", pruner_options={"lower": -1.0, "n_warmup_steps": 2}'
    )
    (here / "lxconfig.py").write_text(text)
    done = lx("run", "tune", "hp.steps=30", "-j", "5")
    runs = runs_of(lx)
    pruned = [run for run in runs if run["status"] == "CANCELLED"]
    assert pruned, done.out
    assert all("given up by threshold: acc -" in run["reason"] for run in pruned)
    assert f"{len(pruned)} given up" in done.out
    assert done.code == 0
    states = [trial.state.name for trial in trials_of(here)]
    assert states.count("PRUNED") == len(pruned)
    assert "nothing to resume" in lx("resume").out
    assert lx("retry", pruned[0]["id"]).code == 0, "who asks for it by name wants it"
    assert len([trial for trial in trials_of(here) if trial.state.name == "COMPLETE"]) == 5 - len(pruned) + 1


def test_a_failed_trial_tells_nothing_until_it_succeeds(here, lx):
    assert lx("run", "tune", "hp.fails=true", "trials=4").code == 1
    assert {trial.state.name for trial in trials_of(here)} <= {"FAIL"}
    (here / "mended").touch()
    assert lx("resume").code == 0
    again = [trial for trial in trials_of(here) if trial.state.name == "COMPLETE"]
    assert len(again) == 4
    assert {trial.params["hp.lr"] for trial in again} == {run["params"]["hp.lr"] for run in runs_of(lx)}
    assert "nothing to resume" in lx("resume").out
    assert len([trial for trial in trials_of(here) if trial.state.name == "COMPLETE"]) == 4


def test_a_run_that_does_not_log_the_metric_is_told(here, lx):
    (here / "train.py").write_text("")
    done = lx("run", "tune", "trials=2")
    assert "warning: 2 runs succeeded without logging acc" in done.err


def test_stopping_one_trial_does_not_stop_the_search(here, lx):
    process = subprocess.Popen([*LX, "run", "tune", "hp.steps=20", "trials=3", "-j", "1"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not any(run["status"] == "RUNNING" for run in runs_of(lx)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    lx("stop", runs_of(lx)[0]["id"])
    assert process.wait(60) == 1
    assert sorted(run["status"] for run in runs_of(lx)) == ["CANCELLED", "SUCCEEDED", "SUCCEEDED"]


def test_a_search_is_stopped_while_none_of_its_runs_is_open(here, lx):
    process = subprocess.Popen([*LX, "run", "tune", "hp.steps=10", "trials=3", "-j", "1"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not runs_of(lx):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sweep = runs_of(lx)[0]["sweep"]
    lx("pause", sweep)
    while {run["status"] for run in runs_of(lx)} != {"SUCCEEDED"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = len(runs_of(lx))
    assert "runs ended. Next: lx resume" in lx("stop", sweep).out
    assert process.wait(20) == 1
    assert len(runs_of(lx)) == before < 3
    assert "ended already" in lx("stop", sweep).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["aimless"], "needs to know what is good"),
        (["tune", "sampler=tpee"], "Did you mean 'tpe'"),
        (["tune", "pruner=medan"], "Did you mean 'median'"),
        (["tune", "pruner=percentile"], "needs percentile"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(here, lx, arguments, words):
    done = lx("run", *arguments)
    assert done.code == 2
    assert words in done.err
    assert not (here / "runs").exists()


def test_values_that_the_class_always_refuses_end_the_search(here, lx):
    done = lx("run", "refused")
    assert done.code == 2
    assert "refused 100 points in a row" in done.err
    assert "too fast" in done.err


def test_a_retry_and_a_part_choose_no_more(here, lx):
    lx("run", "tune", "hp.fails=true", "--max-failures", "1", "-j", "1")
    (here / "mended").touch()
    assert lx("retry", runs_of(lx)[0]["id"]).code == 0
    assert lx("resume", "--only", "0").code == 0
    assert [run["status"] for run in runs_of(lx)] == ["SUCCEEDED"]
    assert "7 trials to choose" in lx("resume").out
    assert len(runs_of(lx)) == 8


def test_a_broken_lxconfig_stops_a_resume_before_anything_is_changed(here, lx):
    lx("run", "tune", "hp.fails=true", "trials=2")
    (here / "lxconfig.py").write_text("oops(")
    assert "lxconfig.py:1" in lx("resume").err
    assert [run["status"] for run in runs_of(lx)] == ["FAILED"] * 2
    assert lx("run", "tune", "--needed").code == 2


def test_another_space_is_refused_and_says_where_the_trials_are(here, lx):
    lx("run", "tune", "trials=2")
    (here / "lxconfig.py").write_text(CONFIG.replace("[MLP(), MLP(width=3)]", "[MLP(), MLP(width=4)]"))
    sweep = next((here / "runs" / ".sweeps").iterdir())
    about = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps(about | {"overrides": []}))
    done = lx("resume")
    assert done.code == 2
    assert "study.jsonl" in done.err


def test_a_clone_of_a_trial_is_a_run_like_any_other(here, lx):
    lx("run", "tune", "trials=1")
    assert lx("clone", runs_of(lx)[0]["id"], "hp.lr=0.3").code == 0
    assert 0.3 in [run["params"]["hp.lr"] for run in runs_of(lx)]


def test_a_search_survives_kills_with_its_history(here, lx):
    """The supervisor is killed again and again; the keeper starts another one: no trial is lost, none is told twice."""
    process = subprocess.Popen([*LX, "run", "tune", "hp.steps=3", "trials=24", "-j", "4"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    for pause in (0.9, 0.5, 0.7, 1.1, 0.6):
        time.sleep(pause)
        for supervisor in supervisors(process.pid):
            os.kill(supervisor, signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert told.count("another one goes on") >= 3
    runs, trials = runs_of(lx), trials_of(here)
    assert [run["status"] for run in runs] == ["SUCCEEDED"] * 24
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    assert sorted(trial.params["hp.lr"] for trial in trials) == sorted(run["params"]["hp.lr"] for run in runs)
