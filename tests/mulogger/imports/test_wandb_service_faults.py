"""What W&B's service, or what it tells, may do to an import: refusing, falling silent, names that lead elsewhere."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.root import Root
from lightex.mulogger.imports import wandb_service
from tests.helpers import wait_for
from tests.mulogger.imports.conftest import bring, named, points
from tests.services import need
from tests.services.wandb import KEY, StoredRun

pytestmark = [need("wandb"), pytest.mark.filterwarnings("ignore")]

ROWS = [{"loss": 1.0, "_step": 0, "_timestamp": 1.7e9}]
ESCAPES = ["../../escaped.txt", "/{tmp}/escaped.txt", "a/../../../escaped.txt", "..", "media/../../../escaped.txt"]


def _program(root):
    return f"from lightex.cli import main; main(['--root', {str(root.path)!r}, 'import', 'wandb', 'team/p'])"


def _alone():
    """An environment without the process of W&B's that serves this one, and with the words that W&B's client has."""
    return {
        name: value for name, value in os.environ.items() if name not in ("WANDB_SERVICE", "WANDB_SILENT", "WANDB_DIR")
    }


@pytest.fixture
def three(wandb_server):
    """A project of three runs."""
    for name in "abc":
        wandb_server.add("team/p", StoredRun(name, name, history=ROWS, files={"keep.txt": name.encode()}))
    return wandb_server


def test_a_wrong_key(root, three, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    with pytest.raises(LightexError, match=r"cannot read team/p of W&B's service: .*not logged in") as told:
        bring(root, "wandb", "team/p")
    assert told.value.details[0].startswith("wandb login, or set WANDB_API_KEY")
    assert not root.path.exists()


def test_no_key(root, three, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(LightexError, match=r"cannot read team/p of W&B's service: .*`wandb login`"):
        bring(root, "wandb", "team/p")


def test_a_key_that_may_not_see_the_project(root, three):
    three.fault = lambda name, _: (403, {"errors": [{"message": "permission denied"}]}) if name == "Runs" else None
    with pytest.raises(LightexError, match="permission denied") as told:
        bring(root, "wandb", "team/p")
    assert "WANDB_API_KEY" in str(told.value)


def test_no_such_project(root, three):
    with pytest.raises(NotFoundError, match=r"no project that you may see 'team/pp' there. Did you mean 'team/p'\?"):
        bring(root, "wandb", "team/pp")
    with pytest.raises(NotFoundError, match=r"no project that you may see 'nobody/p' there"):
        bring(root, "wandb", "nobody/p")
    with pytest.raises(NotFoundError, match="no project 'other' there"):
        bring(root, "wandb", "team/p", "other")
    assert len(bring(root, "wandb", "team/p", "p").imported) == 3


def test_a_project_without_runs(root, wandb_server):
    wandb_server.projects["team/empty"] = {}
    assert bring(root, "wandb", "team/empty").imported == []


def test_nothing_answers(root, three, monkeypatch):
    monkeypatch.setattr(wandb_service, "_HELLO", 1)
    three.down()
    with pytest.raises(LightexError, match="cannot read team/p of W&B's service") as told:
        bring(root, "wandb", "team/p")
    assert "WANDB_BASE_URL" in str(told.value)


def test_it_falls_silent_between_two_pages(root, wandb_server, lx):
    """What came stays, and what to do is said; the same command takes up the rest."""
    for number in range(60):
        wandb_server.add("team/p", StoredRun(f"r{number}", history=ROWS))
    wandb_server.fault = lambda name, asked: (500, {}) if name == "Runs" and asked["cursor"] else None
    done = lx("--root", root.path, "import", "wandb", "team/p")
    assert done.code == 2
    assert "error: cannot read team/p of W&B's service: " in done.err
    assert "the same command takes up the rest" in done.err
    assert done.err.rstrip().endswith("50 imported")
    assert "Traceback" not in done.err
    wandb_server.fault = None
    assert lx("--root", root.path, "import", "wandb", "team/p", "--json").json["skipped"] == 50
    assert len(list(root.runs())) == 60


@pytest.mark.parametrize("status", [429, 502])
def test_what_fails_for_a_moment_is_asked_again(root, three, status):
    """W&B's service limits how often it may be asked."""
    met = set()

    def fault(name, asked):
        first = (name, str(asked)) not in met
        met.add((name, str(asked)))
        return (status, {"errors": [{"message": "rate limit exceeded"}]}) if first else None

    three.fault = fault
    taken = bring(root, "wandb", "team/p")
    assert (len(taken.imported), taken.failed, taken.left_out) == (3, [], {})
    assert [(run.artifacts / "keep.txt").read_text() for run in map(named(root).get, "abc")] == ["a", "b", "c"]


@pytest.mark.parametrize("where", ["Run", "RunHistoryKeys", "RunParquetHistory", "HistoryPage", "RunFiles", "GET "])
def test_a_run_of_which_a_part_fails_leaves_nothing(root, three, where):
    def fault(name, asked):
        mine = "b" in (asked.get("name"), asked.get("run"), asked.get("runName")) or name.startswith(
            "GET /files/team/p/b/"
        )
        return (500, {"errors": [{"message": "oops"}]}) if mine and name.startswith(where) else None

    three.fault = fault
    taken = bring(root, "wandb", "team/p")
    assert ([name for name, _ in taken.failed], len(taken.imported)) == (["b"], 2)
    assert sorted(named(root)) == ["a", "c"]
    three.fault = None
    assert len(bring(root, "wandb", "team/p").imported) == 1
    assert points(named(root)["b"], "loss") == [(0, 1.0)]


