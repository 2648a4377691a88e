"""Asking an API server: plain objects in and out, by the transport and the kubeconfig of the official client."""

from __future__ import annotations

import logging
import os
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import proxy_bypass

import urllib3
from kubernetes.config.config_exception import ConfigException
from yaml import YAMLError  # type: ignore[import-untyped]

from lightex.core import jsonlib
from lightex.core.errors import LightexError, UnreachableError

Object = dict[str, Any]
"""An object of Kubernetes, as its JSON has it."""

_TIMES = (5.0, 30.0)  # seconds to connect, and between two bytes of an answer
_BUSY = (429, 500, 502, 503, 504)  # answers of a server that is busy or restarts
_AGENT = f"lightex/{version('lightex')}"
_NO_RIGHT = "ask your cluster's admin for that right; lx doctor -e kubernetes lists those that lx needs"
_RETRY = urllib3.Retry(
    total=4,
    connect=1,
    read=0,  # a change may have been made, though the answer is lost: who asked for it looks
    backoff_factor=0.3,
    backoff_jitter=0.3,
    status_forcelist=_BUSY,
    allowed_methods=None,  # also those that change: a second creation is told by 409, of names that are nobody else's
    raise_on_status=False,
)


class ClusterError(LightexError):
    """The API server refuses something.

    Attributes:
        status: of its answer.
    """

    def __init__(self, message: str, *details: str, status: int = 0) -> None:
        super().__init__(message, *details)
        self.status = status


class AwayError(UnreachableError, ClusterError):
    """It does not answer, or is too busy to."""


