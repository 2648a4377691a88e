"""Who may ask, from where, and what a browser may do with the answer: one ASGI middleware around everything."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope = Any  # of ASGI (https://asgi.readthedocs.io)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
"""Content-Security-Policy of pages: nothing inline, nothing from elsewhere."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address may hold the token
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>LightEx</title>
<meta name="viewport" content="width=device-width"><h1>LightEx wants its token</h1>
<p>Open the address that <code>lx ui</code> printed, or give the token that stands in it:</p>
<form><input name="token" aria-label="token" autofocus> <button>Go on</button></form>{wrong}</html>"""


class Guard:
    """Lets nobody in without the token: as `?token=`, which becomes a cookie, or as `Authorization: Bearer`.

    What changes something is taken from our own pages only, and from programs (which send the token themselves).
    """

    def __init__(self, app: Any, token: str | None, name: str) -> None:
        """Stand before an application.

        Args:
            app: the ASGI application.
            token: what it takes to get in; None: nothing.
            name: of the cookie; servers on several ports share a host's cookies.
        """
        self._app, self._token, self._name = app, token, name

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in asked if name == "token"), None)
        if self._token and given is not None and self._equal(given) and scope["method"] == "GET":
            await self._enter(scope, asked, send)
        elif not self._may(headers):
            await self._refuse(scope, headers, given is not None, send)
        elif scope["method"] not in _SAFE and not _is_ours(headers):
            await _answer(send, 403, "this request comes from another site's page\n")
        else:
            await self._app(scope, receive, _with_headers(send))

    def _may(self, headers: Mapping[str, str]) -> bool:
        if not self._token:
            return True
        bearer = headers.get("authorization", "")
        if bearer.lower().startswith("bearer "):
            return self._equal(bearer[7:].strip())
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._name)
        except CookieError:
            return False
        return cookie is not None and self._equal(cookie.value)

    def _equal(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    async def _enter(self, scope: Scope, asked: list[tuple[str, str]], send: Any) -> None:
        """The token moves from the address, which is shown and kept in histories, to a cookie."""
        rest = urlencode([pair for pair in asked if pair[0] != "token"])
        # Relative: a proxy may have put a prefix before the path that we do not know.
        target = (scope["path"].rsplit("/", 1)[-1] or "./") + (f"?{rest}" if rest else "")
        cookie = f"{self._name}={self._token}; Path=/; HttpOnly; SameSite=Lax"
        await _answer(send, 303, "", {"location": target, "set-cookie": cookie})

    async def _refuse(self, scope: Scope, headers: Mapping[str, str], tried: bool, send: Any) -> None:
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            wrong = f"<p>{escape('That is not it.')}</p>" if tried else ""
            await _answer(send, 401, _LOGIN.format(wrong=wrong), {"content-type": "text/html; charset=utf-8"})
        else:
            await _answer(send, 401, "the token is missing: Authorization: Bearer TOKEN (lx ui prints it)\n")


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from our own page, or from no page at all."""
    if site := headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or (origin != "null" and urlsplit(origin).netloc == headers.get("host"))


def _with_headers(send: Any) -> Any:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            more = {**_HEADERS, "content-security-policy": POLICY, "cache-control": "no-store"}
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in more.items() if name.encode() not in present),
            ]
        await send(message)

    return sending


async def _answer(send: Any, status: int, text: str, more: Mapping[str, str] | None = None) -> None:
    always = {"content-security-policy": POLICY, "cache-control": "no-store"}
    headers = {"content-type": "text/plain; charset=utf-8", **_HEADERS, **always, **(more or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": text.encode()})
