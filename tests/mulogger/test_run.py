"""Logging: every record is with the system when the call returns; values of all kinds; local runs."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest

import lightex
from lightex.core import journal
from lightex.core.errors import LightexError
from lightex.core.logged import read_logged
from lightex.core.root import Root
from lightex.core.summary import read_all


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lightex.start_run("demo", root=tmp_path / "runs")


@pytest.fixture
def dispatched(run_dir, monkeypatch):
    monkeypatch.setenv("LX_RUN_DIR", str(run_dir.path))
    return run_dir


def records(run):
    return list(journal.read(run.directory.records_file()))


def test_each_record_is_on_its_way_to_disk_when_log_returns(local):
    local.log({"loss": 0.5, "n": 3}, step=1)
    (record,) = records(local)
    assert (record["step"], record["metrics"]) == (1, {"loss": 0.5, "n": 3})
    assert abs(record["time"] - time.time()) < 60


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([0.25]), 0.25),
        (True, 1),
        (2**70, 2.0**70),
    ],
)
def test_numbers_of_all_kinds(local, value, kept):
    local.log({"x": value, "y": 1.0}, step=np.int64(2))
    assert records(local)[-1]["metrics"] == {"x": kept, "y": 1.0}
    assert records(local)[-1]["step"] == 2


def test_nested_metrics_get_dotted_names_and_text_is_refused(local):
    local.log({"val": {"acc": 0.5, "loss": float("inf")}})
    assert records(local)[-1]["metrics"] == {"val.acc": 0.5, "val.loss": "Infinity"}
    with pytest.raises(LightexError, match="metric 'note' must be a number, got str 'hello'"):
        local.log({"note": "hello"})


def test_mlflows_names_record_the_same(local):
    local.log_metric("loss", 0.5, step=1)
    local.log_metrics({"loss": 0.25, "acc": 1}, step=2)
    found = [(record["step"], record["metrics"]) for record in records(local)]
    assert found == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "acc": 1.0})]


def test_params_tags_and_text(local):
    @dataclass
    class HP:
        lr: float = 0.1
        inner: object = None

    local.log_params(HP(inner=HP()))
    local.log_params(argparse.Namespace(a=1, path=np.float64(2)))
    local.log_param("x", None)
    local.set_tag("team", "a")
    local.log_text("hi", "sample", step=3)
    found = read_logged(local.directory)
    assert found.params == {"lr": 0.1, "inner.lr": 0.1, "inner.inner": None, "a": 1, "path": 2.0, "x": None}
    assert found.tags == {"team": "a"}
    assert records(local)[-1]["text"] == {"name": "sample", "value": "hi"}


def test_artifacts_are_copied_with_their_checksums_and_stay_inside(local, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f.txt").write_text("hello")
    assert local.log_artifact(tmp_path / "d" / "f.txt").read_text() == "hello"
    local.log_artifact(tmp_path / "d", "kept/d")
    paths = [record["artifact"]["path"] for record in records(local)]
    assert paths == ["artifacts/f.txt", "artifacts/kept/d/f.txt"]
    assert records(local)[0]["artifact"]["sha256"].startswith("2cf24dba5fb0a30e")
    for name in ("../x", "/x"):
        with pytest.raises(LightexError, match="not a name for an artifact"):
            local.log_artifact(tmp_path / "d" / "f.txt", name)
    with pytest.raises(LightexError, match="no file to keep"):
        local.log_artifact("none")


def test_a_scikit_learn_model_is_kept_without_pickle(local):
    import skops.io
    from sklearn.linear_model import LogisticRegression

    path = local.log_model(LogisticRegression(C=3).fit([[0], [1]], [0, 1]))
    assert skops.io.load(path, trusted=[]).C == 3
    assert records(local)[-1]["artifact"]["model"]["class"] == "sklearn.linear_model._logistic.LogisticRegression"
    with pytest.raises(LightexError, match=r"log_model cannot save a builtins\.int"):
        local.log_model(3)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "SUCCEEDED", None),
        (ValueError("loss is NaN\nmore"), "FAILED", "ValueError: loss is NaN"),
        (SystemExit(0), "SUCCEEDED", None),
        (SystemExit(3), "FAILED", "exit code 3"),
        (KeyboardInterrupt(), "CANCELLED", "interrupted"),
    ],
)
def test_an_exception_inside_marks_the_run(local, tmp_path, error, status, reason):
    try:
        with local:
            if error:
                raise error
    except BaseException as caught:
        assert caught is error
    root = Root(tmp_path / "runs")
    (summary,) = read_all(root, root.runs())
    assert (summary.status, summary.reason) == (status, reason)
    local.finish()
    with pytest.raises(LightexError, match="is finished"):
        local.log({"a": 1})


def test_a_dispatched_command_attaches_and_a_second_writer_has_its_own_file(dispatched):
    first, second = lightex.start_run(params={"a": 1}), lightex.start_run()
    first.log({"x": 1})
    second.log({"y": 2})
    assert first.config["hp"] == {"lr": 0.1}
    assert sorted(read_logged(dispatched).metrics) == ["x", "y"]
    assert [path.name for path in dispatched.records_files()] == ["records.jsonl", "records.1.jsonl"]
    first.finish()
    second.finish()


PROGRAM = """
import os, sys, lightex
run = lightex.start_run("demo", root=sys.argv[1], resume=sys.argv[2] or None)
n = int(sys.argv[3])
while True:
    run.log({"n": n, "a": 0.1, "b": 0.2, "c": 0.3, "d": float(n)}, step=n)
    n += 1
    os.pwrite(1, b"%12d %s" % (n, run.id.encode()), 0)
