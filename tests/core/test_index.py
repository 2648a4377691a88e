"""The index of all runs: what it takes in, and what it outlives."""

import fcntl
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from lightex.core import journal
from lightex.core.errors import StorageError
from lightex.core.index import Index, reading
from lightex.core.index import entry as entries
from lightex.core.liveness import process_mark
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from tests.helpers import make_run, wait_for


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "runs").mkdir()
    return Root(tmp_path / "runs")


@pytest.fixture
def index(root):
    """An index that looks only at what stirs, however quick a look at all would be."""
    with Index(root) as index:
        index._cost = 1e9
        yield index


def fresh(root, cache):
    """What an index says that is made from nothing."""
    for file in (cache / "index").iterdir():
        file.rename(file.with_name(f"{file.name}.away"))
    with Index(root) as index:
        said = index.select()
    for file in (cache / "index").glob("*.away"):
        file.replace(str(file).removesuffix(".away"))
    return said


def states(index):
    return {run.short_id: run.status for run in index.select()}


# ---------------------------------------------------------------------- what it says of a run


def test_the_index_says_what_a_summary_says(root):
    run = make_run(root.path, "s-0", {"lr": 0.1, "big": 2**63, "inf": float("inf"), "list": [1, {"a": None}]},
                   {"metrics": {"loss": 1.0, "nan": float("nan")}, "step": 0}, {"metrics": {"loss": 0.5}, "step": 1},
                   {"tags": {"team": "a"}}, config={"metric": "loss", "mode": "min", "tags": {"t": "1"}},
                   sweep="s", varied={"hp.lr": 0.1}, engine="process", user="u", host="h")  # fmt: skip
    run.note("good", {"seen": "yes", "t": None}, archived=True)
    with Index(root) as index:
        (found,) = index.select()
    from lightex.core.summary import summarize

    assert repr(found) == repr(summarize(RunDir(run.path), lambda _: False))
    assert found.tags == {"team": "a", "seen": "yes"}
    assert (found.note, found.archived, found.duration, found.objective) == ("good", True, 60.0, ("loss", "min"))


def test_a_root_that_is_not_there_has_no_runs(tmp_path):
    with Index(Root(tmp_path / "nowhere")) as index:
        assert index.select() == []
        assert index.count() == 0


def test_a_moved_root_is_read_where_it_is(root, tmp_path):
    make_run(root.path, "s-0", {"lr": 0.1})
    with Index(root) as index:
        assert [run.dir for run in index.select()] == [str(root.path / "demo" / "260101-000000-s-0")]
    root.path.rename(tmp_path / "elsewhere")
    with Index(Root(tmp_path / "elsewhere")) as index:
        assert [run.dir for run in index.select()] == [str(tmp_path / "elsewhere" / "demo" / "260101-000000-s-0")]
    with Index(root) as index:
        assert index.select() == []


def test_a_root_by_two_names_has_one_index(root, tmp_path):
    make_run(root.path, "s-0")
    (tmp_path / "link").symlink_to(root.path)
    with Index(root) as one, Index(Root(tmp_path / "link")) as other:
        assert one.path == other.path
        assert other.select()[0].dir == str(tmp_path / "link" / "demo" / "260101-000000-s-0")


# ---------------------------------------------------------------------- it is disposable


@pytest.mark.parametrize("how", ["deleted", "text", "empty", "version", "middle", "other tables"])
def test_an_index_that_is_gone_broken_or_of_another_version_is_made_anew(root, how):
    for number in range(40):
        make_run(root.path, f"s-{number:03}", {"lr": number, "text": "x" * 500})
    with Index(root) as index:
        path = index.path
        index.column("params", "hp.lr")
    for end in ("-wal", "-shm"):
        assert not Path(f"{path}{end}").exists()
    match how:
        case "deleted":
            path.unlink()
        case "text":
            path.write_text("no index at all\n" * 1000)
        case "empty":
            path.write_bytes(b"")
        case "version":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA user_version=999")
        case "middle":
            data = bytearray(path.read_bytes())
            data[4096:] = os.urandom(len(data) - 4096)
            path.write_bytes(data)
        case "other tables":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("DROP TABLE runs")
    with Index(root) as index:
        assert [run.params["hp.lr"] for run in index.select()] == list(range(40))
        assert index.count(f"{index.column('params', 'hp.lr')} > 36") == 3


