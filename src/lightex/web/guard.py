"""Who may ask, from where, and what a browser may do with the answer: one ASGI middleware around everything."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, Response

from lightex.web.server import is_local

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
    "content-security-policy": POLICY,
    "cache-control": "no-store",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_STYLE = """
:root { color-scheme: light dark; font: 14px/20px system-ui, sans-serif; }
body { display: grid; place-content: center; min-height: 90vh; margin: 0 16px; } h1 { font-size: 16px; margin: 0; }
form { display: flex; gap: 8px; } input { flex: 1; } input, button { font: inherit; padding: 4px 10px; }
b { color: light-dark(#b3202c, #ff8a84); font-weight: 400; }
"""
_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>LightEx</title>
<meta name="viewport" content="width=device-width"><style>{style}</style><main><h1>LightEx wants its token</h1>
<p>Open the address that <code>lx ui</code> printed, or give the token that stands in it:</p>
<form><input name="token" aria-label="token" autocomplete="off" autofocus> <button>Go on</button></form>{wrong}</main>
</html>"""
_STYLED = f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"


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
        headers, asked = Headers(scope=scope), QueryParams(scope["query_string"]).multi_items()
        given = next((value for name, value in asked if name == "token"), None)
        if not self._token and not _is_local(headers.get("host", "")):
            # A page elsewhere may have made its own name mean this machine (DNS rebinding): it passes for ours.
            answer = _answer(403, "without a token only this machine is served, by its own name: localhost\n")
        elif self._token and given is not None and self._equal(given) and scope["method"] == "GET":
            answer = self._enter(scope, asked)
        elif not self._may(headers):
            answer = self._refuse(scope, headers, given is not None)
        elif scope["method"] not in _SAFE and not _is_ours(headers):
            answer = _answer(403, "this request comes from another site's page\n")
        else:
            answer, send = self._app, _with_headers(send)
        await answer(scope, receive, send)

    def _may(self, headers: Mapping[str, str]) -> bool:
        if not self._token:
            return True
        bearer = headers.get("authorization", "")
        if bearer.lower().startswith("bearer "):
            return self._equal(bearer[7:].strip())
        return any(self._equal(value) for name, value in _cookies(headers.get("cookie", "")) if name == self._name)

    def _equal(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _enter(self, scope: Scope, asked: list[tuple[str, str]]) -> Response:
        """The token moves from the address, which is shown and kept in histories, to a cookie."""
        rest = urlencode([pair for pair in asked if pair[0] != "token"])
        # Relative: a proxy may have put a prefix before the path that we do not know.
        target = "./" + quote(scope["path"].rsplit("/", 1)[-1]) + (f"?{rest}" if rest else "")
        cookie = f"{self._name}={quote(self._token or '', safe='')}; Path=/; HttpOnly; SameSite=Lax"
        return _answer(303, "", {"location": target, "set-cookie": cookie})

    def _refuse(self, scope: Scope, headers: Mapping[str, str], tried: bool) -> Response:
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            wrong = "<p><b role=alert>That is not it.</b></p>" if tried else ""
            policy = POLICY.replace("style-src 'self'", _STYLED)
            more = {"content-type": "text/html; charset=utf-8", "content-security-policy": policy}
            return _answer(401, _LOGIN.format(style=_STYLE, wrong=wrong), more)
        return _answer(401, "the token is missing: Authorization: Bearer TOKEN (lx ui prints it)\n")


def _is_local(host: str) -> bool:
    try:
        return is_local(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _cookies(header: str) -> Iterator[tuple[str, str]]:
    """Name and value of each; http.cookies would give up at an odd one, which any server of this host may have set."""
    for part in header.split(";"):
        name, _, value = part.partition("=")
        yield name.strip(), unquote(value.strip().strip('"'))


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from our own page, or from no page at all."""
    if site := headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or (origin != "null" and urlsplit(origin).netloc == headers.get("host"))


def _with_headers(send: Any) -> Any:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


def _answer(status: int, text: str, more: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status, {**_HEADERS, **(more or {})})
