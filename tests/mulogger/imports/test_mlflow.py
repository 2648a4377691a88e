"""Runs of a real MLflow store, brought in."""

import math
import os
import shutil
import signal
import subprocess
import sys

import pytest

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.summary import summarize
from tests.helpers import wait_for
from tests.mulogger.imports.conftest import bring, export, named, points, records, whole
from tests.services import MlflowServer, need

pytestmark = [need("mlflow"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of three runs in one experiment and one in another; making one takes seconds."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    folder = tmp_path_factory.mktemp("store")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    place = (folder / "artifacts").as_uri()
    experiment = client.create_experiment("a/b ..", place)
    for number, status in enumerate(("FINISHED", "FAILED", "RUNNING")):
        run = client.create_run(experiment, 1_700_000_000_123 + number, run_name=f"run/{number}").info.run_id
        metrics = [Metric("loss", 1 / (step + 1), 1_700_000_001_000 + step, step) for step in range(1500)]
        metrics += [Metric("acc", step / 2, 1_700_000_001_000 + step, step) for step in range(3)]
        odd = [Metric("odd", value, 1_700_000_002_000 + step, step)
               for step, value in enumerate((math.nan, math.inf, -math.inf))]  # fmt: skip
        for at in range(0, len(metrics), 1000):
            client.log_batch(run, metrics=metrics[at : at + 1000])
        params = [Param("lr", "0.1"), Param("size", "1e-3"), Param("deep", "True"), Param("n", "3"), Param("v", "007")]
        client.log_batch(run, metrics=odd, params=params, tags=[RunTag("team", "ä")])
        client.log_text(run, "hi", "notes/größe.txt")
        client.log_dict(run, {"x": [1, 2]}, "x.json")
        if status != "RUNNING":
            client.set_terminated(run, status, 1_700_000_009_000)
    other = client.create_run(client.create_experiment("other", place), tags={"mlflow.parentRunId": run}).info.run_id
    client.set_terminated(other, "KILLED")
    return folder


@pytest.fixture
def store(made, tmp_path):
    """A copy of its database: the artifacts stay where they are."""
    shutil.copy(made / "mlflow.db", tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_all_of_a_run_comes(root, store):
    taken = bring(root, "mlflow", store, "a/b ..")
    assert (len(taken.imported), taken.failed) == (3, [])
    run = named(root)["run/0"]
    assert run.path.parent.parent == root.path
    summary = summarize(run, lambda _: False)
    assert summary.status == "SUCCEEDED"
    assert (summary.created, summary.ended) == (1_700_000_000.123, 1_700_000_009.0)
    assert summary.params == {"lr": 0.1, "size": "1e-3", "deep": True, "n": 3, "v": "007"}
    assert summary.tags["team"] == "ä"
    assert points(run, "loss") == [(step, 1 / (step + 1)) for step in range(1500)]
    assert points(run, "acc") == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert points(run, "odd") == [(0, "NaN"), (1, "Infinity"), (2, "-Infinity")]
    assert (run.artifacts / "notes/größe.txt").read_text() == "hi"
    assert {record["artifact"]["path"] for record in records(run, "artifact")} == {
        "artifacts/notes/größe.txt", "artifacts/x.json"}  # fmt: skip
    assert records(run, "metrics")[0]["time"] == 1_700_000_001.0
    assert records(run, "metrics")[0]["metrics"] == {"loss": 1.0, "acc": 0.0}  # logged together


def test_states_are_those_of_mlflow(root, store):
    bring(root, "mlflow", store)
    states = {name: summarize(run, lambda _: False) for name, run in named(root).items()}
    assert [states[f"run/{n}"].status for n in range(3)] == ["SUCCEEDED", "FAILED", "RUNNING"]
    (other,) = [run for run in root.runs() if run.path.parent.name == "other"]
    killed = summarize(other, lambda _: False)
    assert (killed.status, killed.reason) == ("CANCELLED", "KILLED in MLflow")
    assert killed.tags["mlflow.parentRunId"]


def test_a_second_time_changes_nothing_and_takes_what_is_new(root, store):
    from mlflow import MlflowClient

    bring(root, "mlflow", store)
    before = whole(root)
    taken = bring(root, "mlflow", store)
    assert (taken.imported, taken.updated, taken.skipped) == ([], [], 4)
    assert whole(root) == before
    client = MlflowClient(store)
    run = named(root)["run/2"]
    (run.path / "notes.txt").write_text("mine")
    client.log_metric(run.identity["imported"]["id"], "loss", 7.0, step=5000)
    client.set_terminated(run.identity["imported"]["id"])
    client.create_run(client.get_experiment_by_name("other").experiment_id, run_name="late")
    taken = bring(root, "mlflow", store)
    assert (len(taken.imported), [each.id for each in taken.updated], taken.skipped) == (1, [run.id], 3)
    again = named(root)["run/2"]
    assert points(again, "loss")[-1] == (5000, 7.0)
    assert again.events()[-1]["state"] == "SUCCEEDED"
    assert (again.path / "notes.txt").read_text() == "mine"


def test_out_and_in_again_is_the_same(root, store):
    """What our own sink makes of an imported run in another store is equal to what there was."""
    from mlflow import MlflowClient

    bring(root, "mlflow", store)
    run = named(root)["run/0"]
    shutil.copy("mlflow.db", "again.db")  # its tables are made already
    sink = export(run, "mlflow", {"tracking_uri": "sqlite:///again.db", "experiment": "again"})
    before, after = MlflowClient(store).get_run(run.identity["imported"]["id"]), sink.client.get_run(sink.run_id)
    assert after.data.params == before.data.params
    assert before.data.tags.items() <= after.data.tags.items()
    assert after.info.status == before.info.status
    assert after.info.start_time == before.info.start_time
    for name in ("loss", "acc", "odd"):
        here, there = (
            [(p.step, p.timestamp, repr(p.value)) for p in client.get_metric_history(found.info.run_id, name)]
            for client, found in ((MlflowClient(store), before), (sink.client, after))
        )
        assert here == there
    assert [f.path for f in sink.client.list_artifacts(sink.run_id, "notes")] == ["notes/größe.txt"]


def test_histories_come_for_many_runs_at_once_or_one_by_one(root, store, monkeypatch):
    """What a store tells in bulk, in parts of any size, is what its public call tells."""
    bring(root, "mlflow", store, "a/b ..")
    whole_runs = {name: records(run, "metrics") for name, run in named(root).items()}
    for points_held, room in ((1, 10_000), (10, 0), (4000, 0)):
        monkeypatch.setattr("lightex.mulogger.imports.mlflow_history._POINTS", points_held)
        monkeypatch.setattr("lightex.mulogger.imports.mlflow_history._ROOM", room)
        other = type(root)(root.path.parent / f"held-{points_held}")
        bring(other, "mlflow", store, "a/b ..")
        assert {name: records(run, "metrics") for name, run in named(other).items()} == whole_runs


def test_models_are_copied_and_not_loaded(root, made, store, monkeypatch):
    import mlflow

    mlflow.set_tracking_uri(store)
    try:
        mlflow.set_experiment("other")
        with mlflow.start_run(run_name="model"):
            (mlflow.pyfunc.log_model(name="net", python_model=str(_model(root))),)
    finally:
        mlflow.set_tracking_uri(None)
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("a pickle was loaded"))
    bring(root, "mlflow", store)
    assert (named(root)["model"].artifacts / "net" / "MLmodel").is_file()


def _model(root):
    path = root.path.parent / "model.py"
    path.write_text("import mlflow\nclass M(mlflow.pyfunc.PythonModel):\n    def predict(self, model_input: list[str]):"
                    "\n        return model_input\nmlflow.models.set_model(M())\n")  # fmt: skip
    return path


def test_a_folder_of_files_and_a_server(root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(str(tmp_path / "mlruns"))
    run = client.create_run(client.create_experiment("files"), run_name="r").info.run_id
    client.log_metric(run, "loss", 0.5, step=3)
    client.log_text(run, "hi", "a.txt")
    assert len(bring(root, "mlflow", "mlruns").imported) == 1
    assert points(named(root)["r"], "loss") == [(3, 0.5)]
    assert bring(root, "mlflow", tmp_path / "mlruns").skipped == 1


def test_a_server_over_http(root, tmp_path):
    from mlflow import MlflowClient

    server = MlflowServer(tmp_path)
    server.start()
    try:
        client = MlflowClient(server.uri)
        run = client.create_run("0", run_name="r").info.run_id
        client.log_metric(run, "loss", math.nan, step=3)
        client.log_text(run, "hi", "deep/er/a.txt")
        client.set_terminated(run)
        assert len(bring(root, "mlflow", server.uri).imported) == 1
        assert bring(root, "mlflow", f"{server.uri}/").skipped == 1
    finally:
        server.kill()
    assert points(named(root)["r"], "loss") == [(3, "NaN")]
    assert (named(root)["r"].artifacts / "deep/er/a.txt").read_text() == "hi"
    with pytest.raises(LightexError, match=f"cannot read {server.uri}"):
        bring(root, "mlflow", server.uri)


def test_what_is_no_store_is_told_and_none_is_made(root, tmp_path, store):
    for uri in ("nowhere", "sqlite:///nowhere.db", str(tmp_path)):
        with pytest.raises(NotFoundError, match="MLflow store"):
            bring(root, "mlflow", uri)
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(NotFoundError, match="is no SQLite database"):
        bring(root, "mlflow", "text.db")
    with pytest.raises(NotFoundError, match=r"no experiment 'othr' there. Did you mean 'other'\?"):
        bring(root, "mlflow", store, "othr")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("nowhere")]
    assert not root.path.exists()


def test_a_run_that_cannot_be_read_costs_only_itself(root, store, monkeypatch):
    from lightex.mulogger.imports.mlflow import MlflowPeer

    copy = MlflowPeer._copy

    def broken(self, uri, below, moment, desk):
        if desk.folder.exists() and "run/1" in named_there[uri]:
            raise ConnectionError("the bucket is gone")
        copy(self, uri, below, moment, desk)

    from mlflow import MlflowClient

    client = MlflowClient(store)
    found = client.search_runs([each.experiment_id for each in client.search_experiments()])
    named_there = {run.info.artifact_uri: run.info.run_name for run in found}
    monkeypatch.setattr(MlflowPeer, "_copy", broken)
    taken = bring(root, "mlflow", store)
    assert taken.failed == [("run/1", "ConnectionError: the bucket is gone")]
    assert len(taken.imported) == 3
    monkeypatch.setattr(MlflowPeer, "_copy", copy)
    assert len(bring(root, "mlflow", store).imported) == 1


HALF = """
import time
from lightex.cli import main
from lightex.mulogger.imports.mlflow import MlflowPeer
copy = MlflowPeer._copy
def slow(self, *more):
    copy(self, *more)
    if list(__import__("pathlib").Path("runs").glob("a*/*")):
        open("half", "w").close()
        time.sleep(60)
MlflowPeer._copy = slow
main(["--root", "runs", "import", "mlflow", "mlflow.db"])
"""


def test_an_import_that_is_killed_leaves_no_half_run(root, store, lx, tmp_path):
    """Killed when the second run is all but there; the next import takes the rest, and clears up."""
    process = subprocess.Popen([sys.executable, "-c", HALF], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for((tmp_path / "half").exists, seconds=60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (root.path / ".import/run/records.jsonl").exists()
    (run,) = root.runs()
    assert len(points(run, "loss")) == 1500
    done = lx("--root", root.path, "import", "mlflow", "mlflow.db")
    assert (done.code, len(list(root.runs()))) == (0, 4)
    assert "3 imported, 1 here already" in done.out
    assert not (root.path / ".import").exists()


def test_a_run_whose_replacement_was_killed_is_put_back(root, store):
    bring(root, "mlflow", store)
    run = named(root)["run/1"]
    (run.path / "notes.txt").write_text("mine")
    (root.path / ".import").mkdir()
    run.path.rename(root.path / ".import/old")
    assert bring(root, "mlflow", store).skipped == 4
    assert (run.path / "notes.txt").read_text() == "mine"


def test_one_import_at_a_time(root, store):
    from lightex.mulogger.imports.foreign import open_peer
    from lightex.mulogger.imports.intake import Intake

    inside = []

    def tell(line):
        with pytest.raises(LightexError, match="another lx import is at work"):
            bring(root, "mlflow", store)
        inside.append(line)

    Intake(root, open_peer("mlflow", store), tell).bring()
    assert len(inside) > 4
    assert len(list(root.runs())) == 4


def test_ctrl_c_says_how_far_it_got(root, store, lx, monkeypatch):
    from lightex.mulogger.imports.mlflow import MlflowPeer

    read, calls = MlflowPeer._read, []

    def interrupted(self, run, *more):
        calls.append(run)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(self, run, *more)

    monkeypatch.setattr(MlflowPeer, "_read", interrupted)
    done = lx("--root", root.path, "import", "mlflow", "mlflow.db")
    assert done.code == 130
    assert done.err.splitlines()[-1] == "interrupted: 1 imported; the same command takes up the rest"
    assert sorted(path.name[0] for path in root.path.iterdir()) == ["a"]
    assert len(list(root.runs())) == 1


def test_the_command_line(root, store, lx):
    done = lx("--root", root.path, "import", "mlflow", "mlflow.db", "--experiment", "a/b ..")
    assert done.code == 0
    assert done.err.splitlines()[0] == "opening mlflow.db"
    group = next(iter(root.runs())).short_id.partition("-")[0]
    assert done.out.startswith("3 imported in ")
    assert done.out.endswith(f"Next: lx compare {group}\n")
    assert "run_0" in lx("--root", root.path, "compare", group).out
    assert "FAILED in MLflow" in lx("--root", root.path, "ls").out
    assert "0.1" in lx("--root", root.path, "show", f"{group}-run_0").out
    assert lx("--root", root.path, "import", "mlflow", "mlflow.db", "--json").json["skipped"] == 3
    failed = lx("--root", root.path, "import", "mlflow", "nothing.db")
    assert (failed.code, failed.err.splitlines()[1]) == (2, "error: no MLflow store at 'nothing.db'")


def test_a_missing_package_is_told(root, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(NotFoundError) as told:
        bring(root, "mlflow", store)
    assert (
        str(told.value)
        == "'mlflow' needs the package 'mlflow', which is not installed\n  pip install 'lightex[mlflow]'"
    )


def test_lx_export_is_lx_sync_by_another_name(root, store, lx):
    bring(root, "mlflow", store, "other")
    done = lx("--root", root.path, "export", "csv", "-o", f"folder={root.path.parent}/csv")
    assert (done.code, "csv has it all" in done.out) == (0, True)
    assert list((root.path.parent / "csv").rglob("values.csv"))
    failed = lx("--root", root.path, "export", "cvs")
    assert failed.err.splitlines()[0] == "error: no logger named 'cvs'. Did you mean 'csv'?"
