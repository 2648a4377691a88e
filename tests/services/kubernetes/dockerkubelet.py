"""Pods as containers of a docker daemon."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError

from tests.services.kubernetes.api import Json, is_leaving, is_over, seconds
from tests.services.kubernetes.containers import LABEL
from tests.services.kubernetes.kubelet import Kubelet
from tests.services.kubernetes.pods import PodRunner
from tests.services.kubernetes.store import Change

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_BEAT = 0.1  # seconds between two looks whether a followed log is still wanted


class DockerKubelet(Kubelet):
    """The kubelet of all nodes: each pod has a thread, and its containers share this machine's network.

    Attributes:
        crash_backoff: seconds before a container is started again for the first time, which doubles; 10 in real.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.crash_backoff = 0.2
        self.closing = False
        self.runners: dict[str, PodRunner] = {}
        self.runners_of: dict[str, PodRunner] = {}  # by docker's number of a container

    def start(self, cluster: Cluster) -> None:
        """Begin to run pods."""
        self.cluster = cluster
        self.folder = cluster.folder / "kubelet"
        self.client = self._connect()
        self._listener = self._connect()
        wanted = {"label": f"{LABEL}={cluster.folder}", "event": ["die", "oom"]}
        self._events = self._listener.events(decode=True, filters=wanted)
        self._thread = threading.Thread(target=self._listen, name="docker events", daemon=True)
        self._thread.start()
        cluster.store.listeners.append(self._see)

    def _connect(self) -> docker.APIClient:
        return docker.APIClient(base_url=self.address, version="auto", timeout=60)

    def close(self) -> None:
        """End all pods, and take their containers away."""
        self.closing = True
        runners = list(self.runners.values())
        for runner in runners:
            runner.wake.set()
        for runner in runners:
            runner.join(20)
        for each in self.client.containers(all=True, filters={"label": f"{LABEL}={self.cluster.folder}"}):
            with contextlib.suppress(APIError):
                self.client.remove_container(each["Id"], force=True, v=True)
        with contextlib.suppress(OSError, AttributeError):
            self._events.close()
        self._thread.join(5)
        self._listener.close()
        self.client.close()

    def lose(self, node: str) -> None:
        """A node falls silent: its containers end, and nobody is told."""
        for runner in list(self.runners.values()):
            if (self.cluster.store.find("pods", *_place(runner.pod)) or runner.pod)["spec"].get("nodeName") == node:
                runner.lost = True
                runner.wake.set()

    def forget(self, runner: PodRunner) -> None:
        """A pod's thread is at its end."""
        self.runners.pop(runner.uid, None)

    def _see(self, change: Change) -> None:
        """Called with each change, by whoever makes it."""
        if change.key[0] != "pods" or self.closing:
            return
        pod = change.obj
        runner = self.runners.get(pod["metadata"]["uid"])
        if change.kind == "DELETED":
            if runner:
                runner.gone = True
                runner.wake.set()
        elif runner:
            if is_leaving(pod):
                runner.wake.set()
        elif (node := pod["spec"].get("nodeName")) and node not in self.cluster.lost and not is_over(pod):
            self.runners[pod["metadata"]["uid"]] = runner = PodRunner(self, pod)
            runner.start()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # the stream ends somehow when it is closed
            for event in self._events:
                if runner := self.runners_of.get(event.get("id", "")):
                    runner.died.add(event["id"])
                    runner.wake.set()

    def read_log(self, namespace: str, name: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """See `Kubelet.read_log`."""
        pod, container = self.logged(namespace, name, query)
        number = _number(pod, container)
        options: dict[str, Any] = {"timestamps": query.get("timestamps") in ("true", "1", "True")}
        if text := query.get("tailLines"):
            options["tail"] = int(text)
        if text := query.get("sinceTime"):
            options["since"] = seconds(text)
        if text := query.get("sinceSeconds"):
            options["since"] = time.time() - int(text)
        if query.get("follow") not in ("true", "1", "True"):
            data = self.client.logs(number, **options)
            yield data[: int(query["limitBytes"])] if "limitBytes" in query else data
            return
        client = self._connect()
        stream = client.logs(number, stream=True, follow=True, **options)
        parts: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

        def feed() -> None:
            with contextlib.suppress(Exception):  # it is closed by the other side, or by this one
                for part in stream:
                    parts.put(part)
            parts.put(None)

        thread = threading.Thread(target=feed, name=f"log of {name}", daemon=True)
        thread.start()
        try:
            yield b""
            while True:
                try:
                    part = parts.get(timeout=_BEAT)
                except queue.Empty:
                    part = b""
                if part is None:
                    return
                yield part
        finally:
            with contextlib.suppress(OSError, AttributeError):
                stream.close()
            thread.join(2)
            client.close()


def _place(pod: Json) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _number(pod: Json, container: str) -> str:
    entries = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
    found = next((each for each in entries if each["name"] == container), {})
    return str(found.get("containerID", "")).removeprefix("docker://")