def test_an_index_that_is_deleted_while_it_is_open_still_answers(root, index):
    make_run(root.path, "s-0")
    index.refresh()
    for file in index.path.parent.glob("*.sqlite*"):
        file.unlink()
    make_run(root.path, "s-1")
    index.refresh(whole=False)
    assert list(states(index)) == ["s-0", "s-1"]
    index.column("params", "hp.lr")


def test_an_index_that_breaks_while_it_is_open_says_what_to_do(root, index):
    for number in range(40):
        make_run(root.path, f"s-{number:03}", {"text": "x" * 500})
    index.refresh()
    index._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index._database.connection.execute("PRAGMA cache_size=0")
    with index.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(index.path.stat().st_size - 4096))
    with pytest.raises(
        StorageError, match=r"^the index .* was broken and is removed: .*\n  try again: it is made anew"
    ):
        index.select()
    with Index(root) as again:
        assert again.count() == 40


def test_a_cache_folder_that_cannot_be_used_is_told_with_what_to_do(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "file"))
    expected = (
        rf"^no index can be kept in {tmp_path}/file/index: Not a directory\n  choose another folder with LX_CACHE$"
    )
    with pytest.raises(StorageError, match=expected):
        Index(root)


def test_a_full_disk_is_told_with_what_to_do(root, small_disk, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(small_disk))
    for number in range(30):
        make_run(root.path, f"s-{number}", {"text": "x" * 50000})
    with pytest.raises(StorageError, match=r"^the index .* cannot be written: .*full\n  choose another folder"):
        Index(root)


# ---------------------------------------------------------------------- broken runs

