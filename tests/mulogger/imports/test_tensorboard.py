"""Folders of real event files, brought in."""

import math
import shutil

import pytest

from lightex.core.errors import NotFoundError
from lightex.core.summary import summarize
from tests.mulogger.imports.conftest import bring, export, named, points, records, whole
from tests.services import need

pytestmark = [need("tensorboard"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def writer():
    """PyTorch's own writer."""
    return pytest.importorskip("torch.utils.tensorboard").SummaryWriter


@pytest.fixture
def logs(tmp_path, writer):
    """A run with everything, one in a folder below, and one whose name is odd."""
    import numpy as np

    for number, name in enumerate(("one", "deep/two", "größe 3")):
        made = writer(str(tmp_path / "logs" / name))
        for step in range(4):
            made.add_scalar("train/loss", math.nan if step == 2 else 1 / 2**step, step, walltime=1_700_000_000 + step)
            made.add_scalar("acc", step + number, step, walltime=1_700_000_000 + step)
        made.add_text("note", "hello **all**", 1)
        made.add_image("images/one", np.zeros((3, 4, 5)), 2)
        made.add_histogram("w", np.arange(100) / 7, 3)
        made.add_audio("sound", np.zeros((1, 800), dtype="float32"), 3, 8000)
        made.add_hparams({"lr": 0.5, "opt": "adam"}, {"final": 0.25})
        made.add_pr_curve("pr", np.array([0, 1]), np.array([0.1, 0.9]), 0)
        made.close()
    return tmp_path / "logs"


def test_all_of_a_run_comes(root, logs):
    taken = bring(root, "tensorboard", logs)
    assert (len(taken.imported), taken.failed, taken.left_out) == (3, [], {"pr_curves": 3})
    run = named(root)["one"]
    assert points(run, "train/loss") == [(0, 1.0), (1, 0.5), (2, "NaN"), (3, 0.125)]
    assert records(run, "metrics")[0] == {
        "time": 1_700_000_000.0, "step": 0, "metrics": {"train/loss": 1.0, "acc": 0.0}}  # fmt: skip
    summary = summarize(run, lambda _: False)
    assert (summary.status, summary.params, summary.experiment) == ("SUCCEEDED", {"lr": 0.5, "opt": "adam"}, "logs")
    assert summary.metrics["final"] == 0.25  # of the folder that add_hparams makes
    assert records(run, "text")[0]["text"] == {"name": "note", "value": "hello **all**"}
    image, sound = (record["media"] for record in records(run, "media"))
    assert (image["kind"], image["name"], image["width"], image["height"]) == ("image", "images/one", 5, 4)
    assert (run.path / image["path"]).read_bytes().startswith(b"\x89PNG")
    assert (sound["kind"], sound["rate"], sound["channels"], sound["seconds"]) == ("audio", 8000, 1, 0.1)
    found = records(run, "histogram")[0]["histogram"]
    assert (len(found["edges"]), sum(found["counts"])) == (len(found["counts"]) + 1, 100)
    assert found["edges"] == sorted(found["edges"])
    names = {name: run.short_id.partition("-")[2] for name, run in named(root).items()}
    assert names == {"one": "one", "deep/two": "deep_two", "größe 3": "größe_3"}


def test_a_second_time_takes_what_has_grown(root, logs, writer):
    bring(root, "tensorboard", logs)
    before = whole(root)
    assert bring(root, "tensorboard", f"{logs}/").skipped == 3
    assert whole(root) == before
    made = writer(str(logs / "one"), purge_step=2)
    made.add_scalar("train/loss", 9.0, 2)
    made.close()
    assert len(bring(root, "tensorboard", logs).updated) == 1
    run = named(root)["one"]
    assert points(run, "train/loss")[-1] == (2, 9.0)
    assert summarize(run, lambda _: False).metrics["train/loss"] == 9.0  # what came after its step is void


def test_out_and_in_again_is_the_same(root, logs):
    """Of our own sink's event files comes what was there: scalars, texts, images, sounds, histograms, hparams."""
    from lightex.core.root import Root

    bring(root, "tensorboard", logs, "demo")
    for run in root.runs():
        export(run, "tensorboard", {"folder": "again"})
    other = Root(root.path.parent / "others")
    bring(other, "tensorboard", "again/demo", "demo")
    here = sorted(root.runs(), key=lambda run: run.id)
    there = sorted(other.runs(), key=lambda run: run.identity["imported"]["name"])
    assert [run.identity["imported"]["name"] for run in there] == [run.id for run in here]
    for one, two in zip(here, there, strict=True):
        for kind in ("metrics", "text", "histogram"):
            assert _values(one, kind) == _values(two, kind)
        assert _media(one) == _media(two)
        assert summarize(one, lambda _: False).params == summarize(two, lambda _: False).params


def _values(run, kind):
    found = [(each["time"], each.get("step"), each[kind]) for each in records(run, kind)]
    return sorted(repr(each) for each in found)


def _media(run):
    found = [(each["step"], each["media"]) for each in records(run, "media")]
    return sorted((step, media["kind"], media["name"], media["sha256"]) for step, media in found)


def test_a_torn_file_gives_what_is_whole(root, logs):
    (file,) = (logs / "deep/two").glob("*tfevents*")
    shutil.rmtree(next(path for path in (logs / "deep/two").iterdir() if path.is_dir()))
    file.write_bytes(file.read_bytes()[:300])
    bring(root, "tensorboard", logs)
    assert points(named(root)["deep/two"], "train/loss")[0] == (0, 1.0)


def test_broken_files_cost_only_their_run(root, logs):
    (logs / "bad").mkdir()
    (logs / "bad/events.out.tfevents.1").write_bytes(b"nonsense" * 100)
    taken = bring(root, "tensorboard", logs)
    assert [name for name, _ in taken.failed] == ["bad"]
    assert len(taken.imported) == 3


def test_what_is_no_log_folder_is_told(root, tmp_path):
    with pytest.raises(NotFoundError, match="no folder 'nowhere'"):
        bring(root, "tensorboard", "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no event files in 'empty'"):
        bring(root, "tensorboard", "empty")


def test_names_are_safe_and_stay_apart(root, tmp_path, writer):
    """Names that become one, names too long for a folder, names that are no UTF-8."""
    import os

    for name in ("a b", "a/b", "a\n b", "x" * 200, "..hidden", "-rf"):
        made = writer(str(tmp_path / "logs" / name))
        made.add_scalar("loss", 1.0, 0)
        made.close()
    shutil.copytree(tmp_path / "logs/a b", tmp_path / "logs" / os.fsdecode(b"\xff\xfe"))
    taken = bring(root, "tensorboard", "logs", "../../../etc")
    assert len(taken.imported) == 6
    assert [name for name, _ in taken.failed] == ["\\udcff\\udcfe"]  # which TensorBoard itself cannot open
    assert {run.path.parent.parent for run in root.runs()} == {root.path}
    assert len({run.short_id for run in root.runs()}) == 6
    assert bring(root, "tensorboard", "logs", "../../../etc").skipped == 6
