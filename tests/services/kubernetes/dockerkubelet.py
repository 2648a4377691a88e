"""Pods as containers of a docker daemon: each pod has a thread that lives as long as it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import docker
from docker.errors import APIError, NotFound

from tests.services.kubernetes import containers
from tests.services.kubernetes.api import (
    ApiError,
    Json,
    ended,
    entry,
    is_leaving,
    is_over,
    running,
    waiting,
    with_ready,
)
from tests.services.kubernetes.containers import MissingError
from tests.services.kubernetes.hands import Kubelet
from tests.services.kubernetes.store import Change

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_LOOK = 0.03  # seconds between two looks at the containers of a pod
_AGAIN = 0.3  # seconds until a container that waits for something is looked at again
_EPOCH = "1970-01-01T00:00:00Z"


class DockerKubelet(Kubelet):
    """The kubelet of all nodes; containers share this machine's network."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.closing = threading.Event()
        self._runners: dict[str, PodRunner] = {}

    def start(self, cluster: Cluster) -> None:
        """Begin to run pods."""
        self.client = docker.APIClient(base_url=self.address, version="auto", timeout=60)
        super().start(cluster)

    def close(self) -> None:
        """End all pods, and take their containers away."""
        self.closing.set()
        for runner in list(self._runners.values()):
            runner.join(20)
        self.client.close()

    def see(self, change: Change) -> None:
        """Called with each change, by whoever makes it."""
        pod, uid = change.obj, change.obj["metadata"]["uid"]
        is_bound = change.key[0] == "pods" and "nodeName" in pod["spec"]
        if is_bound and not is_over(pod) and uid not in self._runners and not self.closing.is_set():
            self._runners[uid] = PodRunner(self, pod)
            self._runners[uid].start()


class Gone(Exception):
    """The pod is not there any more, or its node is not."""


class Leaving(Exception):
    """The pod is to end."""


