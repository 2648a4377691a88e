"""Packages and programs that some tests need for real: absent ones skip, or fail where LX_REQUIRE names them."""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import pytest


def need(*packages: str) -> pytest.MarkDecorator:
    """Skip with a reason where a package is missing; in CI, LX_REQUIRE=sinks makes that a failure."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    required = "sinks" in os.environ.get("LX_REQUIRE", "").split(",")
    return pytest.mark.skipif(
        bool(missing) and not required, reason=f"not installed: {', '.join(missing)} (pip install 'lightex[sinks]')"
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on.

    Below those that the kernel gives out by itself (32768 and up): one of them may be another test's before the service
    has started that it was meant for.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class _Service(Protocol):
    def up(self) -> None: ...
    def down(self) -> None: ...


S = TypeVar("S", bound=_Service)


@contextmanager
def running(make: Callable[[Path], S], name: str) -> Iterator[S]:
    """A service in a folder of its own, for as long as it is needed."""
    folder = Path(tempfile.mkdtemp(prefix=f"lx-{name}-"))
    service = make(folder)
    try:
        service.up()
        yield service
    finally:
        service.down()
        shutil.rmtree(folder, ignore_errors=True)


class MlflowServer:
    """A real tracking server on a SQLite store, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        store = [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination",
            str(self.folder),
        ]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *place],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the MLflow server does not answer"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        if self.process:
            os.killpg(self.process.pid, 9)
            self.process.wait()
