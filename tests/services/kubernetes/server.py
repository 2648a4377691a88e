"""The HTTP side: addresses, verbs, watches, logs, faults."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml

from tests.services.kubernetes import discovery
from tests.services.kubernetes.api import ApiError, Json
from tests.services.kubernetes.requests import Request, Watch, act, parse

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_BOOKMARK = 1.0  # seconds without a change, after which a watch is told the version; a real server takes a minute


class Cut(Exception):
    """The connection is to break off."""


class Server(http.server.ThreadingHTTPServer):
    """Listens, in a thread of its own, until it is closed."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cluster: Cluster, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.cluster = cluster
        self.connections: set[socket.socket] = set()
        self.closing = False
        if context:  # the handshake is the handler's: one that says nothing must not keep others waiting
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="kubernetes", daemon=True)
        self.thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError) and not (self.closing and isinstance(error, ValueError)):
            self.cluster.errors.append(error)

    def close(self) -> None:
        """Listen no more, and break off all that is open."""
        self.closing = True
        self.shutdown()
        self.server_close()
        for each in list(self.connections):
            try:
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # not SSLSocket's: another thread is reading
            except OSError:
                continue
        with self.cluster.store.changed:
            self.cluster.store.changed.notify_all()
        self.thread.join(5)
        end = time.monotonic() + 2
        while self.connections and time.monotonic() < end:
            time.sleep(0.005)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    @property
    def cluster(self) -> Cluster:
        return self.server.cluster

    def _answer(self, method: str) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._serve(method, raw)
        except ApiError as error:
            self._send(error.code, error.status(), error.details.get("retryAfterSeconds"))
        except Cut:
            self._break_off()

    def _serve(self, method: str, raw: bytes) -> None:
        address = urllib.parse.urlsplit(self.path)
        query = {key: values[-1] for key, values in urllib.parse.parse_qs(address.query, True).items()}
        if address.path.strip("/") in ("healthz", "livez", "readyz"):
            return self._send_text("ok")
        if self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
            raise ApiError(401, "Unauthorized")
        if (found := discovery.page(address.path, self.cluster.version)) is not None:
            return self._send(200, found)
        request = parse(method, address.path, query)
        request.body = self._read(raw)
        self.cluster.note(request)
        after = self._faults(request)
        self.cluster.check_allowed(request)
        if request.verb == "watch":
            return self._watch(request)
        if request.verb == "get" and request.part == "log":
            return self._log(request)
        answer = act(self.cluster, request, self.headers.get("Content-Type", ""))
        if after:
            after()
        return self._send(*answer)

    def _read(self, raw: bytes) -> Any:
        kind = self.headers.get("Content-Type", "")
        if "protobuf" in kind:
            raise ApiError(415, "the tests' server reads JSON and YAML")
        try:
            return yaml.safe_load(raw) if "yaml" in kind else json.loads(raw or b"null")
        except (ValueError, yaml.YAMLError) as error:
            raise ApiError(400, f"error decoding the body: {error}") from error

    def _faults(self, request: Request) -> Callable[[], None] | None:
        """Do what the test has ordered; returns what is to be done after the request."""
        fault = self.cluster.take_fault(request.verb, request.what)
        if fault is None:
            return None
        if fault.seconds:
            end = time.monotonic() + fault.seconds
            while time.monotonic() < end and not self.server.closing:
                time.sleep(0.01)
            return None

        def raise_it() -> None:
            raise fault.error or Cut

        if fault.after:
            return raise_it
        return raise_it()

    # answers

    def _send(self, code: int, body: Json, retry_after: object = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self._headers("application/json", len(data))
        self.wfile.write(data)

    def _send_text(self, text: str) -> None:
        self.send_response(200)
        self._headers("text/plain", len(text.encode()))
        self.wfile.write(text.encode())

    def _headers(self, kind: str, length: int | None) -> None:
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _break_off(self) -> None:
        self.close_connection = True
        if self.cluster.resets:  # no FIN but an RST: unread data is lost, and the client is told of an error
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.close(self.connection)

    def _is_cut(self, cuts: int) -> bool:
        if cuts != self.cluster.cuts or self.server.closing:
            raise Cut
        return False

    # what goes on

    def _watch(self, request: Request) -> None:
        store, query = self.cluster.store, request.query
        cuts, ends = self.cluster.cuts, self.cluster.ends
        limit = float(query.get("timeoutSeconds") or 1800)
        end = time.monotonic() + limit
        watch = Watch(request)
        self.send_response(200)
        self._headers("application/json", None)
        with store.changed:
            first = watch.first(store)
            version = store.version if first is not None else int(query["resourceVersion"])
        for each in first or ():
            self._event(*each)
        told = time.monotonic()
        while time.monotonic() < end and ends == self.cluster.ends and not self._is_cut(cuts):
            with store.changed:
                try:
                    changes = store.after(version)
                except ApiError as error:
                    self._event("ERROR", error.status())
                    break
                version = max(version, store.version)
                if not changes:
                    store.changed.wait(min(0.5, max(0.0, end - time.monotonic())))
            for change in changes:
                if kind := watch.sees(change):
                    self._event(kind, change.obj)
                    told = time.monotonic()
            if watch.bookmarks and time.monotonic() - told > _BOOKMARK:
                self._event("BOOKMARK", watch.bookmark(version))
                told = time.monotonic()
        self._chunk(b"")

    def _event(self, kind: str, obj: Json) -> None:
        self._chunk(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def _log(self, request: Request) -> None:
        cuts = self.cluster.cuts
        parts = self.cluster.kubelet.read_log(request.space, str(request.name), request.query)
        try:
            head = next(parts, b"")  # what is wrong is told before the first part
            self.send_response(200)
            self._headers("text/plain", None)
            while head is not None:
                if head:
                    self._chunk(head)
                self._is_cut(cuts)
                head = next(parts, None)
        finally:
            parts.close()
        self._chunk(b"")