"""


def test_a_killed_run_loses_nothing_and_can_be_resumed(tmp_path):
    told, run_id, done = tmp_path / "told", "", 0
    root = Root(tmp_path / "runs")
    for round_number in range(3):
        told.write_bytes(b"")
        with told.open("r+b") as out:
            writer = subprocess.Popen([sys.executable, "-c", PROGRAM, str(root.path), run_id, str(done)], stdout=out)
            while told.stat().st_size == 0:
                time.sleep(0.005)
            time.sleep(0.01 * round_number)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        returned, run_id = told.read_text().split()
        (run,) = root.runs()
        written = [r["metrics"]["n"] for r in journal.read(run.records_file()) if "metrics" in r]
        assert written == list(range(len(written)))
        assert int(returned) <= len(written) <= int(returned) + 1
        (summary,) = read_all(root, [run])
        assert (summary.status, summary.reason) == ("LOST", "it was killed")
        done = len(written)
    with lightex.start_run(root=root.path, resume=run_id) as run:
        run.log({"n": done}, step=done)
    (summary,) = read_all(root, root.runs())
    assert (summary.status, summary.attempt, summary.metrics["n"]) == ("SUCCEEDED", 4, done)


def test_a_run_that_still_runs_cannot_be_resumed(local, tmp_path):
    with pytest.raises(LightexError, match="is still running"):
        lightex.start_run(root=tmp_path / "runs", resume=local.id)


def test_a_full_disk_keeps_records_in_memory_until_it_works(local, capsys, monkeypatch):
    def full(_descriptor, _data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lightex.mulogger.run.write_whole", full)
        local.log({"a": 1})
        local.log({"a": 2})
    assert "records are kept in memory until it works" in capsys.readouterr().err
    assert records(local) == []
    local.log({"a": 3})
    assert [record["metrics"]["a"] for record in records(local)] == [1, 2, 3]


def test_a_shell_logs_without_lightex(dispatched):
    line = json.dumps({"step": 1, "metrics": {"loss": 0.5}})
    subprocess.run(["sh", "-c", f"echo '{line}' >> \"$LX_RUN_DIR/records.jsonl\""], check=True, env=os.environ.copy())
    assert read_logged(dispatched).metrics["loss"].last == 0.5
