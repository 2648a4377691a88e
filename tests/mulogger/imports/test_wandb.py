"""Offline runs of real W&B, brought in. Those of its service: test_wandb_service.py."""

import shutil
import subprocess
import sys
import time
import wave

import pytest

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.root import Root
from lightex.core.summary import summarize
from tests.mulogger.imports.conftest import bring, export, named, points, records, whole
from tests.services import need

pytestmark = [need("wandb"), pytest.mark.filterwarnings("ignore")]

PROGRAM = """
import math, sys, numpy as np, wandb
quiet = wandb.Settings(silent=True, disable_git=True, x_disable_stats=True)
run = wandb.init(project="digits", name="größe/1", config={"lr": 0.1, "model": {"depth": 3}, "sizes": [1, 2]},
                 tags=["team:a", "plain"], group="g", notes="a note", settings=quiet)
run.define_metric("val/*", step_metric="epoch")
print("printed by the run")
for step in range(3):
    run.log({"loss": 1 / 2**step, "deep": {"acc": step}, "odd": (math.nan, math.inf, -math.inf)[step]})
run.log({"val/acc": 0.5, "epoch": 7})
run.log({"img": wandb.Image(np.zeros((4, 5, 3), dtype="uint8"), caption="cap"), "sound": wandb.Audio("s.wav"),
         "w": wandb.Histogram(np_histogram=([3, 4], [0, 1, 2])), "t": wandb.Table(columns=["a"], data=[[1], [None]])})
run.log({"late": 5}, step=20)
run.summary["best"], run.summary["word"] = 0.9, "hi"
open("keep.txt", "w").write("kept")
run.save("keep.txt")
model = wandb.Artifact("net", "model")
model.add_file("keep.txt")
run.log_artifact(model)
run.finish()
run = wandb.init(project="other", name="bad", settings=quiet)
run.log({"loss": 1})
run.finish(exit_code=3)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder `wandb` of two runs: starting W&B's service takes seconds."""
    import os

    folder = tmp_path_factory.mktemp("wandb")
    with wave.open(str(folder / "s.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    given = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    given |= {"WANDB_MODE": "offline", "WANDB_DATA_DIR": str(folder / "data"), "WANDB_CACHE_DIR": str(folder / "cache")}
    (folder / "program.py").write_text(PROGRAM)
    subprocess.run([sys.executable, "program.py"], cwd=folder, env=given, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(made / "data"))
    shutil.copytree(made / "wandb", tmp_path / "wandb", symlinks=True)
    return tmp_path / "wandb"


def test_all_of_a_run_comes(root, folder, made):
    taken = bring(root, "wandb", folder)
    assert (len(taken.imported), taken.failed) == (2, [])
    run = named(root)["größe/1"]
    summary = summarize(run, lambda _: False)
    assert (summary.status, summary.experiment, summary.exit_code) == ("SUCCEEDED", "digits", 0)
    assert summary.params == {"lr": 0.1, "model.depth": 3, "sizes": [1, 2]}
    assert summary.tags == {"team": "a", "plain": "", "group": "g", "notes": "a note"}
    assert points(run, "loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert points(run, "deep.acc") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert points(run, "odd") == [(0, "NaN"), (1, "Infinity"), (2, "-Infinity")]
    assert points(run, "val/acc") == [(7, 0.5)]  # its step is a metric of its own
    assert (points(run, "late"), points(run, "best")) == ([(20, 5.0)], [(None, 0.9)])
    assert {each["text"]["name"]: each["text"]["value"] for each in records(run, "text")} == {"word": "hi"}
    assert records(run, "histogram")[0]["histogram"] == {"name": "w", "edges": [0, 1, 2], "counts": [3, 4]}
    media = {each["media"]["name"]: each["media"] for each in records(run, "media")}
    assert (media["img"]["width"], media["img"]["height"], media["img"]["caption"]) == (5, 4, "cap")
    assert (media["sound"]["rate"], media["t"]["rows"]) == (8000, 2)
    assert (run.path / media["t"]["path"]).read_text() == '{"columns": ["a"], "rows": [[1], [null]]}'
    assert run.output_file.read_text().startswith("printed by the run\n")
    assert (run.artifacts / "keep.txt").read_text() == "kept"
    assert (run.artifacts / "net/keep.txt").read_text() == "kept"
    assert run.identity["command"] == [str(made / "program.py")]


def test_a_failed_run_and_one_without_its_end(root, folder):
    (bad,) = [path for path in folder.glob("offline-run-*/*.wandb") if b"other" in path.read_bytes()]
    bring(root, "wandb", folder)
    failed = summarize(named(root)["bad"], lambda _: False)
    assert (failed.status, failed.reason, failed.exit_code) == ("FAILED", "exit code 3", 3)
    bad.write_bytes(bad.read_bytes()[:-5])
    assert len(bring(root, "wandb", folder).updated) == 1
    lost = summarize(named(root)["bad"], lambda _: False)
    assert lost.status == "LOST"
    assert lost.metrics == {"loss": 1.0}


def test_a_second_time_changes_nothing(root, folder):
    bring(root, "wandb", folder)
    before = whole(root)
    assert bring(root, "wandb", folder).skipped == 2
    assert whole(root) == before


def test_a_run_that_was_resumed_is_one_run(root, tmp_path):
    """Each time it leaves a folder; our own sink does so too when a feeder takes over."""
    import lightex
    from lightex.mulogger.delivery import Delivery, choose

    run = lightex.start_run("again", root=tmp_path / "first", params={"lr": 0.1})
    choose(run.directory, "wandb", {"mode": "offline", "folder": str(tmp_path / "again")})
    for step in range(2):
        run.log({"loss": float(step)}, step=step)
        if step:
            run.finish()
        delivery = Delivery(run.directory, "wandb")
        assert delivery.open()
        while delivery.feed():
            pass
        delivery.close("SUCCEEDED" if step else None)
    deadline = time.monotonic() + 20
    while not (found := _brought(root, tmp_path / "again")) or found.events()[-1]["state"] == "LOST":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(list((tmp_path / "again/wandb").glob("offline-run-*"))) == 2
    assert [each.id for each in root.runs()] == [found.id]
    assert points(found, "loss") == [(0, 0.0), (1, 1.0)]


def test_one_project_and_one_run(root, folder):
    assert len(bring(root, "wandb", folder, "other").imported) == 1
    with pytest.raises(NotFoundError, match=r"no project 'othr' there. Did you mean 'other'\?"):
        bring(root, "wandb", folder, "othr")
    (run,) = [path.parent for path in folder.glob("offline-run-*/*.wandb") if b"digits" in path.read_bytes()]
    assert len(bring(root, "wandb", run).imported) == 1


def test_out_and_in_again_is_the_same(root, folder, tmp_path):
    bring(root, "wandb", folder, "digits")
    run = named(root)["größe/1"]
    export(run, "wandb", {"mode": "offline", "folder": str(tmp_path / "again"), "project": "again"})
    other = Root(tmp_path / "others")
    deadline = time.monotonic() + 20  # W&B's service writes on for a moment after `finish` has returned
    while not (found := _brought(other, tmp_path / "again")) or found.events()[-1]["state"] == "LOST":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for name in ("loss", "deep.acc", "odd", "val/acc", "late"):
        assert points(found, name) == points(run, name)
    before, after = (summarize(each, lambda _: False) for each in (run, found))
    assert (after.params, after.status) == (before.params, before.status)
    assert after.tags["team"] == "a"
    assert [each["histogram"] for each in records(found, "histogram")] == [
        each["histogram"] for each in records(run, "histogram")]  # fmt: skip
    assert {each["media"]["name"] for each in records(found, "media")} == {"img", "sound", "t"}


def _brought(root, folder):
    try:
        bring(root, "wandb", folder)
    except LightexError:
        return None
    return next(root.runs(), None)


def test_what_is_no_run_is_told(root, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody is logged in
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(NotFoundError, match="no folder 'nowhere'"):
        bring(root, "wandb", "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no offline runs in"):
        bring(root, "wandb", tmp_path / "empty")
    with pytest.raises(LightexError, match="cannot read team/project of W&B's service"):
        bring(root, "wandb", "team/project")
    for path in folder.glob("offline-run-*/*.wandb"):
        path.write_bytes(b"nonsense" * 10)
    assert len(bring(root, "wandb", folder).failed) == 2


def test_a_run_may_not_point_outside_itself(root, folder, tmp_path):
    """Media whose path leads out of the run's files are left where they are."""
    from lightex.mulogger.imports.desk import Desk
    from lightex.mulogger.imports.wandb_rows import Rows

    (tmp_path / "secret.png").write_text("secret")
    with Desk(tmp_path / "desk") as desk:
        Rows(desk, tmp_path / "files").add({"_step": 0, "x": {"_type": "image-file", "path": "../secret.png"}})
    assert desk.left_out == {"media whose files are gone": 1}
