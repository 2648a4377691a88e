"""S3 for real: Ceph's radosgw on one monitor and one store in memory."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightex.core.taxonomy import Store
from lightex.storage.bucket import Bucket
from lightex.storage.store import Place, find
from tests.helpers import wait_for
from tests.services import free_port

ACCESS, SECRET = "testkey", "testsecret123"

_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool")

_CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 10000
paxos propose interval = 0.02
paxos min wait = 0.01
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.$pid.asok
pid file = {folder}/$name.pid
crash dir = {folder}
keyring = {folder}/keyring
mon data = {folder}/mon
mon data avail crit = 1
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd memory target = 939524096
osd class load list = *
osd class default list = *
rgw frontends = beast endpoint={host}:{port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw dns name = localhost
rgw gc obj min wait = 1
"""


@dataclass
class S3:
    """A bucket of a test's own. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set for it."""

    endpoint: str
    bucket: str
    client: Any

    def place(self, folder: str = "", write: bool = False, endpoint: str | None = None) -> Place:
        """A folder of it."""
        store = Store(f"s3://{self.bucket}/{folder}", endpoint=endpoint or self.endpoint, write=write)
        return find(store, Path("/"), "test")

    def at(self, folder: str = "") -> Bucket:
        """The objects of a folder of it."""
        return Bucket.of(self.place(folder))

    def put(self, key: str, data: bytes) -> None:
        """Put an object, as any other program would."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        """The keys of all objects, of a thousand at most."""
        return [
            each["Key"] for each in self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())
        ]


def lacks() -> str | None:
    """Why it cannot be started here, or None."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)} (apt-get install ceph-mon ceph-osd radosgw)" if missing else None


def shared(folder: Path) -> str:
    """The endpoint of a service that all tests share; started for the first."""
    service = folder / "s3"
    with (folder / "s3.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes run tests too
        if not (service / "endpoint").exists():
            (service / "endpoint").write_text(_start(service))
    return (service / "endpoint").read_text()


def end_shared(folder: Path) -> None:
    """End it, if it was started."""
    pids = [int(path.read_text()) for path in (folder / "s3").glob("*.pid") if path.read_text().strip()]
    pids = [pid for pid in pids if str(folder).encode() in _command(pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # all that it keeps is in memory and in the folder
    wait_for(lambda: not any(_command(pid) for pid in pids))


def client(endpoint: str) -> Any:
    """A client of boto3, as a user would make it."""
    import boto3

    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET,
                        region_name="us-east-1")  # fmt: skip


def fresh(endpoint: str) -> S3:
    """A new bucket."""
    made = S3(endpoint, f"lx-{uuid.uuid4().hex[:12]}", client(endpoint))
    made.client.create_bucket(Bucket=made.bucket)
    return made


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _start(folder: Path) -> str:
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    port, v1, v2, fsid = free_port(), free_port(), free_port(), str(uuid.uuid4())
    conf, keyring = folder / "ceph.conf", folder / "keyring"
    host = "0.0.0.0" if os.environ.get("LX_TEST_ADDRESS") else "127.0.0.1"  # pods of a cluster come from elsewhere
    conf.write_text(_CONF.format(folder=folder, host=host, port=port, v1=v1, v2=v2, fsid=fsid))

    def do(*command: str) -> str:
        with (folder / "log").open("a") as log:
            return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                  text=True, timeout=60).stdout  # fmt: skip

    given = ("-c", str(conf))
    do("ceph-authtool", "--create-keyring", str(keyring), "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    do("ceph-authtool", str(keyring), "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd",
       "allow *", "--cap", "mgr", "allow *")  # fmt: skip
    do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]",
       str(folder / "monmap"))  # fmt: skip
    do("ceph-mon", *given, "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"), "--keyring", str(keyring))
    do("ceph-mon", *given, "-i", "a")
    number = str(uuid.uuid4())
    do("ceph", *given, "osd", "new", number)
    key = do("ceph", *given, "auth", "get-or-create", "osd.0", "mon", "allow profile osd", "mgr", "allow profile osd",
             "osd", "allow *")  # fmt: skip
    with keyring.open("a") as file:
        file.write(key)
    do("ceph-osd", *given, "-i", "0", "--mkfs", "--osd-uuid", number)
    do("ceph-osd", *given, "-i", "0")
    do("radosgw", *given, "-n", "client.admin", f"--keyring={keyring}")
    do("radosgw-admin", *given, "user", "create", "--uid=test", "--display-name=test", f"--access-key={ACCESS}",
       f"--secret-key={SECRET}")  # fmt: skip
    return f"http://127.0.0.1:{port}"
