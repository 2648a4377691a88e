"""A Kubernetes cluster of the tests' own: an API server in this process, its controllers, and pods that are told or run.

Tests make a `Cluster` through the fixtures `cluster` (the test says what pods do) and `docker_cluster` (pods run as
containers of the docker daemon). The official client finds it by `cluster.kubeconfig`. All objects are as JSON has
them. It lacks what no engine of ours needs: there are no logs, ConfigMaps, probes, restarts, TTLs, users, pauses before
a failed pod is replaced, and no network of the pods' own; and a bookmark comes after a second.
"""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.services.kubernetes.api import OF_KIND, ApiError, Json, merge, now
from tests.services.kubernetes.controllers import Controllers
from tests.services.kubernetes.dockerkubelet import DockerKubelet
from tests.services.kubernetes.hands import ByHand, Fault, Faults, Kubelet, Nodes
from tests.services.kubernetes.server import Request, Server
from tests.services.kubernetes.store import Store

__all__ = ["ApiError", "Cluster", "DockerKubelet", "Kubelet"]


class Cluster(ByHand, Faults, Nodes):
    """An API server, what it knows, and what goes on in it."""

    def __init__(self, folder: Path, kubelet: Kubelet | None = None) -> None:
        self.folder, self.kubelet, self.namespace = folder, kubelet or Kubelet(), "default"
        self.token, self.version = f"token-{uuid.uuid4()}", "v1.37.0"  # what clients must say; what /version says
        self.requests: Counter[tuple[str, str]] = Counter()  # how often what was asked for: verb, resource
        self.bodies: list[tuple[str, str, Json]] = []  # what was written, in order: verb, resource, object
        self.terminating: float | None = 0.05  # seconds that a deleted pod takes to go by itself; None: it stays
        self.faults: list[Fault] = []
        self.denied: set[tuple[str, str]] = set()
        self.measures: Json | None = None  # what its metrics server says of each container; None: it has none
        self.refusal: str | None = None  # why no pod may be made
        self.cuts = self.ends = 0  # how often watches were cut, and ended
        self.lost: set[str] = set()  # nodes
        self.claims: dict[str, Path] = {}
        self.store = Store()
        self.store.create("namespaces", "", {"metadata": {"name": "default"}})
        self.store.create("serviceaccounts", "default", {"metadata": {"name": "default"}})
        self.add_node("node1")
        self.port, self._server = 0, None
        self.up()
        context = {"cluster": "lx", "user": "lx", "namespace": "default"}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "lx",
                  "clusters": [{"name": "lx", "cluster": {"server": self.url}}],
                  "contexts": [{"name": "lx", "context": context}],
                  "users": [{"name": "lx", "user": {"token": self.token}}]}  # fmt: skip
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))  # YAML is JSON too
        self._controllers = Controllers(self)
        self.later = self._controllers.later
        self.kubelet.start(self)

    def up(self) -> None:
        """Listen, on the port of before."""
        if self._server is None:
            self._server = Server(self, self.port)
            self.port = self._server.server_address[1]
            self.url = f"http://127.0.0.1:{self.port}"

    def down(self) -> None:
        """Listen no more. What is in it goes on."""
        if self._server:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """End all."""
        self.down()
        self._controllers.close()
        self.kubelet.close()

    def pause(self) -> None:
        """Let the controllers do nothing: a Job gets no pods, no pod gets a node."""
        self._controllers.paused = True

    def resume(self) -> None:
        """Let the controllers go on."""
        self._controllers.paused = False

    # what is in it: what is returned is the test's own

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        """An object, or None."""
        return copy.deepcopy(self.store.find(plural, namespace, name))

    def list(self, plural: str, namespace: str | None = None, selector: str = "") -> list[Json]:
        """The objects whose labels match, the oldest first."""
        return copy.deepcopy(self.store.select(plural, namespace, selector))

    def create(self, obj: Json) -> Json:
        """Create an object, as a user would."""
        space = obj["metadata"].get("namespace", "default")
        return copy.deepcopy(self.store.create(OF_KIND[obj["kind"]].plural, space, obj))

    def patch(self, plural: str, name: str, changes: Json, namespace: str = "default") -> Json:
        """A merge patch, as users make them: not of the status."""
        return copy.deepcopy(self.store.patch(plural, namespace, name, changes))

    def patch_status(self, plural: str, name: str, changes: Json, namespace: str = "default") -> Json:
        """A merge patch of the status."""
        obj = self.store.get(plural, namespace, name)
        return copy.deepcopy(self.store.write_status(obj, lambda old: merge(old, changes)))

    def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> Json:
        """Delete an object, as a user would; options as in DeleteOptions."""
        return copy.deepcopy(self.store.delete(self.store.get(plural, namespace, name), **options))

    def pods_of(self, job: str) -> list[Json]:
        """The pods of a Job, the oldest first."""
        return self.list("pods", None, f"job-name={job}")

    def wait(self, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Wait until a function gives something true; it is called after each change."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{condition} is not true after {seconds} s"
            with self.store.changed:
                self.store.changed.wait(0.05)
        return found

    def note(self, request: Request) -> None:
        """Count a request."""
        with self.store.changed:
            self.requests[request.verb, request.plural] += 1
            if request.verb in ("create", "update", "patch"):
                self.bodies.append((request.verb, request.plural, request.body))

    def add_claim(self, name: str, path: Path | None = None) -> Path:
        """Add a PersistentVolumeClaim that is bound; returns its folder."""
        self.claims[name] = path or self.folder / "claims" / name
        self.claims[name].mkdir(parents=True, exist_ok=True)
        self.claims[name].chmod(0o777)
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        self.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})
        return self.claims[name]

    def add_priority_class(self, name: str, value: int) -> None:
        """Add a PriorityClass."""
        self.store.create("priorityclasses", "", {"metadata": {"name": name}, "value": value})

    def add_event(self, about: str | Json, reason: str, message: str, type: str = "Warning", kind: str = "Pod") -> Json:
        """Add an Event about an object, or about a pod or a Job by name."""
        if isinstance(about, str):
            about = self.find_pod(about) if kind == "Pod" else self.store.get(OF_KIND[kind].plural, "default", about)
        meta = about["metadata"]
        whom = {"kind": about["kind"], "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
        more = {"reason": reason, "message": message, "type": type, "lastTimestamp": now()}
        name = f"{meta['name']}.{uuid.uuid4()}"
        return self.store.create(
            "events", meta["namespace"], {"metadata": {"name": name}, "involvedObject": whom, **more}
        )
