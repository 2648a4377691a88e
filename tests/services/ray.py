"""A cluster of Ray for real: two nodes on this machine, in the foreground, so that their processes are ours."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.helpers import wait_for
from tests.services import free_port

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
"""What the nodes have in their environment; a client has the token alone. A Ray that is older takes none."""


class Cluster:
    """A head with 2 cpus and 2 GPUs by its word, and a second node with 2 cpus and the custom resource `second`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lx-ray-"))  # short: a socket's path has 107 characters at most
        self.address = f"127.0.0.1:{free_port()}"
        self.jobs_api = f"http://127.0.0.1:{free_port()}"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def up(self) -> None:
        """Start both nodes, and wait until they work."""
        port, dashboard = self.address.rpartition(":")[2], self.jobs_api.rpartition(":")[2]
        ends = ["--head", "--port", port, "--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard]
        self._start("head", *ends, "--num-gpus", "2", "--temp-dir", str(self.folder))
        wait_for(self.alive, 60)
        self.start_second()

    def start_second(self) -> None:
        """Start the second node, unless it runs."""
        if "second" not in self._nodes:
            before = self.alive()
            more = ["--node-ip-address", "127.0.0.2", "--resources", '{"second": 2}', "--labels", "disk=fast"]
            self._start("second", "--address", self.address, *more)
            wait_for(lambda: self.alive() - before, 60)

    def _start(self, name: str, *options: str) -> None:
        # Not the `ray` program: its first line names one Python, which another checkout's environment may not be.
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block", *options]
        command += ["--dashboard-agent-listen-port", str(free_port()), "--num-cpus", "2"]
        command += ["--object-store-memory", "80000000", "--disable-usage-stats"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {each: value for each, value in os.environ.items() if not each.startswith(("LX_", "RAY_", "COVERAGE"))}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._nodes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=kept | TOKEN | {"PATH": path},
                cwd=self.folder,
            )

    def alive(self) -> set[str]:
        """The nodes that live, by the head's word: one that was killed is among them for some seconds."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            asked = urllib.request.Request(
                f"{self.jobs_api}/nodes?view=summary", headers={"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"}
            )
            with urllib.request.urlopen(asked, timeout=5) as answer:
                found = json.load(answer)["data"]["summary"]
            return {each["raylet"]["nodeId"] for each in found if each["raylet"]["state"] == "ALIVE"}
        return set()

    def kill(self, name: str) -> None:
        """SIGKILL to all processes of a node, as if its machine had gone."""
        leader = self._nodes.pop(name)
        # The raylet first: a worker that dies while it lives is one that was killed, not one whose node is lost.
        for pid in sorted(processes_of_session(leader.pid), key=_is_no_raylet):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        leader.wait()

    def down(self) -> None:
        """End it."""
        for name in list(self._nodes):
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_no_raylet(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() != "raylet"
    except OSError:
        return True


def processes_of_session(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == session:
                found.append(int(entry.name))
    return found


def processes_with(text: str) -> list[int]:
    """The processes whose environment or command line holds a text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            held = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if text.encode() in held and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(entry.name))
    return found


def end_brokers(cache: Path) -> None:
    """Wait until the brokers of a cache folder have ended, else end them."""
    deadline = time.monotonic() + 30
    while (left := processes_with(f"rayside.broker\0{cache}")) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
