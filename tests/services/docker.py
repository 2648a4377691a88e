"""Docker for real: a daemon, a base image made of this machine's own Python, a swarm of two nodes with a registry."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers import wait_for

_RECIPE = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=3).hexdigest()
BASE = f"lightex-test/base:{_RECIPE}"
PYTHON = Path("/usr/bin/python3.11")  # Debian 12's: its modules lie in known places

_PROGRAMS = [
    "sh",
    "bash",
    "env",
    "cat",
    "echo",
    "ls",
    "sleep",
    "mkdir",
    "rm",
    "cp",
    "mv",
    "true",
    "false",
    "id",
    "date",
    "head",
    "tail",
    "nproc",
    "timeout",
    "hostname",
    "kill",
    "touch",
    "wc",
    "grep",
    "sed",
    "stat",
    "test",
    "chmod",
    "chown",
    "dd",
    "mkfifo",
    "tee",
]
_LEFT_OUT = {"test", "idlelib", "lib2to3", "ensurepip", "tkinter", "pydoc_data", "__pycache__", "EXTERNALLY-MANAGED"}
_LIBRARIES = [
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libnss_files.so.2",
    "libnss_dns.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "libm.so.6",
]


def lacks(*programs: str) -> str | None:
    """Why these tests cannot run here, or None."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "starting dockerd needs root"
    return None


def skip_or_fail(what: str, reason: str) -> None:
    """Skip, or fail where LX_REQUIRE names the service."""
    if what in os.environ.get("LX_REQUIRE", "").split(","):
        pytest.fail(f"LX_REQUIRE names {what}: {reason}")
    pytest.skip(f"{what}: {reason}")


def answers(socket: str) -> bool:
    """Whether a daemon answers there."""
    done = subprocess.run(["docker", "-H", socket, "version"], capture_output=True, check=False)
    return done.returncode == 0