class PodRunner(threading.Thread):
    """Runs a pod."""

    def __init__(self, kubelet: DockerKubelet, pod: Json) -> None:
        super().__init__(name=pod["metadata"]["name"], daemon=True)
        self.kubelet, self.pod, self.store, self.docker = kubelet, pod, kubelet.cluster.store, kubelet.client
        self.volumes = containers.Volumes(kubelet.cluster, pod)
        self.init, self.main = pod["spec"].get("initContainers", []), pod["spec"]["containers"]
        state = waiting("PodInitializing" if self.init else "ContainerCreating")
        self.states = {each["name"]: state for each in (*self.init, *self.main)}
        self.numbers: dict[str, str] = {}  # docker's
        self._leaving = False

    def run(self) -> None:
        """All of its life."""
        try:
            try:
                self._live()
            except Leaving:
                self._terminate()
            self._write("Succeeded" if all(self._code(each) == 0 for each in (*self.init, *self.main)) else "Failed")
            if is_leaving(self._object()):
                self.store.remove(self.pod)
        except (Gone, ApiError):
            pass
        except Exception as error:
            self.kubelet.cluster.errors.append(error)
        finally:
            for number in self.numbers.values():
                with contextlib.suppress(APIError, OSError):
                    self.docker.remove_container(number, force=True, v=True)
            self.volumes.remove()

    def _live(self) -> None:
        self._try("FailedMount", self.volumes.make)
        for each in self.init:
            self._try("Failed", lambda each=each: self._start(each))
            self._wait(lambda each=each: self._code(each) is not None)
            if self._code(each):
                return
        for each in self.main:
            self._try("Failed", lambda each=each: self._start(each))
        self._wait(lambda: all(self._code(each) is not None for each in self.main))

    def _terminate(self) -> None:
        """SIGTERM, and SIGKILL when the time is over, which may be made shorter meanwhile."""
        began = time.monotonic()
        self._signal("SIGTERM")
        grace = "deletionGracePeriodSeconds"
        self._wait(lambda: not self._running() or time.monotonic() > began + self._object()["metadata"][grace])
        self._signal("SIGKILL")
        self._wait(lambda: not self._running())
        for each in self.main:
            if self._code(each) is None:
                text = "The container could not be located when the pod was terminated"
                self.states[each["name"]] = ended(137, "ContainerStatusUnknown", text)

    def _code(self, container: Json) -> int | None:
        return self.states[container["name"]].get("terminated", {}).get("exitCode")

    def _running(self) -> list[Json]:
        return [each for each in (*self.init, *self.main) if "running" in self.states[each["name"]]]

    def _signal(self, signal: str) -> None:
        for each in self._running():
            with contextlib.suppress(APIError):  # it has just ended
                self.docker.kill(self.numbers[each["name"]], signal=signal)

    # waiting

    def _wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, or until the pod is gone, or is to end and was not before."""
        while True:
            for each in self._running():
                self._look_at(each)
            if not self._leaving and is_leaving(self._object()):
                self._leaving = True
                raise Leaving
            if condition():
                return
            self.kubelet.closing.wait(_LOOK)

    def _object(self) -> Json:
        found = self.store.current(self.pod)
        if found is None or self.kubelet.closing.is_set() or self.pod["spec"]["nodeName"] in self.kubelet.cluster.lost:
            raise Gone
        return found

    def _look_at(self, container: Json) -> None:
        """See whether a container has ended."""
        number = self.numbers[container["name"]]
        found = self.docker.inspect_container(number)["State"]
        if not found["Running"]:
            code, message = found["ExitCode"], self.volumes.message(container)
            if code and not message and container["terminationMessagePolicy"] == "FallbackToLogsOnError":
                message = self.docker.logs(number, tail=80).decode(errors="replace")[-2048:]
            reason = "OOMKilled" if found["OOMKilled"] else None
            state = ended(code, reason, message, found["StartedAt"][:19] + "Z")
            state["terminated"]["finishedAt"] = found["FinishedAt"][:19] + "Z"
            self.states[container["name"]] = state
            self._write()

    # starting

    def _try(self, reason: str, step: Callable[[], None]) -> None:
        """Do something, again and again while something is missing that it needs."""
        told = None
        while True:
            try:
                step()
            except MissingError as error:
                if str(error) != told:
                    told = str(error)
                    self.kubelet.cluster.add_event(self.pod, reason, told)
                self._write()
                again = time.monotonic() + _AGAIN
                self._wait(lambda again=again: time.monotonic() >= again)
            else:
                return self._write()

    def _start(self, container: Json) -> None:
        """Start a container, or say what it waits for."""
        name = container["name"]
        try:
            self._look_for_image(container)
            made = containers.creation(self.kubelet.cluster, self.pod, container, self.volumes)
        except MissingError as error:
            self.states[name] = waiting(error.reason, str(error))
            raise
        self.numbers[name] = self.docker.create_container(**made)["Id"]
        try:
            self.docker.start(self.numbers[name])
            self.states[name] = running()
        except APIError as error:
            text = f"failed to create containerd task: failed to create shim task: {error.explanation}"
            self.states[name] = ended(128, "StartError", text, _EPOCH)

    def _look_for_image(self, container: Json) -> None:
        image, reason = container["image"], self.states[container["name"]].get("waiting", {}).get("reason")
        try:
            self.docker.inspect_image(image)
        except NotFound:
            if container["imagePullPolicy"] == "Never":
                text = f'Container image "{image}" is not present with pull policy of Never'
                raise MissingError("ErrImageNeverPull", text) from None
            text = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found'
            if reason in ("ErrImagePull", "ImagePullBackOff"):  # it is the second time at least
                text = f'Back-off pulling image "{image}": ErrImagePull: {text}'
                raise MissingError("ImagePullBackOff", text) from None
            raise MissingError("ErrImagePull", text) from None

    def _write(self, phase: str | None = None) -> None:
        """Write the status; without a phase, that of a pod that goes on."""
        began = any(self.states[each["name"]].keys() & {"running", "terminated"} for each in self.main)
        more = {"phase": phase or ("Running" if began else "Pending"), "podIP": "127.0.0.1"}
        for kind, boxes in (("initContainerStatuses", self.init), ("containerStatuses", self.main)):
            more[kind] = [entry(each, self.states[each["name"]]) for each in boxes]
        ready = all("running" in self.states[each["name"]] for each in self.main)
        since = {"startTime": self._object()["metadata"]["creationTimestamp"]}
        self.store.write_status(self.pod, lambda old: with_ready(since | old | more, ready))
