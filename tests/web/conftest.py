"""Chromium; a server of the static files and a test's own pages under a strict policy; the UI itself, and a proxy before it."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import lightex
from tests.helpers import LX
from tests.services import free_port
from tests.services.docker import skip_or_fail

STATIC = Path(lightex.__file__).parent / "web" / "static"
POLICY = "default-src 'self'; style-src 'self'"

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/static/style.css">
<main>{body}</main><script type="module" src="{name}.js"></script></html>"""

WATCH = """window.wrong = [];
addEventListener("securitypolicyviolation", (e) => window.wrong.push(`${e.violatedDirective} ${e.blockedURI}`));
window.painted = (host) => new Promise((done) => host.addEventListener("painted", done, {once: true}));
"""


class Handler(SimpleHTTPRequestHandler):
    """Files of two folders, and the log of the server at `/log?from=&to=` and `/find?text=&from=`."""

    server: Any
    protocol_version = "HTTP/1.1"

    def translate_path(self, path: str) -> str:
        path = urlsplit(path).path
        root = STATIC.parent if path.startswith("/static/") else self.server.pages
        return str(root / path.lstrip("/"))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/log":
            self._answer(self.server.log[int(asked["from"]) : int(asked["to"])], {"X-Size": str(len(self.server.log))})
        elif url.path == "/find":
            self._answer(str(self._find(asked)).encode())
        else:
            super().do_GET()

    def _find(self, asked: dict[str, str]) -> int:
        start, text, log = int(asked["from"]), asked["text"].encode(), self.server.log
        if asked["regex"] == "true":
            found = re.compile(text, re.IGNORECASE).search(log, start)
            return found.start() if found else -1
        return log.rfind(text, 0, start) if asked["backward"] == "true" else log.find(text, start)

    def _answer(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY + "; img-src 'self' data: blob:")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture(scope="package")  # playwright keeps an event loop, which is in the way of tests that start their own
def chromium() -> Iterator[Any]:
    """One headless Chromium for all tests."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path or importlib.util.find_spec("playwright") is None:
        skip_or_fail("browser", "playwright is not installed" if path else "no Chromium is installed")
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server on the loopback; `pages` is the folder of the test's pages, `log` the bytes of its log."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.pages, httpd.log = tmp_path_factory.mktemp("pages"), b""  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def open_page(chromium: Any, server: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page of `body` and `script` (a module); a test fails for whatever the console or the policy complained of."""
    server.pages = tmp_path
    with _watched(chromium) as (context, complaints):

        def opened(
            script: str, body: str = "", name: str = "page", ready: str = "window.ready", **emulated: Any
        ) -> Any:
            (tmp_path / f"{name}.js").write_text(script)
            (tmp_path / f"{name}.html").write_text(HEAD.format(body=body, name=name))
            page = context.new_page()
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            if emulated:
                page.emulate_media(**emulated)
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/{name}.html")
            until(page, ready)
            return page

        yield opened
        assert complaints + [wrong for page in context.pages for wrong in page.evaluate("window.wrong")] == []


def until(page: Any, expression: str, seconds: float = 20) -> Any:
    """The value of an expression as soon as it is true. (Playwright's own waiting is an eval, which the policy forbids.)"""
    end = time.monotonic() + seconds
    while True:
        try:
            if value := page.evaluate(expression):
                return value
        except Exception as error:
            if "context was destroyed" not in str(error):  # the page has just been left for another, or come anew
                raise
        assert time.monotonic() < end, f"never came true: {expression}"
        page.wait_for_timeout(20)


@contextmanager
def _watched(chromium: Any) -> Iterator[tuple[Any, list[str]]]:
    context = chromium.new_context(viewport={"width": 1000, "height": 700}, device_scale_factor=1)
    context.add_init_script(WATCH)
    try:
        yield context, []
    finally:
        context.close()


# ---------------------------------------------------------------- the UI itself


@dataclass
class Served:
    """A UI at work: the address that it printed, its process, what it writes to standard error."""

    address: str
    process: subprocess.Popen[str]
    errors: Path

    @property
    def base(self) -> str:
        """The address without the token."""
        return self.address.partition("?")[0].rstrip("/")

    def err(self) -> str:
        """What it wrote to standard error."""
        return self.errors.read_text()


@contextmanager
def serving(root: Path, cache: Path, *options: str) -> Iterator[Served]:
    """`lx ui` over a root, with the token `tok`; it must end well."""
    cache.mkdir(parents=True, exist_ok=True)
    errors, port = cache / "err", free_port()
    command = [*LX, "--root", str(root), "ui", "--port", str(port), "--no-browser", *options]
    env = {**os.environ, "LX_TOKEN": "tok", "LX_CACHE": str(cache)}
    with errors.open("w") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=env)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[-1], errors.read_text()
        address = lines[1].strip()
        _answers(port)
        yield Served(address, process, errors)
    finally:
        process.terminate()
        process.communicate(timeout=20)
    said = errors.read_text()
    assert not re.search("Traceback|ERROR", said), said


def _answers(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)
        finally:
            connection.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts UIs, each with a cache of its own."""
    with ExitStack() as stack:

        def start(root: Path, *options: str) -> Served:
            return stack.enter_context(serving(root, tmp_path / f"cache{free_port()}", *options))

        yield start


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    return free_port()


class _Stripping(SimpleHTTPRequestHandler):
    """A proxy that takes a prefix away and calls the server by its local name, as jupyter-server-proxy does."""

    server: Any
    protocol_version = "HTTP/1.0"

    def _pass(self) -> None:
        if not self.path.startswith(self.server.prefix + "/"):
            self.send_error(404)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.inner, timeout=20)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {
            **dict(self.headers.items()),
            "Host": f"localhost:{self.server.inner}",
            "Accept-Encoding": "identity",
        }
        connection.request(self.command, self.path.removeprefix(self.server.prefix), body, headers)
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        self.end_headers()
        try:
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            pass  # the browser has gone, or the server
        finally:
            connection.close()

    do_GET = do_POST = do_HEAD = _pass

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def strip_prefix() -> Iterator[Callable[[int, str], str]]:
    """Starts a proxy in front of a port under a prefix; its address."""
    servers = []

    def start(inner: int, prefix: str) -> str:
        proxy: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Stripping)
        proxy.daemon_threads, proxy.inner, proxy.prefix = True, inner, prefix
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(proxy)
        return f"http://127.0.0.1:{proxy.server_address[1]}{prefix}"

    yield start
    for proxy in servers:
        proxy.shutdown()
        proxy.server_close()


@pytest.fixture
def watched(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Pages of a browser; a test fails for errors in the console, dialogs, and requests to anywhere but `base`.

    `page.complaints` may be cleared of what a test expects.
    """
    with ExitStack() as stack:
        every: list[list[str]] = []

        def opened(base: str, **options: Any) -> Any:
            context = chromium.new_context(viewport={"width": 1280, "height": 800}, **options)
            context.set_default_timeout(10_000)
            stack.callback(context.close)
            context.add_init_script(WATCH)
            page = context.new_page()
            page.complaints = complaints = []
            every.append(complaints)
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))

            def answered(dialog: Any) -> None:
                complaints.append(f"dialog: {dialog.message}")
                dialog.dismiss()

            page.on("dialog", answered)
            own = (base, "data:", "blob:", "about:")
            context.on("request", lambda asked: None if asked.url.startswith(own) else complaints.append(asked.url))
            return page

        yield opened
        assert [each for complaints in every for each in complaints] == []