class Daemon:
    """A dockerd of the tests' own, in a network namespace if it is to have one."""

    def __init__(self, folder: Path, *options: str, namespace: str | None = None, name: str | None = None) -> None:
        self.folder, self.options, self.namespace, self.name = folder, options, namespace, name
        self.socket = f"unix://{folder}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folders = ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command = ["dockerd", *folders, "--pidfile", f"{self.folder}/pid", "-H", self.socket, *self.options]
        if self.namespace:  # not `ip netns exec`: it mounts /sys anew, which hides the control groups
            inner = ["bash", "-c", 'hostname "$0"; exec "$@"', str(self.name), *command]
            command = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--uts", *inner]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 30
        while not answers(self.socket):
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "dockerd does not answer"
            time.sleep(0.05)

    def docker(self, *arguments: str) -> str:
        """What `docker ARGUMENTS` prints."""
        done = subprocess.run(["docker", "-H", self.socket, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def stop(self) -> None:
        """End it, and unmount what it leaves mounted."""
        if self.process:
            self.process.terminate()
            self.process.wait(30)
        unmount(self.folder)


def unmount(folder: Path) -> None:
    """Take away what a daemon has left mounted in its folder."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False)


def shared_daemon(folder: Path) -> str:
    """The address of a daemon with the base image: the machine's own if one answers, else one that all tests share."""
    own = Daemon(folder / "docker")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes run tests too
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not answers(address):
            address = own.socket
            if not answers(address):
                own.start()
                own.process.returncode = 0  # `end_shared` ends it: Python need not warn of it
        make_base(address)
    return address


def end_shared(folder: Path) -> None:
    """End the shared daemon, if one was started."""
    pid = folder / "docker" / "pid"
    if pid.exists():
        number = int(pid.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)
        wait_for(lambda: not pid.exists() or not Path(f"/proc/{number}").exists(), 30)
        unmount(folder / "docker")
    shutil.rmtree(folder, ignore_errors=True)


def make_base(address: str) -> None:
    """Make an image of this machine's own Python and shell; there is no registry to pull from."""
    if (
        subprocess.run(["docker", "-H", address, "image", "inspect", BASE], capture_output=True, check=False).returncode
        == 0
    ):
        return
    command = ["docker", "-H", address, "import", "-c", "ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8", "-", BASE]
    importing = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert importing.stdin
    with tarfile.open(fileobj=importing.stdin, mode="w|") as archive:
        _fill(archive)
    importing.stdin.close()
    assert importing.wait() == 0


def _fill(archive: tarfile.TarFile) -> None:
    for folder in (
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "usr/local/bin",
        "etc",
        "root",
        "proc",
        "sys",
        "dev",
        "run",
    ):
        _add_folder(archive, folder)
    for folder in ("tmp", "var/tmp"):
        _add_folder(archive, folder, 0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        _add_link(archive, name, f"usr/{name}")
    files = {f"/usr/bin/{name}": Path(shutil.which(name) or f"/bin/{name}") for name in _PROGRAMS}
    files |= {str(PYTHON): PYTHON}
    files |= {f"/usr/lib/x86_64-linux-gnu/{name}": path for name in _LIBRARIES if (path := _library(name))}
    modules = Path("/usr/lib/python3.11")
    needed = {
        library for path in [*files.values(), *modules.glob("lib-dynload/*.so")] for library in _libraries_of(path)
    }
    files |= {f"/usr{library}" if library.startswith("/lib") else library: Path(library) for library in sorted(needed)}
    for name, path in files.items():
        archive.add(path.resolve(), name.lstrip("/"))
    archive.add(
        modules, "usr/lib/python3.11", filter=lambda info: None if _LEFT_OUT & set(Path(info.name).parts) else info
    )
    for name in ("python3", "python"):
        _add_link(archive, f"usr/bin/{name}", PYTHON.name)
    passwd = archive.gettarinfo("/etc/passwd", "etc/passwd")
    with open("/etc/passwd", "rb") as file:
        archive.addfile(passwd, file)


def _add_folder(archive: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    archive.addfile(info)


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    archive.addfile(info)


def _library(name: str) -> Path | None:
    found = [Path(folder) / name for folder in ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu")]
    return next((path for path in found if path.exists()), None)


def _libraries_of(path: Path) -> set[str]:
    text = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+)", text))


def copy_packages(target: Path, *names: str) -> None:
    """Copy installed packages, and all that they need, into a folder: what `pip install --target` does with a network."""
    waiting, done = [*names], set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        needs = [Requirement(text) for text in found.requires or ()]
        waiting += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
        for file in found.files or ():
            if ".." not in file.parts and "tests" not in file.parts:
                place = target / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file.locate(), place)  # with its time: compiled modules are good for that one


@contextlib.contextmanager
def registry(folder: Path, address: str) -> Iterator[None]:
    """A registry of images."""
    process = start_registry(folder, address)
    try:
        host, _, port = address.rpartition(":")
        wait_for(lambda: _listens(host, int(port)))
        yield
    finally:
        process.terminate()
        process.wait(10)


def start_registry(folder: Path, address: str) -> subprocess.Popen[bytes]:
    """Start a registry, which keeps its images in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = {"filesystem": {"rootdirectory": f"{folder}/registry"}}
    about = {"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": {"addr": address}}
    (folder / "registry.yml").write_text(json.dumps(about))
    with (folder / "registry.log").open("wb") as log:
        return subprocess.Popen(["docker-registry", "serve", f"{folder}/registry.yml"], stdout=log, stderr=log)


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


class Swarm:
    """Two daemons in network namespaces of their own, on a bridge with no way out, and a registry that both reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"lx{os.getpid() % 10000}"
        self.bridge = f"{self.mark}s"
        more = ["--insecure-registry", "10.99.0.254:5000", "--registry-mirror", "http://10.99.0.254:5000"]
        self.nodes = [self._node(number, more) for number in (1, 2)]
        self.registry: subprocess.Popen[bytes] | None = None

    def _node(self, number: int, more: list[str]) -> Daemon:
        name = f"{self.mark}n{number}"
        gpus = ["--node-generic-resource", f"gpu={name}-0", "--node-generic-resource", f"gpu={name}-1"]
        return Daemon(self.folder / f"n{number}", *more, *gpus, namespace=name, name=name)

    @property
    def manager(self) -> Daemon:
        """The node that services are made on."""
        return self.nodes[0]

    def up(self) -> None:
        """Start all, and join the nodes."""
        outer = f"{self.mark}h"
        _ip("netns", "add", self.bridge)
        _ip("-n", self.bridge, "link", "set", "lo", "up")
        _ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.bridge, "link", "set", "br0", "up")
        _ip("link", "add", outer, "type", "veth", "peer", "name", "host", "netns", self.bridge)
        _ip("-n", self.bridge, "link", "set", "host", "master", "br0", "up")
        _ip("addr", "add", "10.99.0.254/24", "dev", outer)
        _ip("link", "set", outer, "up")
        self.registry = start_registry(self.folder, "10.99.0.254:5000")
        for number, node in enumerate(self.nodes, start=1):
            _ip("netns", "add", str(node.namespace))
            _ip("-n", self.bridge, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns",
                str(node.namespace))  # fmt: skip
            _ip("-n", self.bridge, "link", "set", f"p{number}", "master", "br0", "up")
            _ip("-n", str(node.namespace), "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
            _ip("-n", str(node.namespace), "link", "set", "eth0", "up")
            _ip("-n", str(node.namespace), "link", "set", "lo", "up")
            node.start()
            make_base(node.socket)
        self.manager.docker("swarm", "init", "--advertise-addr", "10.99.0.1")
        token = self.manager.docker("swarm", "join-token", "-q", "worker")
        self.nodes[1].docker("swarm", "join", "--token", token, "--advertise-addr", "10.99.0.2", "10.99.0.1:2377")
        self.manager.docker("node", "update", "--label-add", "disk=fast", str(self.nodes[1].name))

    def cut_off(self, node: Daemon) -> None:
        """Take a node's link down: it lives on, and nobody hears of it."""
        _ip("-n", self.bridge, "link", "set", f"p{self.nodes.index(node) + 1}", "down")

    def bring_back(self, node: Daemon) -> None:
        """Take its link up again."""
        _ip("-n", self.bridge, "link", "set", f"p{self.nodes.index(node) + 1}", "up")

    def down(self) -> None:
        """End all, and take the networks away."""
        for node in reversed(self.nodes):
            if node.process:
                subprocess.run(["docker", "-H", node.socket, "swarm", "leave", "-f"], capture_output=True, check=False)
                node.stop()
            subprocess.run(["ip", "netns", "del", str(node.namespace)], capture_output=True, check=False)
        if self.registry:
            self.registry.terminate()
            self.registry.wait(10)
        subprocess.run(["ip", "link", "del", f"{self.mark}h"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.bridge], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
