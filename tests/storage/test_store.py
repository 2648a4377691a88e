"""Where a store is."""

from pathlib import Path

import pytest

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Storage, Store
from lightex.storage import store

MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /mnt/export rw,relatime shared:9 - nfs4 filer:/export rw,vers=4.2
41 22 0:41 / /mnt/deep rw,relatime shared:9 - nfs filer:/export/deep rw,vers=3
42 22 0:40 /part /mnt/a\\040b rw,relatime - nfs4 filer:/other rw
43 22 0:43 / /mnt/elsewhere rw,relatime - nfs4 another:/export rw
45 22 0:45 / /mnt/odd rw - nfs4 filer:/odd rw,port=2050
44 22 0:44 / /mnt/proc rw - proc proc rw
"""


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(store, "_MOUNTS", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("nfs://filer/export/data", "/mnt/export/data"),
        ("nfs://filer/export", "/mnt/export"),
        ("nfs://filer/export/deep/x/", "/mnt/deep/x"),
        ("nfs://filer/other/part/x", "/mnt/a b/x"),
        ("nfs://filer/other/x", None),
        ("nfs://filer:2050/odd/x", "/mnt/odd/x"),
        ("nfs://filer:2050/export", None),
        ("nfs://nobody/export", None),
        ("nfs://filer", None),
    ],
)
def test_an_nfs_folder_is_found_where_it_is_mounted(mounts, url, here):
    place = store.find(url, Path("/p"), "x")
    assert (place.kind, place.here) == ("nfs", here and Path(here))


def test_without_a_list_of_mounts_none_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_MOUNTS", tmp_path / "none")
    assert store.find("nfs://filer/export", Path("/p"), "x").here is None


def test_what_is_said_goes_before_what_is_found(mounts):
    place = store.find(Store("nfs://filer/export/data", path="/mine"), Path("/p"), "x")
    assert (place.host, place.folder, place.here) == ("filer", "/export/data", Path("/mine"))
    assert place.url == "nfs://filer/export/data"


def test_a_path_is_taken_from_the_project(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert store.find("data", Path("/p"), "x").here == Path("/p/data")
    assert store.find("~/data", Path("/p"), "x").here == Path("/home/me/data")
    place = store.find("/data", Path("/p"), "x")
    assert (place.kind, place.url, place.here) == ("path", "/data", Path("/data"))


def test_a_claim(mounts):
    place = store.find("pvc://claim/dir/", Path("/p"), "x")
    assert (place.kind, place.host, place.folder, place.here) == ("pvc", "claim", "dir", None)
    assert place.url == "pvc://claim/dir"
    assert store.find(Store("pvc://claim", path="~"), Path("/p"), "x").here == Path.home()


def test_s3_is_staged_into_a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path))
    place = store.find("s3://bucket/some/prefix/", Path("/p"), "x")
    assert (place.kind, place.host, place.folder, place.url) == (
        "s3",
        "bucket",
        "some/prefix",
        "s3://bucket/some/prefix",
    )
    assert place.here.parent == tmp_path / "stores"
    assert place.here.name.startswith("prefix-")
    assert (place.endpoint, place.endpoint_inside) == (None, None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:1")
    other = store.find("s3://bucket/some/prefix/", Path("/p"), "x")
    assert (other.endpoint, other.endpoint_inside) == ("http://here:1", "http://here:1")
    assert other.here != place.here
    given = store.find(Store("s3://bucket", endpoint="http://a:1", endpoint_inside="http://b:1"), Path("/p"), "x")
    assert (given.endpoint, given.endpoint_inside) == ("http://a:1", "http://b:1")
    assert given.here.name.startswith("bucket-")


@pytest.mark.parametrize(
    "url", ["http://x/y", "s3://", "s3:///x", "nfs://s/a/../b", "s3://b/x?y=1", "s3://b/x#y", "s3://[b/x"]
)
def test_what_is_no_store_is_refused(url):
    with pytest.raises(ConfigError, match=r"storage.dirs.data: '.*' is no store") as caught:
        store.folders(Storage(dirs={"data": url}), Path("/p"))
    assert "s3://BUCKET/PREFIX" in str(caught.value)


def test_what_this_machine_does_not_see_is_said(mounts):
    with pytest.raises(ConfigError, match="not mounted on this machine") as caught:
        store.folders_here(Storage(dirs={"data": "nfs://nobody/ex port/data"}), Path("/p"))
    assert "mount -t nfs 'nobody:/ex port/data' /mnt/data" in str(caught.value)
    with pytest.raises(ConfigError, match="mount -t nfs -o port=2050 nobody:/export /mnt/export"):
        store.folders_here(Storage(dirs={"data": "nfs://nobody:2050/export"}), Path("/p"))
    with pytest.raises(ConfigError, match="not to be seen from this machine"):
        store.folders_here(Storage(dirs={"data": "pvc://claim"}), Path("/p"))
    assert store.folders_here(Storage(dirs={"data": "d"}), Path("/p")) == {"data": Path("/p/d")}
