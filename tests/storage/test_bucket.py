"""The objects of a place in S3, against a real service."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from lightex.core.errors import ConfigError, FullDiskError, NotFoundError, StorageError
from lightex.storage import bucket as module
from lightex.storage.bucket import AwayError, Bucket, ChangingError
from lightex.storage.objects import DIGEST, SMALL
from tests.helpers import wait_for
from tests.services import free_port

pytestmark = pytest.mark.s3

BIG = os.urandom(1024) * 1024 * 17  # 17 MiB: several pieces


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_objects_are_written_read_listed_and_deleted(s3, monkeypatch):
    here = s3.at("a/b")
    keys = ["x", "y/z", "y/ü +%&'\"<\x01>", "~"]
    for key in keys:
        here.write(key, key.encode())
    s3.put("a/bc", b"a neighbour")
    assert [found.key for found in here.list()] == sorted(keys, key=str.encode)
    assert [found.key for found in here.list("y/")] == sorted(keys[1:3])
    assert here.read("y/z") == b"y/z"
    assert here.head("x").md5 == hashlib.md5(b"x").hexdigest()
    assert here.below("y").read("z") == b"y/z"
    assert (here.read("none"), here.head("none")) == (None, None)
    here.delete(["x", "none"])
    monkeypatch.setattr(module, "_BATCH", 3)
    here.delete([f"none{number}" for number in range(7)])
    assert [found.key for found in here.list()] == sorted(keys[1:], key=str.encode)


@pytest.mark.parametrize("data", [b"", b"small", BIG], ids=["empty", "small", "big"])
def test_a_file_comes_back_as_it_was(s3, tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "f").chmod(0o755)
    put = s3.at().put(tmp_path / "f", "k")
    assert put.metadata[DIGEST] == hashlib.sha256(data).hexdigest()
    assert put.size == len(data)
    counted = []
    got = s3.at().get("k", tmp_path / "new" / "g", counted.append)
    assert got.etag == put.etag
    assert (tmp_path / "new" / "g").read_bytes() == data
    assert os.access(tmp_path / "new" / "g", os.X_OK)
    assert sum(counted) == len(data)
    assert names(tmp_path / "new") == ["g"]


def test_a_long_name_has_a_part_too(s3, tmp_path):
    s3.put("k", BIG)
    s3.at().get("k", tmp_path / ("n" * 255))
    assert names(tmp_path) == ["n" * 255]


def test_a_killed_download_goes_on_where_it_was_and_no_half_file_is_seen(s3, tmp_path):
    (tmp_path / "f").write_bytes(BIG)
    s3.at().put(tmp_path / "f", "k")
    program = (
        "import sys, time, pathlib\nfrom lightex.core.taxonomy import Store\nfrom lightex.storage.bucket import Bucket\n"
        "from lightex.storage.store import find\nplace = find(Store(sys.argv[1], endpoint=sys.argv[2]), pathlib.Path('/'), 'x')\n"
        "done = 0\ndef slow(count):\n    global done\n    done += count\n    if done > 5 << 20:\n        time.sleep(60)\n"
        "Bucket.of(place).get('k', pathlib.Path(sys.argv[3]) / 'g', slow)\n"
    )
    part = tmp_path / "into" / ".g.part"
    words = [f"s3://{s3.bucket}", s3.endpoint, tmp_path / "into"]
    process = subprocess.Popen([sys.executable, "-c", program, *words])
    wait_for(lambda: part.exists() and part.stat().st_size >= 5 << 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(part.parent) == [".g.part", ".g.part.etag"]
    counted = []
    s3.at().get("k", tmp_path / "into" / "g", counted.append)
    assert (tmp_path / "into" / "g").read_bytes() == BIG
    assert sum(counted) < len(BIG) - (4 << 20)
    assert names(part.parent) == ["g"]


def test_a_part_of_another_version_or_with_wrong_bytes_is_begun_anew(s3, tmp_path):
    (tmp_path / "f").write_bytes(BIG)
    put = s3.at().put(tmp_path / "f", "k")
    for etag, begun in (("another", b"x" * 100), (put.etag, b"wrong" * 100), (put.etag, b"x" * (len(BIG) + 9))):
        (tmp_path / ".g.part").write_bytes(begun)
        (tmp_path / ".g.part.etag").write_text(etag)
        s3.at().get("k", tmp_path / "g")
        assert (tmp_path / "g").read_bytes() == BIG
        (tmp_path / "g").unlink()
    (tmp_path / ".g.part").write_bytes(BIG)  # killed just before it got its name
    (tmp_path / ".g.part.etag").write_text(put.etag)
    counted = []
    s3.at().get("k", tmp_path / "g", counted.append)
    assert (tmp_path / "g").read_bytes() == BIG
    assert sum(counted) == 1


@pytest.mark.parametrize("size", [3, SMALL + 1])
def test_a_damaged_object_is_refused(s3, tmp_path, size):
    s3.client.put_object(Bucket=s3.bucket, Key="k", Body=b"x" * size, Metadata={DIGEST: "0" * 64})
    with pytest.raises(StorageError, match=r"k is damaged: its SHA-256 is \w{64}, it was sent as 0{64}"):
        s3.at().get("k", tmp_path / "g")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(s3, tmp_path, small_disk):
    s3.put("k", b"x" * (2 << 20))
    s3.put("l", BIG)
    for key in "kl":
        with pytest.raises(FullDiskError, match="No space left"):
            s3.at().get(key, small_disk / "g")
        assert names(small_disk) == []


def test_what_cannot_be_written_or_read_is_said(s3, tmp_path):
    s3.put("k", b"x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        s3.at().get("k", tmp_path / "file" / "g")
    with pytest.raises(StorageError, match="there is no such object"):
        s3.at().get("none", tmp_path / "g")
    with pytest.raises(ChangingError, match="is gone"):
        s3.at().put(tmp_path / "none", "k")
    with pytest.raises(StorageError, match="cannot read"):
        s3.at().put(tmp_path, "k")


def test_a_file_that_changes_all_the_time_is_not_sent(s3, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(BIG)

    def change(_count):
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(ChangingError, match="changes while it is being sent"):
        s3.at().put(path, "k", change)


def test_wrong_credentials_bucket_and_endpoint_are_told_apart(s3, monkeypatch):
    s3.at().check()
    with pytest.raises(StorageError) as caught:
        Bucket.of(s3.place("a").__class__("s3", "nosuch", "a", None, s3.place().store)).check()
    assert "there is no bucket 'nosuch'" in str(caught.value)
    assert f"aws s3 mb s3://nosuch --endpoint-url {s3.endpoint}" in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        for ask in (Bucket.check, lambda bucket: bucket.head("k"), lambda bucket: bucket.write("k", b"")):
            with pytest.raises(StorageError, match=r"refuses.*") as caught:
                ask(s3.at())
            assert "AWS_SECRET_ACCESS_KEY" in str(caught.value)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        with pytest.raises(StorageError, match="the access key is not known there"):
            s3.at().check()
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(StorageError, match="there are no credentials for http") as caught:
            s3.at().check()
        assert "~/.aws/credentials" in str(caught.value)
        patch.setenv("AWS_PROFILE", "nosuch")
        with pytest.raises(StorageError, match="no credentials for .*nosuch"):
            s3.at()


def test_a_dead_endpoint_is_unreachable_for_now(s3, monkeypatch):
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    dead = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(AwayError, match=f"{dead} does not answer: .*refused") as caught:
        Bucket.of(s3.place(endpoint=dead)).check()
    assert "AWS_ENDPOINT_URL" in str(caught.value)
    with pytest.raises(ConfigError, match="'nonsense' is no endpoint"):
        Bucket.of(s3.place(endpoint="nonsense"))
    with pytest.raises(ConfigError, match="is not in s3"):
        Bucket.of(type(s3.place())("path", "", "/x", None, s3.place().store))


def test_a_service_that_cannot_for_now_is_unreachable(s3, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for reply in (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b""):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(reply)
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        there = Bucket.of(s3.place(endpoint=f"http://127.0.0.1:{server.getsockname()[1]}"))
        with pytest.raises(AwayError, match="cannot answer for now: 503"):
            there.read("k")
        with pytest.raises(AwayError, match="does not answer"):
            there.read("k")
        thread.join()


def test_a_download_that_breaks_off_goes_on(s3, tmp_path, monkeypatch):
    s3.put("k", BIG)
    there = s3.at()
    opened, ask = [], there._open

    def cut(key, start, etag):
        opened.append(start)
        reply = ask(key, start, etag)
        if len(opened) < 4:
            read, left = reply["Body"].read, 3

            def breaks(size):
                nonlocal left
                left -= 1
                if left < 0:
                    from botocore.exceptions import ReadTimeoutError

                    raise ReadTimeoutError(endpoint_url="http://x")
                return read(size)

            reply["Body"].read = breaks
        return reply

    monkeypatch.setattr(there, "_open", cut)
    there.get("k", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == BIG
    assert len(opened) == 4
    assert opened[0] == 0 < opened[1] < opened[2] < opened[3]


def test_without_boto3_it_says_what_to_install(s3, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(NotFoundError, match="boto3") as caught:
        s3.at()
    assert "pip install 'lightex[s3]'" in str(caught.value)
