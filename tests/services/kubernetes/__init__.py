"""A Kubernetes cluster of the tests' own: an API server in this process, its controllers, and pods that are told or run.

Tests make a `Cluster` through the fixtures `cluster` (the test says what pods do) and `docker_cluster` (pods run as
containers of the docker daemon). The official client, and kubectl, find it by `cluster.kubeconfig`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import shutil
import ssl
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tests.services.kubernetes import nodes
from tests.services.kubernetes.api import (
    JOB_NAME,
    OF_KIND,
    RESOURCES,
    ApiError,
    Json,
    about,
    is_leaving,
    is_over,
    merge,
    now,
)
from tests.services.kubernetes.byhand import ByHand
from tests.services.kubernetes.controllers import Controllers
from tests.services.kubernetes.dockerkubelet import DockerKubelet
from tests.services.kubernetes.faults import Fault, Faults
from tests.services.kubernetes.kubelet import Kubelet
from tests.services.kubernetes.requests import Request
from tests.services.kubernetes.server import Server
from tests.services.kubernetes.store import Store, random_name

__all__ = ["ApiError", "Cluster", "DockerKubelet", "Kubelet"]

_T = TypeVar("_T")
_PRIORITIES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_LABELLED = "lx"  # the context


class Cluster(ByHand, Faults):
    """An API server, what it knows, and what goes on in it.

    Attributes:
        kubeconfig: the file that clients find it by.
        token: what they must say.
        namespace: the one of the kubeconfig.
        version: as /version tells it.
        requests: how often what was asked for, by verb and resource.
        bodies: what was written, in order: verb, resource, object.
        errors: exceptions in threads of this cluster; `close` fails if there are any.
        backoff: seconds before the first replacement of a failed pod, which doubles; 10 in a real cluster.
        terminating: seconds that a deleted pod takes to go where there is no kubelet; None: until `remove_pod`.
        refusal: why no pod may be created.
    """

    def __init__(self, folder: Path, kubelet: Kubelet | None = None, *, tls: bool = True) -> None:
        self.folder, self.kubelet = folder, kubelet or Kubelet()
        self.namespace, self.token, self.version = "default", f"token-{random_name()}", "v1.37.0"
        self.requests: Counter[tuple[str, str]] = Counter()
        self.bodies: list[tuple[str, str, Json]] = []
        self.errors: list[BaseException | None] = []
        self.backoff, self.terminating, self.refusal = 0.1, 0.05, ""
        self.cuts, self.ends, self.resets = 0, 0, False
        self.denied: set[tuple[str, str, str | None]] = set()
        self.claims: dict[str, Path] = {}
        self.lost: set[str] = set()
        self.faults: list[Fault] = []
        self.store = Store()
        for name in ("default", "kube-system"):
            self.store.create("namespaces", "", {"metadata": {"name": name}})
        self.store.create("serviceaccounts", "default", {"metadata": {"name": "default"}})
        for name, value in _PRIORITIES.items():
            self.add_priority_class(name, value)
        self.add_node("node1")
        self._certificate = certificate() if tls else None
        self.port, self._server = 0, None
        self.up()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self._config(), indent=1))
        self.controllers = Controllers(self)
        self.kubelet.start(self)

    def _config(self) -> Json:
        """YAML is JSON too."""
        server: Json = {"server": self.url}
        if self._certificate:
            server["certificate-authority"] = str(self.folder / "ca.crt")
            (self.folder / "ca.crt").write_text(self._certificate[1])
        context = {"cluster": _LABELLED, "user": _LABELLED, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "Config", "current-context": _LABELLED,
                "clusters": [{"name": _LABELLED, "cluster": server}],
                "contexts": [{"name": _LABELLED, "context": context}],
                "users": [{"name": _LABELLED, "user": {"token": self.token}}]}  # fmt: skip

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    # whether it is there

    def up(self) -> None:
        """Listen, on the port of before."""
        if self._server is None:
            self._server = Server(self, self.port, self._certificate[0] if self._certificate else None)
            self.port = self._server.server_address[1]

    def down(self) -> None:
        """Listen no more. What is in it goes on."""
        if self._server:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """End all."""
        self.down()
        self.controllers.close()
        self.kubelet.close()
        assert not self.errors, self.errors

    def pause(self) -> None:
        """Let the controllers do nothing."""
        self.controllers.paused.set()

    def resume(self) -> None:
        """Let the controllers go on."""
        self.controllers.paused.clear()
        self.controllers.later(0, lambda: None)

    # what is in it

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        """An object, or None."""
        return copy.deepcopy(self.store.find(plural, namespace, name))

    def list(self, plural: str, namespace: str | None = None, selector: str = "") -> list[Json]:
        """The objects that match."""
        return copy.deepcopy(self.store.select(plural, namespace, selector))

    def create(self, obj: Json) -> Json:
        """Create an object, as a user would."""
        meta = obj.get("metadata", {})
        return copy.deepcopy(self.admit(OF_KIND[obj["kind"]].plural, meta.get("namespace", self.namespace), obj))

    def patch(self, plural: str, name: str, changes: Mapping[str, Any], namespace: str = "default") -> Json:
        """A merge patch."""
        return copy.deepcopy(self.store.write(plural, namespace, name, lambda obj: merge(obj, changes)))

    def patch_status(self, plural: str, name: str, changes: Mapping[str, Any], namespace: str = "default") -> Json:
        """A merge patch of its status."""
        return self.patch(plural, name, {"status": changes}, namespace)

    def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> Json:
        """Delete an object, as a user would; options as in DeleteOptions."""
        return copy.deepcopy(self.store.delete(plural, namespace, name, options))

    def pods_of(self, job: str) -> list[Json]:
        """The pods of a Job, oldest first."""
        found = self.list("pods", None, f"{JOB_NAME}={job}")
        with self.store.changed:
            age = {uid: number for number, uid in enumerate(self.store.uids)}
        return sorted(found, key=lambda pod: age.get(pod["metadata"]["uid"], 0))

    def wait(self, condition: Callable[[], _T], seconds: float = 10.0) -> _T:
        """Wait until a function gives something true; it is called after each change."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{condition} is not true after {seconds} s"
            with self.store.changed:
                self.store.changed.wait(0.05)
        return found

    def admit(self, plural: str, namespace: str, obj: Any, dry: bool = False) -> Json:
        """Create an object, after what a cluster has to say to it."""
        resource = RESOURCES[plural]
        if not isinstance(obj, dict):
            raise ApiError(400, "the object provided is unrecognized (must be of type " + resource.kind + ")")
        if plural == "pods" and isinstance(obj.get("spec"), dict) and (name := obj["spec"].get("priorityClassName")):
            found = self.store.find("priorityclasses", "", name)
            if not found:
                pod = obj.get("metadata", {}).get("name", "")
                text = f'pods "{pod}" is forbidden: no PriorityClass with name {name} was found'
                raise ApiError(403, text, **about(resource, pod))
            obj = obj | {"spec": obj["spec"] | {"priority": found["value"]}}
        made = self.store.create(plural, namespace, obj, dry)
        if plural == "persistentvolumeclaims" and not dry:
            self.claims.setdefault(made["metadata"]["name"], self._claim_folder(made["metadata"]["name"]))
        return made

    # nodes

    def add_node(self, name: str, cpu: str = "4", memory: str = "8Gi", labels: dict[str, str] | None = None,
                 gpus: int = 0, pods: int = 110) -> None:  # fmt: skip
        """Add a node."""
        node = nodes.make_node(name, cpu, memory, labels, gpus, pods)
        self.lost.discard(name)
        self.store.create("nodes", "", node)
        self.store.write_status("nodes", "", name, lambda _: node["status"])

    def lose_node(self, name: str, after: float = 0.2, gone: bool = True) -> None:
        """Let a node fall silent; after a while its pods are deleted, and it is taken away if `gone`."""
        self.lost.add(name)
        self.kubelet.lose(name)
        self.store.write("nodes", "", name, nodes.lost)
        for pod in self._pods_on(name):
            self._write_pod(pod, nodes.unready)
        self.controllers.later(after, lambda: self._evict_all(name))
        if gone:
            self.controllers.later(2 * after, lambda: self.remove_node(name))

    def remove_node(self, name: str) -> None:
        """Take a node away: what was on it has failed, and goes too."""
        self.lost.add(name)
        self.kubelet.lose(name)
        self.store.remove("nodes", "", name)
        for pod in self._pods_on(name):
            if not is_over(pod):
                self._write_pod(pod, nodes.collected)
            self.store.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _pods_on(self, node: str) -> list[Json]:
        return [pod for pod in self.store.select("pods") if pod["spec"].get("nodeName") == node]

    def _evict_all(self, node: str) -> None:
        why = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
        for pod in self._pods_on(node):
            if not is_over(pod) and not is_leaving(pod):
                self._write_pod(pod, lambda status: nodes.disrupted(status, *why))
                self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], {})

    def _write_pod(self, pod: Json, make: Callable[[Json], Json]) -> None:
        with contextlib.suppress(ApiError):
            self.store.write_status("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], make)

    def add_claim(self, name: str, path: Path | None = None, size: str = "1Gi") -> Path:
        """Add a PersistentVolumeClaim that is bound; returns its folder."""
        self.claims[name] = path or self._claim_folder(name)
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}
        self.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
        return self.claims[name]

    def _claim_folder(self, name: str) -> Path:
        folder = self.folder / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        return folder

    def add_priority_class(self, name: str, value: int) -> None:
        """Add a PriorityClass."""
        self.store.create("priorityclasses", "", {"metadata": {"name": name}, "value": value})

    # events

    def add_event(self, about: str | Json, reason: str, message: str, type: str = "Warning", kind: str = "Pod",
                  component: str = "kubelet") -> Json:  # fmt: skip
        """Add an Event about an object, which may be said by its name."""
        if isinstance(about, str):
            about = self.store.find(OF_KIND[kind].plural, self.namespace, about) or {"metadata": {"name": about}}
            about = {"kind": kind, "apiVersion": OF_KIND[kind].api_version, **about}
        meta = about["metadata"]
        space = meta.get("namespace", self.namespace)
        whom = {"kind": about["kind"], "apiVersion": about["apiVersion"], "namespace": space, "name": meta["name"]}
        whom |= {key: meta[key] for key in ("uid", "resourceVersion") if key in meta}
        return self.store.create("events", space, {
            "metadata": {"name": f"{meta['name'][:200]}.{time.time_ns():x}{random_name()}", "namespace": space},
            "involvedObject": whom, "reason": reason, "message": message[:1024], "type": type, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": component},
            "reportingComponent": component, "reportingInstance": ""})  # fmt: skip

    def note(self, request: Request) -> None:
        """Count a request."""
        with self.store.changed:
            self.requests[request.verb, request.what] += 1
            if request.verb in ("create", "update", "patch"):
                self.bodies.append((request.verb, request.what, copy.deepcopy(request.body)))


@functools.cache
def certificate() -> tuple[ssl.SSLContext, str] | None:
    """What a server of 127.0.0.1 shows, and what clients trust; None where there is no openssl."""
    if shutil.which("openssl") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        key, found = f"{folder}/key", Path(folder) / "crt"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        command += ["-days", "3650", *names, "-keyout", key, "-out", str(found)]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(found, key)
        return context, found.read_text()
