"""Chromium, and a server that gives the static files and a test's own pages under a strict policy."""

from __future__ import annotations

import importlib.util
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import lightex
from tests.services.docker import skip_or_fail

STATIC = Path(lightex.__file__).parent / "web" / "static"
POLICY = "default-src 'self'; style-src 'self'"

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/static/style.css">
<main>{body}</main><script type="module" src="{name}.js"></script></html>"""

WATCH = """window.long = []; window.wrong = [];
new PerformanceObserver((list) => window.long.push(...list.getEntries().map((e) => e.duration)))
  .observe({entryTypes: ["longtask"]});
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
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < end, f"never came true: {expression}"
        page.wait_for_timeout(20)
    return value


@contextmanager
def _watched(chromium: Any) -> Iterator[tuple[Any, list[str]]]:
    context = chromium.new_context(viewport={"width": 1000, "height": 700}, device_scale_factor=1)
    context.add_init_script(WATCH)
    try:
        yield context, []
    finally:
        context.close()
