"""Finding runs and sweeps; who is at work on what."""

import os
import subprocess
import sys

import pytest

from lightex.core.errors import NotFoundError
from lightex.core.root import PROJECT_FILES, Root, locked
from lightex.core.rundir import RunDir


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "runs")
    for name in ("260101-000000-aaaa-000", "260101-000000-aaaa-001", "260102-000000-abcd-000", "260103-000000-q7xyz"):
        RunDir.create(root.path / "demo" / name, {"sweep": name[14:18]}, {}, {"state": "QUEUED"})
    return root


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("aaaa", ["aaaa-000", "aaaa-001"]),
        ("aaaa-001", ["aaaa-001"]),
        ("aa", ["aaaa-000", "aaaa-001"]),
        ("ab", ["abcd-000"]),
        ("q", ["q7xyz"]),
        ("260102", ["abcd-000"]),
    ],
)
def test_any_unique_prefix_selects(root, prefix, found):
    assert [run.short_id for run in root.find(prefix)] == found


@pytest.mark.parametrize("prefix", ["a", "aaaa-0", "zzz", "26"])
def test_what_is_unknown_or_ambiguous_is_refused(root, prefix):
    with pytest.raises(NotFoundError):
        root.find(prefix)


def test_the_latest_is_the_youngest_sweep_or_run(root):
    assert [run.short_id for run in root.latest()] == ["q7xyz"]


def test_a_sweep_is_supervised_while_its_dispatcher_lives(root):
    sweep = root.new_sweep({"experiments": []})
    assert not sweep.supervised
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from lightex.core.root import SweepDir;"
         "s = SweepDir(Path(sys.argv[1])); print(s.claim(), flush=True); sys.stdin.read()", str(sweep.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "True\n"
    assert sweep.supervised
    assert not sweep.claim()
    holder.kill()
    holder.communicate()
    assert not sweep.supervised
    assert sweep.claim()


def test_a_missing_lock_is_free(tmp_path):
    assert not locked(tmp_path / "none")


def test_the_latest_sweep_is_that_which_was_made_last_whatever_has_happened_since(root):
    first, second = root.new_sweep({}), root.new_sweep({})
    os.utime(second.path / "sweep.json", ns=(2**62, 2**62))
    first.waits_for, first.paused = "a cpu", True  # written into its folder
    assert root.find_sweep().id == second.id
    (first.path / "sweep.json").unlink()  # it is being removed
    assert [sweep.id for sweep in root.sweeps()] == [first.id, second.id]


def test_a_request_that_is_broken_is_put_aside_and_others_are_taken(root):
    sweep = root.new_sweep({})
    sweep.request({"do": "stop"})
    (sweep.path / "requests" / "0-broken.json").write_text("{")
    assert sweep.take_requests() == [{"do": "stop"}]
    assert sweep.take_requests() == []
    assert [path.name for path in (sweep.path / "requests").iterdir()] == [".0-broken.json.broken"]


def test_a_project_is_found_by_any_of_its_files(tmp_path, monkeypatch):
    monkeypatch.delenv("LX_ROOT", raising=False)
    for name in PROJECT_FILES:
        inner = tmp_path / name.replace(".", "-") / "inner"
        inner.mkdir(parents=True)
        (inner.parent / name).write_text("")
        assert Root.locate(start=inner).path == inner.parent / "runs"