BROKEN = {
    "no run.json": ("run.json", None),
    "garbage": ("run.json", b"{{{"),
    "a list": ("run.json", b"[]"),
    "an empty file": ("run.json", b""),
    "no config": ("config.json", None),
    "newer": ("run.json", b'{"format": 99}'),
    "format is a text": ("run.json", b'{"format": "1"}'),
    "a metric without a mode": ("config.json", b'{"metric": "loss"}'),
    "tags are a list": ("config.json", b'{"tags": ["a"]}'),
    "name is an object": ("run.json", b'{"format": 1, "config_name": {"a": 1}}'),
    "user is a list": ("run.json", b'{"format": 1, "user": ["a"]}'),
    "sweep is an object": ("run.json", b'{"format": 1, "sweep": {"a": 1}}'),
    "sweep is a number": ("run.json", b'{"format": 1, "sweep": 7}'),
    "created is a text": ("run.json", b'{"format": 1, "created": "yesterday"}'),
    "varied is a list": ("run.json", b'{"format": 1, "varied": [1]}'),
    "times are texts": ("events.jsonl", b'{"state":"RUNNING","time":"a"}\n{"state":"FAILED","time":"b"}\n'),
    "reason is an object": ("events.jsonl", b'{"state":"FAILED","time":1,"reason":{"a":1}}\n'),
    "exit code is huge": ("events.jsonl", b'{"state":"FAILED","time":1,"exit_code":18446744073709551615}\n'),
    "process is a list": ("events.jsonl", b'{"state":"RUNNING","time":1,"process":[1]}\n'),
    "process is a text": ("events.jsonl", b'{"state":"RUNNING","time":1,"process":"1"}\n'),
    "a deep parameter": ("records.jsonl", b'{"params":{"a":' + b"[" * 600 + b"]" * 600 + b"}}\n"),
    "a deep config": ("config.json", b'{"hp":{"a":' + b"[" * 600 + b"1" + b"]" * 600 + b"}}"),
    "notes": ("notes.json", b"nothing"),
    "events is a folder": ("events.jsonl", "folder"),
    "records is a folder": ("records.jsonl", "folder"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_run_is_shown_as_broken_and_hides_no_other(root, what):
    make_run(root.path, "s-0")
    bad = make_run(root.path, "s-1", {}, {"metrics": {"a": 1}})
    make_run(root.path, "s-2")
    name, content = BROKEN[what]
    (bad.path / name).unlink(missing_ok=True)
    if content == "folder":
        (bad.path / name).mkdir()
    elif content is not None:
        (bad.path / name).write_bytes(content)
    from lightex.core.summary import read_all

    with Index(root) as index:
        found = {run.short_id: run for run in index.select()}
        assert {found["s-0"].status, found["s-2"].status} == {"SUCCEEDED"}
        assert found["s-1"].status == "LOST"
        assert found["s-1"].reason.startswith("broken: ")
        assert found["s-1"].experiment == "demo"
    if what not in ("newer", "format is a text"):
        assert [(run.status, run.reason) for run in read_all(root, root.runs())] == [
            (run.status, run.reason) for run in found.values()
        ]


@pytest.mark.parametrize(
    "records",
    [
        os.urandom(5000) + b"\n",
        b'{"metrics":3}\n{"metrics":{"a":"high","b":null,"c":[1],"":1}}\n{"step":1}\n[]\n1\nnull\n\n\n',
        b'{"metrics":{"a":1},"step":"x","time":"y"}\n{"metrics":{"a":2},"step":[1],"time":{}}\n',
        b'{"params":[1]}\n{"tags":{"a":{"b":1},"c":null,"d":3}}\n{"finish":1}\n{"attempt":"x"}\n{"artifact":3}\n',
        b'{"metrics":{"a":1},"step":1e999}\n{"metrics":{"a":1e999}}\n{"metrics":{"a":123456789012345678901234567890}}\n',
        b'{"metrics":{"a":1}}\n{"metrics":{"a":2',
        b'{"metrics":{"\\ud800":1}}\n{"params":{"a\\u0000b":"\\u0000"}}\n',
    ],
)
def test_records_of_other_shapes_break_nothing(root, records):
    run = make_run(root.path, "s-0")
    run.records_file().write_bytes(records)
    with Index(root) as index:
        assert states(index) == {"s-0": "SUCCEEDED"}


def test_what_is_no_run_is_passed_over(root):
    make_run(root.path, "s-0")
    for name in ("file", "demo/file", "demo/.hidden"):
        (root.path / name).write_text("")
    (root.path / ".sweeps" / "x").mkdir(parents=True)
    (root.path / "demo" / "gone").symlink_to("nowhere")
    os.mkdir(os.fsencode(root.path) + b"/demo/\xff")
    os.mkdir(os.fsencode(root.path) + b"/\xfe")
    os.mkdir(os.fsencode(root.path) + b"/\xfe/run")
    with Index(root) as index:
        assert list(states(index)) == ["s-0"]


UNREADABLE = """
import os, sqlite3
import lightex.core.follow, lightex.storage.snapshot
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.core.summary import read_all
root = Root({root!r})
if os.geteuid() == 0:
    os.setuid(65534)
with Index(root) as index:
    print([(run.short_id, run.status, run.reason) for run in index.select()])
    os.chmod({secret!r}, 0o600)
    index.refresh()
    print([run.status for run in index.select()])
    print(len(read_all(root, root.runs())))
"""


def test_what_may_not_be_read_stops_nothing_and_is_read_when_it_may():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_run(folder / "runs", "s-0")
        secret = make_run(folder / "runs", "s-1")
        (folder / "runs" / "lost+found").mkdir(mode=0o000)
        secret.config_file.chmod(0o000)
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, 65534, 65534)
            os.chown(folder / "runs" / "lost+found", 0, 0)
        code = UNREADABLE.format(root=str(folder / "runs"), secret=str(secret.config_file))
        kept = {name: value for name, value in os.environ.items() if "COV" not in name}  # it may not write there
        environment = {**kept, "LX_CACHE": str(folder / "cache"), "HOME": name}
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, env=environment, capture_output=True, text=True
        )
        assert done.stderr == ""
        reason = f"broken: cannot read {secret.config_file}: Permission denied"
        assert done.stdout.splitlines() == [
            str([("s-0", "SUCCEEDED", None), ("s-1", "LOST", reason)]),
            "['SUCCEEDED', 'SUCCEEDED']",
            "2",
        ]


