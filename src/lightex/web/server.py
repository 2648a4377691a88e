"""Serving the UI: port, token, address, browser; until Ctrl-C."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable, Coroutine
from typing import Any

from lightex.core.errors import LightexError
from lightex.web.live import Live

PORT = 8765
"""Where the UI is unless that is taken, or another one is asked for."""

_TRIES = 20  # further ports that are tried where the first one is taken
_TOKEN_BYTES = 24


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Args:
        host: the address.
        port: which; None: PORT or the next free one.

    Raises:
        LightexError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in range(port or PORT, (port or PORT) + (1 if port is not None else _TRIES)):
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, tried))
        except OSError as error:
            found.close()
            if port is None and error.errno in (98, 48):  # taken, in Linux's and in macOS's numbers
                continue
            message = f"cannot listen on {host}:{tried}: {error.strerror}"
            raise LightexError(message, "choose another one with --port") from None
        found.listen()  # who comes before the server is ready waits a moment, and is not refused
        return found
    raise LightexError(f"ports {PORT} to {PORT + _TRIES - 1} are taken", "choose one with --port")


def new_token() -> str:
    """LX_TOKEN, or a new one."""
    return os.environ.get("LX_TOKEN") or secrets.token_urlsafe(_TOKEN_BYTES)


def serve(
    live: Live,
    listening: socket.socket,
    token: str | None,
    told: Callable[[str], None],
    browser: bool,
    watch: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        live: the index, opened.
        listening: from `bind`.
        token: what it takes to get in; None: nothing.
        told: called with the address to open.
        browser: whether to open it.
        watch: runs beside it; None: nothing does.

    Raises:
        LightexError: a package is missing.
    """
    try:
        import uvicorn

        from lightex.web.app import make_app
    except ModuleNotFoundError as error:
        raise LightexError(f"the UI needs {error.name}", "pip install 'lightex[ui]'") from None

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            live.leave()  # a stream never ends by itself: it would be waited for, then cut off with a traceback
            await super().shutdown(sockets)

    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104  it is shown, not bound
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    app = make_app(live, token, f"lx-{port}", watch)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    told(address)
    if browser and sys.stdout.isatty() and not os.environ.get("SSH_CONNECTION"):
        webbrowser.open(address)
    Server(config).run(sockets=[listening])
