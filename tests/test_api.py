"""Experiments from Python, for real: processes of their own run them."""

import os
import signal
import subprocess
import sys
import time

import pytest

import lightex
from lightex.core.errors import ConfigError, LightexError, NotFoundError

WORK = """from dataclasses import dataclass
import json, os, time


@dataclass(frozen=True)
class HP:
    lr: float = 0.1
    seconds: float = 0.0


def train(hp: HP):
    assert isinstance(hp, HP)
    with open(os.environ["LX_RUN_DIR"] + "/records.jsonl", "a") as records:
        records.write(json.dumps({"time": time.time(), "step": 0, "metrics": {"loss": hp.lr}}) + "\\n")
    time.sleep(hp.seconds)
    if hp.lr > 5:
        raise ValueError("too fast")


def untold(hp):
    pass
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    from train import HP

    return lightex.Experiment(
        name="demo", target="train:train", hp=HP(), metric="loss", mode="min", resources=lightex.Resources(cpus=0.5)
    )


def slow(base):
    return lightex.replace(base, {"hp.seconds": 60})


def test_submitted_experiments_have_states_results_and_reasons(base):
    runs = lightex.submit(lightex.sweep(base, {"hp.lr": [0.1, 9.0]}), jobs=2)
    assert len(runs) == 2
    assert runs.wait(60) is runs
    assert [run.state for run in runs] == ["SUCCEEDED", "FAILED"]
    assert runs[0].result.last == {"loss": 0.1}
    assert (runs[0].reason, runs[1].reason) == (None, "exit code 1: ValueError: too fast")
    assert runs[1].result.params["hp.lr"] == 9.0
    assert "1 FAILED" in repr(runs)


def test_one_is_cancelled_and_the_others_go_on(base):
    runs = lightex.submit([slow(base), base])
    assert runs[1].wait(60) == "SUCCEEDED"
    with pytest.raises(TimeoutError, match="has not ended within 0"):
        runs[0].wait(0)
    runs[0].cancel()
    assert runs[0].wait(60) == "CANCELLED"
    assert "from Python" in runs[0].reason
    runs[0].cancel()  # nothing happens


def test_all_are_cancelled(base):
    runs = lightex.submit(lightex.sweep(slow(base), {"hp.lr": [1.0, 2.0, 3.0]}), jobs=1)
    with pytest.raises(TimeoutError, match="3 of 3"):
        runs.wait(0)
    runs.cancel()
    assert set(runs.wait(60).states) == {"CANCELLED"}


def test_run_waits_and_tells(base, capsys):
    runs = lightex.run(base)
    assert runs[0].state == "SUCCEEDED"
    out = capsys.readouterr().out
    assert f"1/1  SUCCEEDED  {runs[0].id}" in out
    assert f"Next: lx compare {runs.id}" in out


def test_an_interrupt_of_run_stops_all(base, tmp_path, lx):
    (tmp_path / "script.py").write_text(
        "import lightex\nfrom train import HP\n"
        "lightex.run(lightex.Experiment(name='demo', target='train:train', hp=HP(seconds=60)))\n"
    )
    process = subprocess.Popen([sys.executable, "script.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while '"RUNNING"' not in lx("ls", "--json").out:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert lx("ls", "--json").json[0]["status"] == "CANCELLED"


def test_names_come_from_lxconfig_searches_too(base, tmp_path):
    pytest.importorskip("optuna", reason="pip install 'lightex[search]'")
    (tmp_path / "lxconfig.py").write_text(
        "from lightex import Experiment, Resources, loguniform, search\nfrom train import HP\n"
        "base = Experiment(name='demo', target='train:train', hp=HP(), metric='loss', mode='min',\n"
        "                  resources=Resources(cpus=0.5))\n"
        "tune = search(base, {'hp.lr': loguniform(1e-3, 1)}, trials=3)\n"
    )
    assert lightex.submit("base", ["hp.lr=0.5"]).wait(60)[0].result.last == {"loss": 0.5}
    assert lightex.submit("tune").wait(60).states == {"SUCCEEDED": 3}


def test_what_nobody_works_on_is_said(base):
    runs = lightex.submit(slow(base))
    while runs[0].state != "RUNNING":
        time.sleep(0.05)
    found = subprocess.run(["pgrep", "-f", f"resume {runs.id} --detach"], check=True, capture_output=True, text=True)
    for pid in sorted(map(int, found.stdout.split())):  # the keeper first: it would start another supervisor
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(LightexError, match="nothing is at work on 1 run"):
        runs.wait(60)
    with pytest.raises(LightexError, match="nothing is at work on 1 run"):
        runs[0].wait(60)
    os.kill(runs[0].result.directory.events()[-1]["process"]["pid"], signal.SIGKILL)


def test_a_target_must_say_its_class(base):
    runs = lightex.submit(lightex.replace(base, {"target": "train:untold"}))
    runs.wait(60)
    assert "does not say what class it is" in "".join(runs[0].result.directory.last_output())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda base: "nothing", NotFoundError, "no config named 'nothing'"),
        (lambda base: [1], ConfigError, "not something to submit"),
        (lambda base: [], ConfigError, "not something to submit"),
        (lambda base: [base, base], ConfigError, "are equal"),
        (lambda base: lightex.replace(base, {"target": None}), ConfigError, "a command or a target"),
        (lambda base: lightex.search(base, {"hp.lr": [1, 2]}, 2), ConfigError, "by its name"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(base, tmp_path, make, error, words):
    with pytest.raises(error) as found:
        lightex.submit(make(base))
    assert words in str(found.value)
    with pytest.raises(ConfigError, match="jobs must be a whole number"):
        lightex.submit(base, jobs=0)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(NotFoundError, match="no engine named"):
        lightex.submit(base, engine="proces")
