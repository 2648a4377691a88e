"""Runs of W&B's service, as W&B's own client reads them off a stand-in (tests/services/wandb.py), brought in."""

import math
import os
import subprocess
import sys
import wave

import pytest

from lightex.core.root import Root
from lightex.core.summary import summarize
from lightex.mulogger.imports import wandb_service
from tests.mulogger.imports.conftest import bring, named, points, records, whole
from tests.services import need
from tests.services.wandb import KEY, StoredRun, WandbServer

pytestmark = [need("wandb"), pytest.mark.filterwarnings("ignore")]

PROGRAM = """
import math, numpy as np, wandb
quiet = wandb.Settings(silent=True, disable_git=True, x_disable_stats=True)
run = wandb.init(entity="team", project="digits", name="größe/1", config={"lr": 0.1, "model": {"depth": 3}, "sizes": [1, 2]},
                 tags=["team:a", "plain"], group="g", job_type="train", notes="a note", settings=quiet)
run.define_metric("val/*", step_metric="epoch")
run.define_metric("alone", step_metric="epoch")
print("printed by the run")
for step in range(3):
    run.log({"loss": 1 / 2**step, "deep": {"acc": step}, "odd": (math.nan, math.inf, -math.inf)[step]})
run.log({"val/acc": 0.5, "alone": 2, "epoch": 7})
run.log({"img": wandb.Image(np.zeros((4, 5, 3), dtype="uint8"), caption="cap"), "sound": wandb.Audio("s.wav"),
         "w": wandb.Histogram(np_histogram=([3, 4], [0, 1, 2])), "t": wandb.Table(columns=["a"], data=[[1], [None]])})
run.log({"late": 5}, step=20)
run.summary["best"], run.summary["word"], run.summary["nested"] = 0.9, "hi", {"a": {"b": 1}}
open("keep.txt", "w").write("kept")
run.save("keep.txt")
run.finish()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of real W&B that was sent to the stand-in; its folder, which W&B leaves behind, and the project there."""
    folder = tmp_path_factory.mktemp("online")
    with wave.open(str(folder / "s.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    server = WandbServer()
    server.up()
    given = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    given |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false", "HOME": str(folder),
              "WANDB_DATA_DIR": str(folder / "data"), "WANDB_CACHE_DIR": str(folder / "cache")}  # fmt: skip
    (folder / "program.py").write_text(PROGRAM)
    subprocess.run([sys.executable, "program.py"], cwd=folder, env=given, check=True, capture_output=True, timeout=60)
    server.down()
    return folder / "wandb", server.projects["team/digits"]


def rows(values, gap=1):
    """A history of one metric."""
    return [{"loss": value, "_step": at * gap, "_timestamp": 1.7e9 + at} for at, value in enumerate(values)]


def test_a_run_is_the_same_from_the_service_and_from_its_folder(root, wandb_server, recorded, tmp_path):
    folder, project = recorded
    wandb_server.projects["team/digits"] = project
    taken = bring(root, "wandb", "team/digits")
    assert (len(taken.imported), taken.failed, taken.left_out) == (1, [], {})
    bring(other := Root(tmp_path / "others"), "wandb", folder)
    ours, theirs = named(root)["größe/1"], named(other)["größe/1"]
    for name in ("loss", "deep.acc", "odd", "val/acc", "alone", "late", "best", "nested.a.b"):
        assert points(ours, name) == points(theirs, name)
        assert points(ours, name)
    assert points(ours, "val/acc") == [(7, 0.5)]  # its step is a metric of its own
    summary, same = (summarize(run, lambda _: False) for run in (ours, theirs))
    assert (summary.status, summary.params, summary.tags) == (same.status, same.params, same.tags)
    assert summary.tags == {"team": "a", "plain": "", "group": "g", "notes": "a note", "job_type": "train"}
    for kind in ("text", "histogram"):
        assert [each[kind] for each in records(ours, kind)] == [each[kind] for each in records(theirs, kind)]
    media, others = ({each["media"]["name"]: each["media"] for each in records(run, "media")} for run in (ours, theirs))
    assert media.keys() == others.keys() == {"img", "sound", "t"}
    for name, about in media.items():
        assert about | {"path": ""} == others[name] | {"path": ""}  # the order of the files is no one's
    assert ours.output_file.read_text() == theirs.output_file.read_text()
    assert ours.output_file.read_text().startswith("printed by the run\n")
    assert (ours.artifacts / "keep.txt").read_text() == "kept"
    for about in ("command", "host"):
        assert ours.identity[about] == theirs.identity[about]
    assert ours.identity["cwd"] == str(folder.parent)
    assert not (ours.path / "download").exists()


def test_more_runs_than_a_page(root, wandb_server):
    for number in range(120):
        wandb_server.add("team/many", StoredRun(f"r{number:03}", f"run {number}", history=rows([float(number)])))
    taken = bring(root, "wandb", "team/many")
    assert [run.identity["imported"]["id"] for run in taken.imported] == [f"r{number:03}" for number in range(120)]
    assert wandb_server.times("Runs") == 3
    before, already = whole(root), len(wandb_server.asked)
    assert bring(root, "wandb", "team/many").skipped == 120
    assert whole(root) == before
    assert {name for name, _ in wandb_server.asked[already:]} <= {
        "Viewer",
        "GetDefaultEntity",
        "Runs",
    }  # none for a run


def test_more_files_than_a_page(root, wandb_server):
    files = {f"folder/{number:03}.txt": str(number).encode() for number in range(120)}
    wandb_server.add("team/p", StoredRun("a", files=files | {"output.log": b"said\n"}))
    bring(root, "wandb", "team/p")
    (run,) = root.runs()
    assert {
        path.relative_to(run.artifacts).as_posix(): path.read_bytes() for path in run.artifacts.glob("*/*")
    } == files
    assert len(records(run, "artifact")) == 120
    assert run.output_file.read_text() == "said\n"
    assert wandb_server.times("RunFiles") == 3


def test_params_and_tags(root, wandb_server):
    config = {"_wandb": {"value": {"cli_version": "0.19.0", "t": {}}}, "wandb_version": 1, "lr": {"value": 0.1, "desc": None},
              "model": {"value": {"name": "mlp", "sizes": [1, 2], "drop": {"p": 0.5}}}, "none": {"value": None}}  # fmt: skip
    tags = ["team:a", "plain"]
    run = StoredRun("a", config=config, tags=tags, group="g", job_type="j", notes="n\nm", sweep="sw1", user="bob")
    wandb_server.add("team/p", run)
    bring(root, "wandb", "team/p")
    (found,) = root.runs()
    summary = summarize(found, lambda _: False)
    assert summary.params == {"lr": 0.1, "model.name": "mlp", "model.sizes": [1, 2], "model.drop.p": 0.5, "none": None}
    assert summary.tags == {"team": "a", "plain": "", "group": "g", "job_type": "j", "notes": "n\nm", "sweep": "sw1"}
    assert (found.identity["user"], found.identity["imported"]["name"]) == ("bob", "run-1")
    run.tags = ["team:b"]
    assert len(bring(root, "wandb", "team/p").updated) == 1
    assert summarize(found, lambda _: False).tags["team"] == "b"


@pytest.mark.parametrize("exported", [None, 2, 4])
def test_history_from_wherever_it_is(root, wandb_server, exported):
    """Live rows, rows in parquet files (where what a row lacks is null, at any depth too), and some of each."""
    pytest.importorskip("pyarrow")
    history = [{"_step": 0, "_timestamp": 1.0, "loss": 1.0, "odd": "NaN", "deep": {"acc": 1, "more": 2}},
               {"_step": 4, "_timestamp": 2.0, "loss": math.nan, "odd": "Infinity", "deep": {"acc": 3}},
               {"_step": 5000, "_timestamp": 3.0, "loss": math.inf, "odd": "-Infinity"},
               {"_step": 5001, "_timestamp": 4.0, "loss": 0.5, "word": "hi"}]  # fmt: skip
    wandb_server.add("team/h", StoredRun("a", history=history, exported=exported))
    taken = bring(root, "wandb", "team/h")
    assert taken.failed == []
    (run,) = root.runs()
    assert points(run, "loss") == [(0, 1.0), (4, "NaN"), (5000, "Infinity"), (5001, 0.5)]
    assert points(run, "odd") == [(0, "NaN"), (4, "Infinity"), (5000, "-Infinity")]
    assert (points(run, "deep.acc"), points(run, "deep.more")) == ([(0, 1.0), (4, 3.0)], [(0, 2.0)])
    assert [(each["step"], each["text"]) for each in records(run, "text")] == [(5001, {"name": "word", "value": "hi"})]


def test_steps_far_apart_are_not_asked_for_one_by_one(root, wandb_server):
    wandb_server.add("team/h", StoredRun("a", history=rows([1.0] * 50, gap=100_000)))
    wandb_server.add("team/h", StoredRun("b", history=rows([1.0] * 3000)))
    assert bring(root, "wandb", "team/h").failed == []
    assert [len(points(run, "loss")) for run in root.runs()] == [50, 3000]
    assert wandb_server.times("HistoryPage") < 60
    assert {asked["pageSize"] for name, asked in wandb_server.asked if name == "HistoryPage"} == {100_000, 1, 1000}


@pytest.mark.parametrize("exported", [False, True])
def test_a_run_that_goes_on_is_brought_up_to_date(root, wandb_server, exported):
    """Also where W&B's client has kept the history that was exported at the first time."""
    pytest.importorskip("pyarrow")
    run = wandb_server.add("team/h", StoredRun("a", state="running", history=rows([3.0, 2.0])))
    run.exported = 2 if exported else None
    bring(root, "wandb", "team/h")
    (found,) = root.runs()
    assert (summarize(found, lambda _: True).status, points(found, "loss")) == ("RUNNING", [(0, 3.0), (1, 2.0)])
    run.history, run.heartbeat, run.summary = rows([3.0, 2.0, 1.0]), "2024-03-01T11:00:00Z", {"_wandb": {"runtime": 90}}
    run.exported = 3 if exported else None
    run.state = "finished"
    assert len(bring(root, "wandb", "team/h").updated) == 1
    assert points(found, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert summarize(found, lambda _: False).status == "SUCCEEDED"
    assert bring(root, "wandb", "team/h").skipped == 1


@pytest.mark.parametrize(
    ("there", "here", "reason"),
    [("finished", "SUCCEEDED", None), ("failed", "FAILED", "failed in W&B"), ("killed", "CANCELLED", "killed in W&B"),
     ("crashed", "LOST", "crashed in W&B"), ("preempted", "LOST", "preempted in W&B"), ("new word", "LOST", "new word in W&B")],
)  # fmt: skip
def test_how_it_ended(root, wandb_server, there, here, reason):
    wandb_server.add("team/s", StoredRun("a", state=there, summary={"_wandb": {"runtime": 300}}))
    bring(root, "wandb", "team/s")
    (run,) = root.runs()
    summary = summarize(run, lambda _: False)
    assert (summary.status, summary.reason, summary.ended - summary.created) == (here, reason, 300)


def test_times_are_utc_also_where_they_do_not_say_so(root, wandb_server, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    import time

    time.tzset()
    try:
        wandb_server.add("team/t", StoredRun("a", created="2024-03-01T10:00:00"))
        wandb_server.add("team/t", StoredRun("b", created="2024-03-01T10:00:00Z"))
        bring(root, "wandb", "team/t")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert {run.identity["created"] for run in root.runs()} == {1709287200.0}


@pytest.mark.parametrize("name", ["my project (2)", "größe", "a'b\"c", "dots.and-more_"])
def test_projects_of_any_name(root, wandb_server, name):
    wandb_server.add(f"team/{name}", StoredRun("a", history=rows([1.0]), files={"a b/ü #1.txt": b"x"}))
    taken = bring(root, "wandb", f"team/{name}")
    assert taken.failed == []
    (run,) = root.runs()
    assert run.identity["imported"]["experiment"] == name
    assert (run.artifacts / "a b/ü #1.txt").read_text() == "x"
    assert points(run, "loss") == [(0, 1.0)]


def test_a_server_of_ones_own_is_another_store(root, wandb_server, monkeypatch):
    wandb_server.add("team/p", StoredRun("a", history=rows([1.0])))
    bring(root, "wandb", "team/p")
    (run,) = root.runs()
    assert run.identity["imported"]["uri"] == f"{wandb_server.url}/team/p"
    second = WandbServer()
    second.up()
    monkeypatch.setenv("WANDB_BASE_URL", f"{second.url}/")
    second.add("team/p", StoredRun("a", history=rows([2.0])))
    assert len(bring(root, "wandb", "team/p").imported) == 1
    second.down()
    assert sorted(points(run, "loss")[0][1] for run in root.runs()) == [1.0, 2.0]


def test_the_cloud_has_one_name(root, wandb_server, monkeypatch):
    """W&B has moved it once: what was imported before is known after."""
    monkeypatch.setattr(wandb_service, "_CLOUD", (wandb_server.url.partition("//")[2],))
    wandb_server.add("team/p", StoredRun("a"))
    bring(root, "wandb", "team/p")
    assert next(iter(root.runs())).identity["imported"]["uri"] == "team/p"