# ---------------------------------------------------------------------- what goes on


def test_a_new_run_and_what_it_logs_and_its_end_are_seen_at_the_next_look(root, index):
    run = make_run(root.path, "s-0", {"lr": 1}, state=None)
    index.refresh(whole=False)
    assert states(index) == {"s-0": "RUNNING"}
    version = index.version
    assert index.refresh(whole=False) == version
    journal.append(run.records_file(), {"metrics": {"loss": 2.0}, "step": 0})
    assert index.refresh(whole=False) > version
    assert [one.metrics for one in index.since(version)] == [{"loss": 2.0}]
    journal.append(run.records_file(1), {"metrics": {"other": 1.0}, "step": 0})
    run.append_event({"time": 1061.0, "state": "FAILED", "reason": "bad"})
    index.refresh(whole=False)
    (one,) = index.select()
    assert (one.status, one.reason, one.metrics) == ("FAILED", "bad", {"loss": 2.0, "other": 1.0})


def test_a_run_that_is_retried_after_its_end_in_a_sweep_at_work_is_seen(root, index):
    sweep = root.new_sweep({"experiments": ["demo"]})
    run = make_run(root.path, f"{sweep.id}-000", sweep=sweep.id, state="FAILED")
    index.refresh()
    assert sweep.claim()
    run.append_event({"time": 1070.0, "state": "QUEUED", "attempt": 2})
    index.refresh(whole=False)
    assert states(index) == {f"{sweep.id}-000": "QUEUED"}
    sweep.release()


@pytest.mark.parametrize("ago", [0, 60])
def test_a_run_whose_dispatcher_ends_is_seen_to_be_lost(root, index, ago):
    sweep = root.new_sweep({"experiments": ["demo"]})
    assert sweep.claim()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = make_run(root.path, f"{sweep.id}-000", sweep=sweep.id, state=None)
        run.append_event({"time": 1002.0, "state": "RUNNING", "process": process_mark(process.pid)})
        os.utime(run.path, (time.time() - ago, time.time() - ago))  # whether its mark can be trusted
        index.refresh(whole=False)
        assert list(states(index).values()) == ["RUNNING"]
        process.kill()
    index.refresh(whole=False)
    assert list(states(index).values()) == ["RUNNING"]
    sweep.release()
    version = index.version
    assert index.refresh(whole=False) > version
    assert list(states(index).values()) == ["LOST"]


def test_runs_and_experiments_that_are_removed_go(root, index):
    for name in ("s-0", "s-1"):
        make_run(root.path, name)
    make_run(root.path, "s-2", experiment="other", state=None)
    index.refresh()
    RunDir(root.path / "demo" / "260101-000000-s-0").remove()
    index.refresh(whole=False)
    assert list(states(index)) == ["s-1", "s-2"]
    shutil.rmtree(root.path / "other")
    index.refresh(whole=False)
    assert list(states(index)) == ["s-1"]
    shutil.rmtree(root.path)
    index.refresh(whole=False)
    assert states(index) == {}


@pytest.mark.parametrize("state", [None, "SUCCEEDED"])
def test_each_note_is_seen_where_times_of_change_are_coarse(root, state):
    run = make_run(root.path, "s-0", state=state)
    second = int(time.time())
    with Index(root) as index:
        for number in range(50):
            run.note(f"{number:03}")
            os.utime(run.path, (second, second))
            index.refresh()
            assert index.select()[0].note == f"{number:03}"
            version = index.version
            assert index.refresh() == version