def test_it_goes_down_while_a_run_is_read(root, three):
    three.fault = lambda name, _: three.down() if name == "HistoryPage" else None
    taken = bring(root, "wandb", "team/p")
    assert (taken.imported, [name for name, _ in taken.failed]) == ([], ["a", "b", "c"])
    assert not root.path.exists()
    three.fault = None
    three.up()
    bring(root, "wandb", "team/p")
    assert sorted(named(root)) == ["a", "b", "c"]


def test_it_says_nothing_at_all_and_people_lose_patience(root, three):
    """Ctrl-C ends it at once, and keeps what came."""
    silence = threading.Event()
    three.fault = lambda name, asked: silence.wait() if name == "HistoryPage" and asked["run"] == "b" else None
    with subprocess.Popen(
        [sys.executable, "-c", _program(root)], env=_alone(), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: three.times("HistoryPage") == 2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    silence.set()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: 1 imported; the same command takes up the rest"
    assert sorted(named(root)) == ["a"]


def test_exported_history_that_is_not_given_out(root, wandb_server):
    """W&B's client takes what is sent instead for the file; the run is not imported without its history."""
    pytest.importorskip("pyarrow")
    wandb_server.add("team/p", StoredRun("a", history=ROWS, exported=1))
    wandb_server.fault = lambda name, _: (403, b"<Error>Expired</Error>") if name.startswith("GET /parquet") else None
    assert len(bring(root, "wandb", "team/p").failed) == 1
    wandb_server.fault = None
    assert len(bring(root, "wandb", "team/p").imported) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_file_that_is_not_given_out(root, three, status):
    """The rest of the run comes; people are told."""
    three.fault = lambda name, _: (
        (status, {"error": "AccessDenied"}) if name == "GET /files/team/p/b/keep.txt" else None
    )
    taken = bring(root, "wandb", "team/p")
    assert (len(taken.imported), taken.left_out) == (3, {"files that W&B does not give out": 1})
    assert [(run.artifacts / "keep.txt").exists() for run in map(named(root).get, "abc")] == [True, False, True]


def test_names_of_files_do_not_lead_outside(root, wandb_server, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    names = [name.replace("{tmp}", str(outside).lstrip("/")) for name in ESCAPES]
    files = dict.fromkeys(names, b"bad") | {"good/x.txt": b"good", ".hidden": b"", "a\\..\\b": b"odd"}
    media = {"_type": "image-file", "path": names[0]}
    wandb_server.add("team/p", StoredRun("a", history=[{**ROWS[0], "img": media}], files=files))
    taken = bring(root, "wandb", "team/p")
    assert taken.failed == []
    assert taken.left_out == {"files whose names lead out of the run": 6, "media whose files are gone": 1}
    assert list(tmp_path.rglob("*escaped*")) == []
    (run,) = root.runs()
    kept = {path.relative_to(run.artifacts).as_posix() for path in run.artifacts.rglob("*") if path.is_file()}
    assert kept == {"good/x.txt", ".hidden"}


def test_history_that_does_not_come_is_no_empty_history(root, wandb_server):
    """W&B's client 0.27.1 and 0.27.2 showed no rows of some runs: a run without its metrics is not what people want."""
    wandb_server.add("team/p", StoredRun("a", history=ROWS))
    told = {"data": {"project": {"run": {"history": []}}}}
    wandb_server.fault = lambda name, _: (200, told) if name == "HistoryPage" else None
    ((name, why),) = bring(root, "wandb", "team/p").failed
    assert (name, "none of its 1 rows of history came" in why) == ("run-1", True)


def test_the_key_stays_where_it_was(root, three, tmp_path, wandb_home, capfd):
    bring(root, "wandb", "team/p")
    three.fault = lambda name, _: (500, {"errors": [{"message": "oops"}]}) if name == "RunFiles" else None
    bring(Root(tmp_path / "second"), "wandb", "team/p")
    said = "".join(capfd.readouterr())
    assert KEY not in said
    for folder in (tmp_path, wandb_home):
        for path in folder.rglob("*"):
            assert not (path.is_file() and KEY.encode() in path.read_bytes()), path


def test_the_command_line(root, three, lx):
    done = lx("--root", root.path, "import", "wandb", "team/p")
    assert (done.code, done.err.splitlines()[0]) == (0, "opening team/p")
    assert done.out.startswith("3 imported in ")
    assert "SUCCEEDED" in lx("--root", root.path, "ls").out
    failed = lx("--root", root.path, "import", "wandb", "team/q")
    assert failed.code == 2
    assert failed.err.splitlines()[1:] == ["error: no project that you may see 'team/q' there. Did you mean 'team/p'?",
                                           "  there are: team/p"]  # fmt: skip


def test_the_command_line_in_a_process_of_its_own(root, three, tmp_path):
    """W&B's client leaves nothing behind that would hold the command up, and says nothing of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _program(root)], env=_alone(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0], "wandb" in done.stderr) == (0, "opening team/p", False)
    assert done.stdout.startswith("3 imported in ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
