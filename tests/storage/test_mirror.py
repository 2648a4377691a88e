"""A run's directory in S3: against a real service, and by any interleaving against one in memory."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightex.core.errors import StorageError
from lightex.storage import mirror as module
from lightex.storage import segments
from lightex.storage.bucket import AwayError, Bucket
from lightex.storage.mirror import Mirror, everyones, name_of, nobodys, users
from lightex.storage.objects import DIGEST, Object
from lightex.storage.refusals import MissingObjectError


def nodes(path):
    return not users(path)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


USERS = {"run.json": b"{}", "config.json": b"{}", "events.jsonl": b'{"state": "QUEUED"}\n', "code.1.tar.gz": b"x"}
NODES = {"output.log": b"hello\n", "records.jsonl": b'{"metrics": {}}\n', "artifacts/deep/m.bin": b"m" * 5000,
         "artifacts/empty": b"", "records.1.jsonl": b""}  # fmt: skip


class Memory:
    """A bucket in memory, which can fail at a given request."""

    url = "memory://"

    def __init__(self, odd=False):
        self.objects, self.odd, self.fails_in = {}, odd, 0

    def _may_fail(self):
        if self.fails_in:
            self.fails_in -= 1
            if not self.fails_in:
                raise AwayError("it is away")

    def _etag(self, data):
        digest = hashlib.md5(data).hexdigest()
        return f"odd-{digest}" if self.odd else digest  # as of encrypted objects

    def list(self, prefix=""):
        self._may_fail()
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield Object(key, len(self.objects[key]), self._etag(self.objects[key]))

    def write(self, key, data):
        self._may_fail()
        self.objects[key] = data
        return Object(key, len(data), self._etag(data))

    def read_object(self, key):
        self._may_fail()
        data = self.objects.get(key)
        return None if data is None else (Object(key, len(data), self._etag(data)), data)

    def read(self, key):
        return self.objects.get(key)

    def head(self, key):
        data = self.objects[key]
        return Object(key, len(data), self._etag(data), {DIGEST: hashlib.sha256(data).hexdigest()})

    def put(self, path, key):
        data = path.read_bytes()
        self.write(key, data)
        return self.head(key)

    def get(self, key, path):
        if key not in self.objects:
            raise MissingObjectError(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.objects[key])
        return self.head(key)

    def delete(self, keys):
        for key in keys:
            self._may_fail()
            self.objects.pop(key, None)


OFTEN = {"append": 5, "push": 5, "pull": 4, "cut": 2, "file": 1, "remove": 1, "fail": 1, "restart_node": 1,
         "restart_user": 1, "drop": 1}  # fmt: skip
steps = st.lists(
    st.tuples(st.sampled_from([step for step, count in OFTEN.items() for _ in range(count)]), st.binary(min_size=1, max_size=9)),
    min_size=6, max_size=40,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(steps, st.booleans())
def test_any_interleaving_gives_equal_bytes(steps, odd):
    """What is appended, and cut off and written anew, arrives; whoever is killed or fails in between."""
    grow, piece, segments.GROW, segments.PIECE = segments.GROW, segments.PIECE, 8, 16
    folder = Path(tempfile.mkdtemp(prefix="lx-mirror-"))
    try:
        _interleave(folder, steps, Memory(odd))
    finally:
        segments.GROW, segments.PIECE = grow, piece
        shutil.rmtree(folder)


class Sides:
    """A node that writes a run's directory, and a user's machine that follows it."""

    def __init__(self, folder, there):
        self.here, self.away, self.there = folder / "user", folder / "node", there
        self.log = self.away / "output.log"
        self.user, self.node = Mirror(there, "r"), Mirror(there, "r")
        self.states = {b""}  # all beginnings of what the log ever was
        for each in (self.here, self.away):
            each.mkdir()
        write(self.here, USERS)
        self.user.push(self.here, users)
        self.node.pull(self.away, nobodys)

    def append(self, data):
        with self.log.open("ab") as file:
            file.write(data)
        whole = self.log.read_bytes()
        self.states |= {whole[:end] for end in range(len(whole) + 1)}

    def cut(self, data):
        if self.log.exists():
            os.truncate(self.log, max(0, self.log.stat().st_size - min(8, len(data))))

    def file(self, data):
        write(self.away, {"artifacts/f": data})

    def remove(self, _):
        (self.away / "artifacts/f").unlink(missing_ok=True)

    def fail(self, data):
        self.there.fails_in = len(data)

    def push(self, _):
        self.node.push(self.away, nodes)

    def pull(self, _):
        self.user.pull(self.here, users)

    def restart_node(self, _):
        self.node = Mirror(self.there, "r")

    def restart_user(self, _):
        self.user = Mirror(self.there, "r")

    def drop(self, _):
        (self.here / "output.log").unlink(missing_ok=True)

    def check(self):
        with contextlib.suppress(FileNotFoundError):
            assert (self.here / "output.log").read_bytes() in self.states


def _interleave(folder, steps, there):
    sides = Sides(folder, there)
    here, away = sides.here, sides.away
    for step, value in steps:
        with contextlib.suppress(AwayError):
            getattr(sides, step)(value)
        sides.check()
    there.fails_in = 0
    sides.node.finish(away, nodes, 0, 1)
    assert sides.user.pull(here, users) == {(0, 1)}
    assert sides.user.missing(here, 1, 1) == []
    for name, data in tree(away).items():
        assert (here / name).read_bytes() == data
    (folder / "fresh").mkdir()
    Mirror(there, "r").pull(folder / "fresh", nobodys)
    more = {**tree(folder / "fresh"), **USERS}
    if any(step == "restart_node" for step, _ in steps):  # nobody remembers that it was there
        more.pop("artifacts/f" if "artifacts/f" not in tree(away) else "", None)
    assert more == {**tree(away), **USERS}


def test_what_is_the_users_and_how_a_run_is_called():
    for path in (*USERS, "usage.jsonl", "build.log", "sinks/mlflow.json", "requests/cancel"):
        assert users(path), path
    for path in (*NODES, "run.json.bak", "artifacts/run.json", "output.1.log"):
        assert not users(path), path
    name = name_of(Path("/x/runs/demo/260101-000000-r"))
    assert name.startswith("runs/260101-000000-r-")
    assert name != name_of(Path("/y/runs/demo/260101-000000-r"))


@pytest.fixture
def sides(tmp_path, s3):
    """The folders of the user and the node, with a mirror for each."""
    for name in ("user", "node"):
        (tmp_path / name).mkdir()
    write(tmp_path / "user", USERS)
    return (tmp_path / "user", Mirror(s3.at("p"), "r")), (tmp_path / "node", Mirror(s3.at("p"), "r"))


def test_a_run_goes_there_and_comes_back(s3, sides):
    (here, user), (away, node) = sides
    assert user.push(here, users) == 4
    assert user.push(here, users) == 0
    node.pull(away, nobodys)
    assert tree(away) == USERS
    write(away, NODES)
    (away / "artifacts/m.bin.link").symlink_to(away / "artifacts/deep/m.bin")
    os.mkfifo(away / "pipe")
    (away / ".x.part").write_bytes(b"half")
    assert node.push(away, nodes) == 6
    assert user.pull(here, users) == frozenset()
    assert user.missing(here, 1, 1) == ["node 0 has not said that it has finished"]
    node.finish(away, nodes, 0, 1)
    assert user.pull(here, users) == {(0, 1)}
    assert user.missing(here, 1, 1) == []
    assert tree(here) == {**USERS, **NODES, "artifacts/m.bin.link": NODES["artifacts/deep/m.bin"]}
    assert user.missing(here, 2, 1) == ["node 1 has not said that it has finished"]
    user.remove()
    assert s3.keys() == []
    user.pull(here, users)
    assert len(tree(here)) == 10


def test_only_new_bytes_of_a_log_are_sent(s3, sides, monkeypatch):
    _, (away, node) = sides
    sent, write_object = [], Bucket.write
    monkeypatch.setattr(
        Bucket, "write", lambda self, key, data: sent.append(len(data)) or write_object(self, key, data)
    )
    lines = os.urandom(segments.GROW)
    with (away / "output.log").open("ab") as file:
        for _ in range(4):
            file.write(lines)
            file.flush()
            node.push(away, nodes)
        file.write(b"end")
    assert sent == [segments.GROW] * 4
    again = Mirror(s3.at("p"), "r")
    again.push(away, nodes)
    assert sent[4:] == [3]
    assert s3.keys("p/r/logs/") == [f"p/r/logs/output.log/{number * segments.GROW:016}" for number in range(5)]
    again.finish(away, nodes, 0, 1)
    assert sent[5:][:-1] == []


def test_nothing_new_costs_one_listing(s3, sides, monkeypatch):
    (here, user), (away, node) = sides
    user.push(here, users)
    write(away, {**NODES, **{f"artifacts/{number}": b"x" for number in range(50)}})
    node.push(away, nodes)
    user.pull(here, users)
    asked = []
    user._bucket._client.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    user.pull(here, users)
    assert asked == ["ListObjectsV2"]
    asked.clear()
    fresh = Mirror(user._bucket, "r")  # of a dispatcher that was started again
    fresh.pull(here, users)
    assert [name for name in asked if name != "ListObjectsV2"] == ["GetObject"]  # of the empty records.1.jsonl
    asked.clear()
    fresh.finish(here, users, 0, 1)
    assert sorted(asked) == ["ListObjectsV2", "PutObject"]


def test_what_was_removed_goes_on_the_other_side_too(sides):
    (here, user), (away, node) = sides
    user.push(here, users)
    write(away, {"artifacts/1": b"1", "artifacts/2": b"2", "artifacts/3": b"3"})
    node.push(away, nodes)
    user.pull(here, users)
    write(here, {"artifacts/2": b"changed here", "artifacts/mine": b""})
    for name in ("1", "2"):
        (away / "artifacts" / name).unlink()
    node.push(away, nodes)
    user.pull(here, users)
    assert sorted(os.listdir(here / "artifacts")) == ["2", "3", "mine"]
    shutil.rmtree(away)
    with pytest.raises(StorageError, match="is gone"):
        node.push(away, nodes)
    user.pull(here, users)
    assert "3" in os.listdir(here / "artifacts")
    shutil.rmtree(here)
    with pytest.raises(StorageError, match="is gone"):
        user.pull(here, users)
    assert not here.exists()


def test_a_large_file_waits_until_it_is_written(sides, monkeypatch, s3):
    _, (away, node) = sides
    monkeypatch.setattr(module, "SMALL", 10)
    write(away, {"big": b"x" * 11, "small": b"x"})
    assert node.push(away, nodes) == 1
    os.utime(away / "big", (time.time() - 9,) * 2)
    assert node.push(away, nodes) == 1
    write(away, {"big": b"y" * 11})
    assert node.push(away, nodes) == 0
    node.finish(away, nodes, 0, 1)
    assert s3.read("p/r/files/big") == b"y" * 11


def test_a_file_that_is_only_touched_is_not_sent_again(sides, s3, monkeypatch):
    _, (away, node) = sides
    monkeypatch.setattr("lightex.storage.objects.SMALL", 10)
    monkeypatch.setattr("lightex.storage.bucket.SMALL", 10)  # so it is sent in pieces, and its etag is no MD5
    write(away, {"a": b"1234567890a"})
    assert node.push(away, nodes) == 1
    os.utime(away / "a", (1, 1))
    assert node.push(away, nodes) == 0
    assert Mirror(s3.at("p"), "r").push(away, nodes) == 0


def test_a_damaged_file_is_named_and_the_others_come(sides, s3):
    (here, user), (away, node) = sides
    write(away, {"artifacts/a": b"aaa", "artifacts/b": b"bbb", "output.log": b"log"})
    node.finish(away, nodes, 0, 1)
    s3.client.put_object(Bucket=s3.bucket, Key="p/r/files/artifacts/a", Body=b"xxx", Metadata={DIGEST: "0" * 64})
    user.pull(here, users)
    assert (here / "artifacts/b").read_bytes() == b"bbb"
    assert "is damaged: its SHA-256 is" in user.damaged[0]
    (found,) = user.missing(here, 1, 1)
    assert found.startswith("artifacts/a: s3://")
    Mirror(s3.at("p"), "r").finish(away, nodes, 0, 1)
    user.pull(here, users)
    assert user.missing(here, 1, 1) == []
    assert user.damaged == ()


def test_what_is_lacking_is_named_and_comes_with_the_next_pull(sides):
    (here, user), (away, node) = sides
    write(away, {"a": b"aaa", "b": b"bbb", "output.log": b"log"})
    node.finish(away, nodes, 0, 1)
    user.pull(here, users)
    (here / "a").unlink()
    write(here, {"b": b"xxx", "output.log": b"lo"})
    os.utime(here / "b", (1, 1))  # else its time of change may be that of the download
    assert user.missing(here, 1, 1) == ["a: it is not there", f"b: its SHA-256 is {hashlib.sha256(b'xxx').hexdigest()}, it was "
                                        f"left as {hashlib.sha256(b'bbb').hexdigest()}", "output.log: 2 of 3 bytes are there"]  # fmt: skip
    user.pull(here, users)
    assert user.missing(here, 1, 1) == []


def test_one_file_that_cannot_be_sent_does_not_hold_up_the_others(sides, s3):
    _, (away, node) = sides
    write(away, {os.fsdecode(b"\xff"): b"odd", "z": b"z"})
    with pytest.raises(StorageError, match="not in UTF-8"):
        node.push(away, nodes)
    with pytest.raises(StorageError, match="not in UTF-8"):
        node.finish(away, nodes, 0, 1)
    assert s3.keys() == ["p/r/files/z"]


def test_a_gap_is_waited_for(sides, s3, monkeypatch):
    (here, user), (away, node) = sides
    monkeypatch.setattr(segments, "GROW", 4)
    monkeypatch.setattr(segments, "PIECE", 4)
    write(away, {"output.log": b"0123456789"})
    node.push(away, nodes)
    user.pull(here, users)
    s3.client.delete_object(Bucket=s3.bucket, Key=f"p/r/logs/output.log/{4:016}")
    write(here, {"output.log": b"01234567"})
    user.pull(here, users)
    assert (here / "output.log").read_bytes() == b"01234567"
    Mirror(s3.at("p"), "r").push(away, nodes)
    user.pull(here, users)
    assert (here / "output.log").read_bytes() == b"0123456789"
    s3.client.delete_object(Bucket=s3.bucket, Key=f"p/r/logs/output.log/{0:016}")
    user.pull(here, users)
    assert (here / "output.log").read_bytes() == b"0123456789"


def test_what_ran_elsewhere_before_goes_there_whole(sides, s3):
    (here, _), (away, node) = sides
    write(here, {**NODES, "output.log": b"of the first attempt\n"})
    Mirror(s3.at("p"), "r").push(here, everyones)
    node.pull(away, nobodys)
    assert tree(away) == tree(here)


def test_a_foreign_key_is_refused(sides, s3):
    (here, user), _ = sides
    s3.put("p/r/files/../../../x", b"x")
    with pytest.raises(StorageError, match="has no place below"):
        user.pull(here, users)


def test_two_nodes_and_a_second_attempt(sides, s3, tmp_path):
    (here, user), (away, node) = sides
    (tmp_path / "other").mkdir()
    user.push(here, users)
    write(away, {"output.log": b"0", "artifacts/0": b"0"})
    write(tmp_path / "other", {"output.1.log": b"1", "artifacts/1": b"1"})
    node.finish(away, nodes, 0, 1)
    Mirror(s3.at("p"), "r").finish(tmp_path / "other", nodes, 1, 1)
    assert user.pull(here, users) == {(0, 1), (1, 1)}
    assert user.missing(here, 2, 1) == []
    assert {"output.log", "output.1.log", "artifacts/0", "artifacts/1"} <= tree(here).keys()
    third = tmp_path / "third"
    third.mkdir()
    again = Mirror(s3.at("p"), "r")
    again.pull(third, nobodys)
    assert tree(third) == tree(here)
    with (third / "output.log").open("ab") as file:
        file.write(b"--- attempt 2 ---\n")
    again.finish(third, nodes, 0, 2)
    assert (0, 2) in user.pull(here, users)
    assert (here / "output.log").read_bytes() == b"0--- attempt 2 ---\n"
    assert json.loads(s3.read("p/r/done.0.2.json"))["output.log"]["size"] == 19