def test_a_run_that_rests_is_read_once(root):
    run = make_run(root.path, "s-0")
    past = time.time() - 10
    for path in (*run.path.iterdir(), run.path):
        os.utime(path, (past, past))
    with Index(root) as index:
        version = index.version
        assert index.refresh() == version


def test_a_torn_line_counts_when_it_is_whole(root, index):
    run = make_run(root.path, "s-0", state=None)
    with run.records_file().open("ab") as file:
        file.write(b'{"metrics":{"a":1}}\n{"metrics":{"a"')
        file.flush()
        index.refresh(whole=False)
        assert index.select()[0].metrics == {"a": 1.0}
        file.write(b":2}}\n")
    index.refresh(whole=False)
    assert index.select()[0].metrics == {"a": 2.0}


def test_records_that_are_written_anew_are_read_anew(root, index):
    run = make_run(root.path, "s-0", {}, *({"metrics": {"a": n}} for n in range(9)), state=None)
    index.refresh(whole=False)
    run.records_file().write_bytes(b'{"metrics":{"b":1}}\n')
    index.refresh(whole=False)
    assert index.select()[0].metrics == {"b": 1.0}


def deed(chosen, run):
    """Something that may happen to a run."""
    n = chosen.randrange(4)
    numbers = [0.5, -1.0, float("nan"), float("inf"), 3]
    match chosen.randrange(9):
        case 0 | 1 | 2:
            records = [{"metrics": {f"m{chosen.randrange(3)}": chosen.choice(numbers)}, "step": chosen.randrange(9)}
                       for _ in range(n)]  # fmt: skip
            journal.append(run.records_file(chosen.randrange(2)), *map(journal.jsonable, records))
        case 3:
            journal.append(run.records_file(), {"attempt": 2}, {"params": {f"p{n}": n}}, {"tags": {"t": str(n)}})
        case 4:
            with run.records_file().open("ab") as file:
                file.write(chosen.choice([b'{"metrics":', b"\n", b"\xff\n", b'{"metrics":{"m0":7}}']))
        case 5:
            run.append_event({"time": 2000.0 + n, "state": chosen.choice(["RUNNING", "FAILED"]), "attempt": n})
        case 6:
            run.note(f"note {n}", {f"n{n}": chosen.choice(["x", None])}, chosen.choice([True, False, None]))
        case 7:
            run.remove()
        case 8 if n == 0:
            (run.path / "run.json").unlink()


@pytest.mark.parametrize("seed", range(6))
def test_what_is_taken_in_piece_by_piece_is_what_is_read_at_once(root, cache, seed):
    chosen = random.Random(seed)
    runs = []
    with Index(root) as index:
        for number in range(60):
            if chosen.random() < 0.2 or not runs:
                runs.append(make_run(root.path, f"s-{number:03}", {"lr": number}, state=None,
                                     experiment=chosen.choice(["a", "b"])))  # fmt: skip
            run = chosen.choice(runs)
            deed(chosen, run)
            if not run.path.exists():
                runs.remove(run)
            if chosen.random() < 0.5:
                index.refresh(whole=chosen.random() < 0.5)
            if chosen.random() < 0.1:
                name = f"m{chosen.randrange(3)}"
                index.column("metrics", name, chosen.choice(["last", "min", "max", "step"]))
        index.refresh()
        column = index.column("metrics", "m0")
        rows = index.rows(f"SELECT id, {column} FROM runs ORDER BY id")
        assert repr(index.select()) == repr(fresh(root, cache))
    for id, value in rows:
        said = next(run for run in index.root.runs() if run.id == id)
        with closing(sqlite3.connect(index.path)) as connection:
            (text,) = connection.execute(
                "SELECT metrics FROM details JOIN runs USING (key) WHERE id=?", (said.id,)
            ).fetchone()
        last = json.loads(text).get("m0", [None])[0]
        assert value == (last if last not in ("Infinity", "-Infinity") else float(last))


# ---------------------------------------------------------------------- several processes

MANY = 2000