@dataclass(frozen=True)
class Cluster:
    """A cluster, by a context of the kubeconfig.

    Attributes:
        context: its name; empty: this process runs in the cluster.
        namespace: the context's own.
        server: the address of its API server.
        settings: of the official library, which knows how to log in.
        pool: connections.
    """

    context: str
    namespace: str
    server: str
    settings: Any = field(repr=False, compare=False)
    pool: urllib3.PoolManager = field(repr=False, compare=False)

    def ask(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
        quiet: float = _TIMES[1],
    ) -> Object:
        """Ask, and read the answer.

        Args:
            verb: of HTTP.
            path: from the root of the server.
            query: behind the "?" of the address.
            body: what is sent.
            kind: of the body.
            quiet: seconds between two bytes of the answer, after which it is away.

        Raises:
            AwayError: it does not answer, or is too busy.
            ClusterError: it refuses.
        """
        with reaching(self.server):
            answer = self._send(verb, path, query or {}, None if body is None else jsonlib.dumps(body), kind, quiet)
            try:
                return dict(jsonlib.loads(answer.data))
            except ValueError as error:
                raise AwayError(f"what answers at {self.server} is no cluster: {error}") from error

    @contextmanager
    def stream(self, path: str, query: Mapping[str, Any], quiet: float) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer that goes on, to be read as it comes; `quiet`: seconds between two bytes. Raises as `ask`."""
        with reaching(self.server):
            answer = self._send("GET", path, query, quiet=quiet, whole=False)
            try:
                yield answer
            finally:
                answer.close()  # it is not read to its end, and its connection of no use to others

    def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any],
        body: bytes | None = None,
        kind: str = "application/json",
        quiet: float = _TIMES[1],
        whole: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
        headers = {"Accept": "application/json", "Content-Type": kind, "User-Agent": _AGENT}
        login = self.settings.auth_settings().get("BearerToken")  # a fresh token, if the last ran out
        if login and login["value"]:
            headers["Authorization"] = login["value"]
        answer: urllib3.BaseHTTPResponse = self.pool.request(
            verb,
            f"{self.server}{path}" + (f"?{urlencode(texts)}" if texts else ""),
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=_TIMES[0], read=quiet),
            retries=_RETRY,
            preload_content=whole,
        )
        if answer.status >= 400:
            said = _said(answer)
            if answer.status == 401:  # a log-in may have run out in the middle of a sweep
                hint = "log in again, as your cluster's admin says; kubectl get pods tells when it works"
                raise AwayError(f"the cluster at {self.server} does not know you: {said}", hint, status=401)
            if answer.status in _BUSY:
                raise AwayError(f"the cluster at {self.server} is busy: {said}", status=answer.status)
            raise ClusterError(said, *[_NO_RIGHT] * (answer.status == 403), status=answer.status)
        return answer


def in_namespace(kind: str, namespace: str, name: str = "") -> str:
    """The path of an object, or of all of a kind."""
    group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
    return f"{group}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


_locked = threading.Lock()

# It warns of each try; what does not answer is told in our words, once.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def connect(context: str | None = None) -> Cluster:
    """The cluster of a context; None: of the current one, or the one that this process runs in.

    Raises:
        ClusterError: there is no kubeconfig, or no such context in it.
    """
    with _locked:  # threads that ask at once are to share its connections
        return _connect(context, os.environ.get("KUBECONFIG", ""))


@lru_cache(maxsize=16)
def _connect(context: str | None, file: str) -> Cluster:
    from kubernetes import client

    config: Any = import_module("kubernetes.config")  # its functions have no types

    settings = client.Configuration()
    inside = context == ""
    namespace = "default"
    try:
        if inside:
            raise ConfigException("in a pod")
        contexts, current = config.list_kube_config_contexts(file or None)
        chosen = next((each for each in contexts if each["name"] == context), None) if context else current
        if chosen is None:
            valid = ", ".join(sorted(each["name"] for each in contexts))
            raise ClusterError(f"there is no context '{context}' in the kubeconfig", f"it has: {valid}")
        context, namespace = chosen["name"], chosen["context"].get("namespace") or namespace
        config.load_kube_config(file or None, context=context, client_configuration=settings)
    except YAMLError as error:
        raise ClusterError(
            f"the kubeconfig cannot be read: {error}", "it is YAML; kubectl config view shows it"
        ) from error
    except ConfigException as error:
        if context:
            raise ClusterError(f"there is no context '{context}': {error}", "export KUBECONFIG=PATH") from error
        try:
            config.load_incluster_config(client_configuration=settings)
        except ConfigException:
            raise ClusterError(
                f"there is no cluster to ask: {error}",
                "give the file that your cluster's admin has: export KUBECONFIG=PATH",
                "or have a small one: k3s, microk8s, kind or minikube write ~/.kube/config",
            ) from error
        context = ""
    pool = _pool(settings)
    _remove_files()
    return Cluster(str(context), namespace, str(settings.host).rstrip("/"), settings, pool)


def _pool(settings: Any) -> urllib3.PoolManager:
    """Connections with the certificates of a kubeconfig, which are read here and now."""
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    more: dict[str, Any] = {"ssl_context": context, "maxsize": 16}
    if name := getattr(settings, "tls_server_name", None):
        more |= {"server_hostname": name, "assert_hostname": name}
    if settings.proxy and not proxy_bypass(urlsplit(settings.host).hostname or ""):
        return urllib3.ProxyManager(settings.proxy, proxy_headers=settings.proxy_headers, **more)
    return urllib3.PoolManager(**more)


def _remove_files() -> None:
    """Remove the files that the client has written certificates and keys to.

    It would do so when a process ends, also one whose child goes on with them (`lx run --detach`), and not where one
    ends as children of a fork do.
    """
    module = sys.modules.get("kubernetes.config.kube_config")
    files: dict[str, str] = getattr(module, "_temp_files", {})
    for path in files.values():
        Path(path).unlink(missing_ok=True)
    files.clear()


@contextmanager
def reaching(server: str) -> Iterator[None]:
    """Says what exceptions of the network mean.

    Raises:
        AwayError: the server does not answer.
    """
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason else error
        words = str(cause).rpartition(": ")[2] or type(cause).__name__
        raise AwayError(f"the cluster at {server} does not answer: {words}") from error


def _said(answer: urllib3.BaseHTTPResponse) -> str:
    """What an error says, by its Status object."""
    data = answer.data
    try:
        words = jsonlib.loads(data).get("message")
    except (jsonlib.JSONDecodeError, AttributeError):
        words = data.decode(errors="replace").strip()[:200]
    return str(words or answer.reason or answer.status)


def _forget() -> None:
    """Two processes cannot share a connection, nor a lock that another thread held."""
    global _locked  # noqa: PLW0603
    _locked = threading.Lock()
    _connect.cache_clear()


os.register_at_fork(after_in_child=_forget)
