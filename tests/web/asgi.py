"""Asking an ASGI application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

_THREAD = ThreadPoolExecutor(1)


def ran(call: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns, run in a thread of its own: playwright's loop is in the way in this one."""
    return _THREAD.submit(asyncio.run, call).result()


class Client:
    """A client of an application; each request has an event loop of its own."""

    def __init__(self, app: Any, **headers: str) -> None:
        self.app, self.headers = app, headers

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One answer; redirects are not followed. The path goes as it is given, dots and all."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://lx", headers=self.headers) as client:
                request = client.build_request(method, "/", **more)
                raw, _, query = path.partition("?")
                request.url = request.url.copy_with(raw_path=f"{raw}?{query}".encode() if query else raw.encode())
                return await client.send(request)

        found: httpx.Response = ran(ask())
        return found

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **more)

    def json(self, path: str, **more: Any) -> Any:
        """What a GET brings that goes well."""
        answer = self.get(path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()