SCRIPT = """
import lightex.qviz.runs
print(len(lightex.qviz.runs.runs("", {root!r})))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A root that is read by several processes."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        make_run(folder, f"s-{number:04}", {"lr": number}, {"metrics": {"loss": number}, "step": 0})
    return Root(folder)


def test_a_plain_script_without_a_guard_may_ask_for_many_runs(many, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=str(many.path)))
    done = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"{MANY}\n", "")


def test_processes_that_open_it_from_nothing_at_once_all_get_all(many, tmp_path):
    code = SCRIPT.format(root=str(many.path))
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(4)]  # fmt: skip
    assert [process.communicate() for process in started] == [(f"{MANY}\n".encode(), b"")] * 4


def test_several_processes_read_what_one_would(many, monkeypatch):
    with Index(many) as index:
        one = index.select()
        index.path.unlink()
    monkeypatch.setattr(reading, "_ALONE", MANY + 1)
    with Index(many) as index:
        assert index.select() == one


def test_after_a_process_that_is_killed_while_it_reads_the_next_one_goes_on(many, tmp_path):
    code = SCRIPT.format(root=str(many.path))
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        wait_for(lambda: list((tmp_path / "cache").glob("index/*.sqlite-wal")))
        (wal,) = (tmp_path / "cache" / "index").glob("*.sqlite-wal")
        wait_for(lambda: wal.stat().st_size > 100_000)
        process.kill()
        assert process.stderr.read() == b""  # nor do those that read for it say anything
    told = []
    with Index(many, lambda done, total: told.append(total)) as index:
        assert index.count() == MANY
    assert told[0] <= MANY


def test_a_reading_process_that_is_killed_is_told_with_what_to_do(many):
    code = f"""
import os, signal
from pathlib import Path
from lightex.core.errors import StorageError
from lightex.core.index import Index
from lightex.core.root import Root

def kill(done, total):
    if done == 1:
        for child in Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
try:
    Index(Root({str(many.path)!r}), kill)
except StorageError as error:
    print(error.message, "|", *error.details)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("a process that reads runs ")
    assert done.stdout.endswith("| try again\n")


def test_ctrl_c_while_many_are_read_ends_quietly(many, tmp_path):
    code = f"""
from lightex.cli import main
main(["--root", {str(many.path)!r}, "ls", "--all"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for(lambda: list((tmp_path / "cache").glob("index/*.sqlite-wal")))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert err.strip() == b""
    assert process.returncode in (0, 130)


def test_who_waits_for_another_reader_is_told_how_far_it_is(root):
    make_run(root.path, "s-0")
    with Index(root) as index:
        lock = index.path.with_suffix(".lock")
        other = os.open(lock, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        told = []

        def tell(done, total):
            told.append((done, total))
            fcntl.flock(other, fcntl.LOCK_UN)

        index.refresh(tell)
        os.close(other)
    assert told[0] == (1, 1)


def test_columns_have_an_end_and_the_error_says_what_to_do(root, index):
    make_run(root.path, "s-0", {}, {"metrics": {"a": 1.0}})
    index.refresh()
    index._database.connection.execute("INSERT INTO columns VALUES (1901, 'tags', 'x', 'last')")
    with pytest.raises(Exception, match=r"columns for 1,900 names already\n  remove .*\.sqlite: it is made anew"):
        index.column("metrics", "a")


def test_what_a_former_reading_left_may_be_odd_then_the_run_is_read_from_its_beginning(run_dir):
    run_dir.append_event({"time": 2.0, "state": "RUNNING", "attempt": 1})
    journal.append(run_dir.records_file(), {"metrics": {"loss": 0.5}, "step": 1})
    root, path = str(run_dir.path.parents[1]), f"demo/{run_dir.id}"
    live = entries.read(root, path, lambda _: True).live
    odd = live.replace(b'"loss":[0.5,1,', b'"loss":[1,')
    assert odd != live
    assert entries.read(root, path, lambda _: True, odd).summary.metrics == {"loss": 0.5}
    assert entries.read(root, path, lambda _: True, b"[]").summary.status == "RUNNING"
