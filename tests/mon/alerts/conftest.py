"""Folders of runs with rules, and those who are told: an HTTP endpoint and an SMTP server on the loopback."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lightex.cli.alerting import watcher as make_watcher
from lightex.core import journal
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.mon.alerts import courier
from lightex.mon.alerts.notice import Notice
from lightex.mon.alerts.watch import Watcher

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(courier.Courier.__init__, "__defaults__", (0.05, (0.05, 0.2)))  # seconds; they are patient


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "runs").mkdir()
    return Root(tmp_path / "runs")


@pytest.fixture
def make(root: Root) -> Callable[..., RunDir]:
    """Makes a run, which has ended at a time or runs."""

    def made(
        name: str,
        state: str | None = None,
        at: float = NOW,
        hp: dict[str, Any] | None = None,
        records: tuple[dict[str, Any], ...] = (),
        sweep: str | None = None,
        gpus: tuple[str, ...] = (),
        config: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> RunDir:
        about = {"id": name, "experiment": "digits", "command": ["true"], "sweep": sweep, "created": at - 60,
                 "varied": {f"hp.{key}": value for key, value in (hp or {}).items()}}  # fmt: skip
        run = RunDir.create(root.path / "digits" / f"270101-000000-{name}", about, {"hp": hp or {}, **(config or {})},
                            {"time": at - 60, "state": "QUEUED", "attempt": 1})  # fmt: skip
        run.append_event({"time": at - 50, "state": "RUNNING", "attempt": 1, "gpus": list(gpus)})
        if records:
            journal.append(run.records_file(), *map(journal.jsonable, records))
        if state:
            end(run, state, at, reason=reason)
        return run

    return made


def end(run: RunDir, state: str, at: float, attempt: int = 1, reason: str | None = None) -> None:
    run.append_event({"time": at, "state": state, "attempt": attempt, **({"reason": reason} if reason else {})})


@dataclass
class Watching:
    """A watcher in this process whose targets keep what they get."""

    watcher: Watcher
    index: Index
    got: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def look(self, at: float = NOW) -> list[str]:
        """The titles of what is new."""
        return [each.title for each in self.notices(at)]

    def notices(self, at: float = NOW) -> list[Notice]:
        self.index.refresh()
        return self.watcher.look(self.index, at)


@pytest.fixture
def watch(root: Root, tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    """Makes a watcher with rules (TOML); it has looked once, at NOW - 100, unless `first` is false."""
    made: list[Watching] = []

    def watching(rules: str, first: bool = True, to: str = 'to = ["desktop://"]') -> Watching:
        close()
        (tmp_path / "alerts.toml").write_text(f"{to}\n{rules}")
        said: list[str] = []
        watcher, _ = make_watcher(root, tmp_path / "alerts.toml", said.append)
        one = Watching(watcher, Index(root), said=said)
        if "desktop" in to:
            watcher._services = dict.fromkeys(watcher._services, lambda message: one.got.append(message.title))
        made.append(one)
        if first:
            one.look(NOW - 100)
        return one

    def close() -> None:
        while made:
            one = made.pop()
            one.watcher.close()
            one.index.close()

    yield watching
    close()


class Inbox:
    """An HTTP endpoint for Apprise's json://; it answers with `status`, and keeps what it got with 200."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status, self.tries = 200, 0
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                inbox.tries += 1
                if inbox.status == 200:
                    inbox.got.append({**body, "path": self.path})
                self.send_response(inbox.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()


@pytest.fixture
def mails() -> Iterator[Any]:
    """An SMTP server: `.port`, and `.got`, the messages."""
    controller_module = pytest.importorskip("aiosmtpd.controller")

    class Keep:
        def __init__(self) -> None:
            self.got: list[Any] = []
            self.port = 0

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            self.got.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            return "250 OK"

    keep = Keep()
    with socket.socket() as free:  # the controller knocks at the port that it was told
        free.bind(("127.0.0.1", 0))
        keep.port = free.getsockname()[1]
    controller = controller_module.Controller(keep, hostname="127.0.0.1", port=keep.port)
    controller.start()
    yield keep
    controller.stop()
