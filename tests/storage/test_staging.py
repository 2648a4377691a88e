"""Folders of S3 for what runs on this machine, against a real service."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from lightex.core.errors import ConfigError, FullDiskError, StorageError
from lightex.storage import staging
from lightex.storage.bucket import Bucket
from lightex.storage.transfer import Progress, each
from tests.helpers import wait_for

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_what_has_changed_is_brought(s3, fetched):
    for key in ("d/a", "d/sub/b", "d/sub/c", "dd/no"):
        s3.put(key, key.encode())
    s3.put("d/sub/", b"")  # as consoles make folders
    place = s3.place("d")
    folder = staging.fetch(place, print)
    assert folder == place.here
    assert tree(folder) == {"a": b"d/a", "sub/b": b"d/sub/b", "sub/c": b"d/sub/c"}
    assert sorted(fetched) == ["a", "sub/b", "sub/c"]
    fetched.clear()
    staging.fetch(place, print)
    assert fetched == []
    s3.put("d/a", b"new")
    s3.client.delete_object(Bucket=s3.bucket, Key="d/sub/b")
    (folder / "sub/c").write_bytes(b"changed here")
    (folder / "sub/mine").write_bytes(b"not fetched")
    staging.fetch(place, print)
    assert sorted(fetched) == ["a", "sub/c"]
    assert tree(folder) == {"a": b"new", "sub/c": b"d/sub/c", "sub/mine": b"not fetched"}
    s3.client.delete_object(Bucket=s3.bucket, Key="d/sub/c")
    (folder / "sub/mine").unlink()
    staging.fetch(place, print)
    assert not (folder / "sub").exists()


def test_what_was_written_here_is_sent_once_and_kept(s3, tmp_path, fetched):
    s3.put("d/a", b"a")
    place = s3.place("d", write=True)
    folder = staging.fetch(place, print)
    assert staging.send(place, folder, print) == 0
    (folder / "a").write_bytes(b"changed")
    (folder / "new").mkdir()
    (folder / "new/b").write_bytes(b"b")
    (tmp_path / "elsewhere").write_bytes(b"linked")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "broken").symlink_to(tmp_path / "none")
    (folder / "out").symlink_to(tmp_path)
    (folder / ".x.part").write_bytes(b"half")
    os.mkfifo(folder / "pipe")
    staging.fetch(place, print)
    assert (folder / "a").read_bytes() == b"changed"  # it is not lost before it is sent
    assert staging.send(place, folder, print) == 3
    assert s3.keys() == ["d/a", "d/link", "d/new/b"]
    assert (s3.read("d/a"), s3.read("d/link")) == (b"changed", b"linked")
    assert staging.send(place, folder, print) == 0
    fetched.clear()
    s3.put("d/a", b"theirs")
    staging.fetch(place, print)
    assert fetched == ["a"]


def test_into_a_folder_and_an_index_of_ones_choice(s3, tmp_path):
    s3.put("d/a", b"a")
    index = tmp_path / "notes" / "x.index"
    assert staging.fetch(s3.place("d"), print, tmp_path / "into", inside=True, index=index) == tmp_path / "into"
    assert list(json.loads(index.read_bytes())["files"]) == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"into", "notes"}
    assert staging.send(s3.place("d"), tmp_path / "into", print, index=index) == 0
    index.write_bytes(b"broken")
    assert staging.send(s3.place("d"), tmp_path / "into", print, index=index) == 1


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a//x", "./x", "a/."])
def test_keys_that_lead_out_are_refused_before_anything_is_brought(s3, tmp_path, key):
    s3.put("d/good", b"x")
    s3.put(f"d/{key}", b"x")
    with pytest.raises(StorageError, match="has no place below") as caught:
        staging.fetch(s3.place("d"), print)
    assert key in str(caught.value)
    assert tree(tmp_path / "cache") == {
        str(path.relative_to(tmp_path / "cache")): path.read_bytes()
        for path in (tmp_path / "cache" / "stores").glob(".*.index.json*")
    }


def test_nothing_is_written_through_a_link_that_leads_out(s3, tmp_path):
    s3.put("d/sub/x", b"x")
    place = s3.place("d")
    place.here.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (place.here / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="is a link that leads elsewhere"):
        staging.fetch(place, print)
    assert tree(tmp_path / "outside") == {}


def test_what_cannot_be_is_said(s3, tmp_path):
    with pytest.raises(StorageError, match="there is nothing there") as caught:
        staging.fetch(s3.place("typo"), print)
    assert "write=True" in str(caught.value)
    assert tree(staging.fetch(s3.place("typo", write=True), print)) == {}
    s3.put("d/a", b"")
    s3.put("d/a/b", b"")
    with pytest.raises(StorageError, match=r"/d/a and .*/d/a/b cannot both be files"):
        staging.fetch(s3.place("d"), print)
    (tmp_path / os.fsdecode(b"\xff")).write_text("x")
    with pytest.raises(StorageError, match="not in UTF-8"):
        staging.send(s3.place("e"), tmp_path, print)
    with pytest.raises(ConfigError, match="is not in s3"):
        staging.fetch(type(s3.place())("path", "", "/x", tmp_path, s3.place().store), print)


def test_a_full_disk_leaves_no_half_file(s3, small_disk):
    for number in range(4):
        s3.put(f"d/{number}", b"x" * (400 << 10))
    with pytest.raises(FullDiskError):
        staging.fetch(s3.place("d"), print, small_disk / "into")
    assert {len(data) for data in tree(small_disk / "into").values()} == {400 << 10}


def test_others_wait_for_who_brings_the_same(s3):
    s3.put("d/a", b"a")
    place, told = s3.place("d"), []
    folder = staging.fetch(place, told.append)
    lock = os.open(folder.with_name(f".{folder.name}.index.json.lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = threading.Thread(target=staging.fetch, args=(place, told.append))
    thread.start()
    wait_for(lambda: told)
    assert "waits for another process" in told[0]
    os.close(lock)
    thread.join(10)
    assert not thread.is_alive()


def test_a_killed_fetch_goes_on_and_brings_little_again(s3, fetched, monkeypatch):
    for number in range(20):
        s3.put(f"d/{number:02}", bytes([number]) * 1000)
    place = s3.place("d")
    program = (
        "import sys, time, pathlib\nfrom lightex.core.taxonomy import Store\nfrom lightex.storage import staging, transfer\n"
        "from lightex.storage.bucket import Bucket\nfrom lightex.storage.store import find\n"
        "staging._SAVE, get = 0, Bucket.get\n"
        "def slow(self, key, *more):\n    if key > '10':\n        time.sleep(60)\n    return get(self, key, *more)\n"
        "Bucket.get = slow\n"
        "staging.fetch(find(Store(sys.argv[1], endpoint=sys.argv[2]), pathlib.Path('/'), 'x'), print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, place.url, s3.endpoint])
    index = place.here.with_name(f".{place.here.name}.index.json")
    wait_for(lambda: index.exists() and len(json.loads(index.read_bytes())["files"]) == 11)
    process.kill()
    process.wait()
    staging.fetch(place, print)
    assert sorted(fetched) == [f"{number:02}" for number in range(11, 20)]
    assert len(tree(place.here)) == 20


def test_a_file_that_changes_is_left_for_the_next_time(s3, monkeypatch, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("x")
    (tmp_path / "d/b").write_text("x")
    put = Bucket.put

    def gone(self, path, *more):
        if path.name == "a":
            path.unlink()
        return put(self, path, *more)

    monkeypatch.setattr(Bucket, "put", gone)
    told = []
    assert staging.send(s3.place("d"), tmp_path / "d", told.append) == 1
    assert "a is gone: it is left for the next time" in told[0]


def test_progress_is_told_about_once_a_second(monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("data", int(3.4 * 2**30), told.append)
    for moment, count in ((0.5, 2**20), (1.0, 2**20), (1.5, 2**30), (2.0, 2**28)):
        now[0] = moment
        progress.add(count)
        progress.look()
    assert told == ["data: 2 MiB of 3.4 GiB", "data: 1.25 of 3.4 GiB"]


def test_the_first_error_ends_all(monkeypatch):
    progress, begun = Progress("data", 1, print), []

    def work(number):
        begun.append(number)
        if number == 3:
            raise KeyError(number)
        while True:
            progress.add(1)
            time.sleep(0.01)

    with pytest.raises(KeyError):
        each(range(100), work, stop=progress.stop)
    assert len(begun) < 20
