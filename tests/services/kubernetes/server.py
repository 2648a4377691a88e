"""The HTTP side: addresses, verbs, watches, faults."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes.api import RESOURCES, ApiError, Json, selector
from tests.services.kubernetes.store import Change

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_BOOKMARK = 1.0  # seconds without a change, after which a watch is told the version; a real server takes a minute
_PATH = re.compile(r"/apis?/((?:[^/]+/)?v1)/(?:namespaces/([^/]+)/)?([^/]+)(?:/([^/]+))?")
_METRICS = re.compile(r"/apis/metrics\.k8s\.io/v1beta1(?:/namespaces/([^/]+)/pods)?")
_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update"}


class Cut(Exception):
    """The connection is to break off."""


@dataclass
class Request:
    """What is asked for; a namespace of None means all of them, or that there is none to it."""

    verb: str
    plural: str
    namespace: str | None
    name: str
    query: Mapping[str, str]
    body: Any

    @property
    def selectors(self) -> tuple[str, str]:
        """By labels, and by fields."""
        return self.query.get("labelSelector", ""), self.query.get("fieldSelector", "")

    def sees(self, change: Change) -> str | None:
        """As what a watch is told of a change; None: not at all."""
        if change.key[0] != self.plural or self.namespace not in (None, change.key[1]):
            return None
        matches = selector(*self.selectors)
        is_in = change.kind != "DELETED" and matches(change.obj)
        was_in = change.before is not None and matches(change.before)
        return {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get((is_in, was_in))


def parse(method: str, path: str, query: Mapping[str, str], body: Any) -> Request:
    """Read an address; it is an error if there is nothing there."""
    if measured := _METRICS.fullmatch(path):
        return Request("list" if measured[1] else "discover", "podmetrics", measured[1], "", query, body)
    found = _PATH.fullmatch(path)
    version, namespace, plural, name = found.groups() if found else (None, None, "", None)
    if not (resource := RESOURCES.get(plural)) or resource.api_version != version:
        raise ApiError(404, "the server could not find the requested resource")
    verb = _VERBS.get(method, "")
    if method == "GET":
        verb = "get" if name else "watch" if query.get("watch") == "true" else "list"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    return Request(verb, plural, namespace, name or "", query, body)


def act(cluster: Cluster, request: Request, content: str) -> Json:
    """Do what is asked for; returns the answer."""
    store, place = cluster.store, (request.plural, request.namespace or "", request.name)
    options = {**request.query, **(request.body or {})}  # of a deletion
    match request.verb:
        case "create" if request.plural == "selfsubjectaccessreviews":
            return cluster.review(request.body)
        case "create" if not request.name:
            return store.create(*place[:2], request.body, dry_run=request.query.get("dryRun") == "All")
        case "get":
            return store.get(*place)
        case "patch" if content == "application/merge-patch+json":
            return store.patch(*place, request.body)
        case "delete":
            return store.delete(store.get(*place), **options)
        case "list" | "discover" if request.plural == "podmetrics":
            return _measured(cluster, request)
        case "list" | "deletecollection":
            with store.changed:
                found = store.select(request.plural, request.namespace, *request.selectors)
                for each in found if request.verb == "deletecollection" else ():
                    store.delete(each, **options)
                head = _head(request.plural, store.version, "List")
            items = [{key: each[key] for key in each.keys() - {"kind", "apiVersion"}} for each in found]
            return head | {"items": items}
    raise ApiError(405, f"the tests' server knows no {request.verb} of {request.plural} by {content}")


def _measured(cluster: Cluster, request: Request) -> Json:
    """What the metrics server says of pods that run, where there is one."""
    if cluster.measures is None:
        raise ApiError(404, "the server could not find the requested resource")
    with cluster.store.changed:
        pods = cluster.store.select("pods", request.namespace, *request.selectors)
    items = [
        {"metadata": pod["metadata"], "containers": [{"name": "command", "usage": cluster.measures}]}
        for pod in pods
        if pod.get("status", {}).get("phase") == "Running"
    ]
    return {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": items}


def _head(plural: str, version: int, suffix: str = "") -> Json:
    resource, meta = RESOURCES[plural], {"resourceVersion": str(version)}
    return {"kind": resource.kind + suffix, "apiVersion": resource.api_version, "metadata": meta}


class Server(http.server.ThreadingHTTPServer):
    """Listens, in a thread of its own, until it is closed."""

    daemon_threads = False  # it waits for them when it is closed
    request_queue_size = 128

    def __init__(self, cluster: Cluster, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.cluster, self.closing = cluster, threading.Event()
        self.connections: set[socket.socket] = set()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="kubernetes", daemon=True)
        self.thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # the client has gone
            raise error

    def close(self) -> None:
        """Listen no more, and break off all that is open."""
        self.closing.set()
        self.shutdown()
        for each in self.connections:
            with contextlib.suppress(OSError):  # it is closed
                each.shutdown(socket.SHUT_RDWR)
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._serve(raw)
        except ApiError as error:
            self._send(error.code, error.status(), error.retry_after)
        except Cut:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _serve(self, raw: bytes) -> None:
        cluster, address = self.server.cluster, urllib.parse.urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {cluster.token}":
            raise ApiError(401, "Unauthorized")
        if address.path == "/version":
            return self._send(200, {"gitVersion": cluster.version})
        query = dict(urllib.parse.parse_qsl(address.query))
        request = parse(self.command, address.path, query, json.loads(raw or b"null"))
        cluster.note(request)
        fault = cluster.take_fault(request)
        if fault and fault.seconds:
            self.server.closing.wait(fault.seconds)
        elif fault and not fault.after:
            raise fault.error or Cut
        cluster.check_allowed(request)
        if request.verb == "watch":
            return self._watch(request)
        answer = act(cluster, request, self.headers.get("Content-Type", ""))
        if fault and fault.after:
            raise fault.error or Cut
        return self._send(201 if request.verb == "create" else 200, answer)

    def _send(self, code: int, body: Json, retry_after: int | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, request: Request) -> None:
        """Tell of changes until its time is over, or a test ends it."""
        cluster, store = self.server.cluster, self.server.cluster.store
        cuts, ends, told = cluster.cuts, cluster.ends, time.monotonic()
        end = told + float(request.query.get("timeoutSeconds", 1800))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with store.changed:  # who says no version is told what there is
            version = int(request.query.get("resourceVersion") or 0)
            first = [] if version else store.select(request.plural, request.namespace, *request.selectors)
            version = version or store.version
        self._tell([("ADDED", each) for each in first])
        while time.monotonic() < end and ends == cluster.ends:
            if cuts != cluster.cuts or self.server.closing.is_set():
                raise Cut
            with store.changed:
                try:
                    changes = store.after(version)
                except ApiError as error:
                    self._tell([("ERROR", error.status())])
                    break
                version = max(version, store.version)
                if not changes:
                    store.changed.wait(0.1)
            events = [(kind, change.obj) for change in changes if (kind := request.sees(change))]
            if not events and request.query.get("allowWatchBookmarks") and time.monotonic() - told > _BOOKMARK:
                events = [("BOOKMARK", _head(request.plural, version))]
            told = time.monotonic() if events else told
            self._tell(events)
        self.wfile.write(b"0\r\n\r\n")

    def _tell(self, events: list[tuple[str, Json]]) -> None:
        for kind, obj in events:
            data = json.dumps({"type": kind, "object": obj}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
