"""Runs read back in Python, and by `lx show`."""

import math

import pytest

import lightex
from lightex.core.errors import NotFoundError
from tests.services import need


@pytest.fixture
def logged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with lightex.start_run("demo", params={"lr": 0.1}, tags={"team": "a"}) as run:
        for step, loss in enumerate((3.0, 1.0, math.nan, 2.0)):
            run.log({"loss": loss, "größe/ü": step}, step=step)
        run.log_text("hello", "note", step=1)
        run.log_histogram("w", [1.0, 2.0])
        (tmp_path / "f.txt").write_text("x")
        run.log_artifact("f.txt")
    return run


def test_everything_is_there(logged):
    run = lightex.read_run(logged.id)
    assert (run.status, run.params, run.tags) == ("SUCCEEDED", {"lr": 0.1}, {"team": "a"})
    assert run.last == {"loss": 2.0, "größe/ü": 3}
    assert (run.best("loss"), run.best("loss", "max")) == (1.0, 3.0)
    assert run.artifacts["f.txt"].read_text() == "x"
    assert run.texts()[0]["value"] == "hello"
    assert sum(run.histograms()[0]["counts"]) == 2
    assert math.isnan(run.rows[2]["loss"])
    with pytest.raises(NotFoundError, match="has no metric 'acc'"):
        run.best("acc")
    with pytest.raises(NotFoundError, match="no run 'zzz'"):
        lightex.read_run("zzz")


@need("pandas")
def test_metrics_are_a_data_frame(logged):
    frame = lightex.read_run(logged.dir).metrics
    assert list(frame["loss"][:2]) == [3.0, 1.0]
    assert list(frame["step"]) == [0, 1, 2, 3]


def test_lx_show_tells_of_a_run(logged, lx):
    text = lx("show", logged.id).out
    assert "SUCCEEDED" in text
    assert "lr  0.1" in text
    assert "f.txt" in text
    shown = lx("show", logged.directory.short_id, "--json").json
    assert shown["metrics"]["loss"] == {"last": 2.0, "step": 3, "min": 1.0, "max": 3.0}
    assert shown["artifacts"] == ["artifacts/f.txt"]
