"""The life of one pod on docker: volumes, containers for its start, containers, its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from tests.services.kubernetes import containers
from tests.services.kubernetes.api import ApiError, Json, is_leaving, is_over, now
from tests.services.kubernetes.kubelet import ended, entry, with_ready

if TYPE_CHECKING:
    from tests.services.kubernetes.dockerkubelet import DockerKubelet

_LOOK = 1.0  # seconds between two looks at containers of which no event was heard
_AGAIN = 0.3  # seconds until a container that waits for something is looked at again
_EPOCH = "1970-01-01T00:00:00Z"


class Gone(Exception):
    """The pod is not there any more, or its node is not."""


class Leaving(Exception):
    """The pod is to end."""


@dataclass
class Box:
    """A container of a pod."""

    spec: Json
    is_init: bool
    policy: str  # what becomes of it when it ends
    state: Json = field(default_factory=dict)
    last: Json = field(default_factory=dict)
    number: str = ""  # docker's
    restarts: int = 0
    again_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it is running."""
        return "running" in self.state

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended for good."""
        return self.state["terminated"]["exitCode"] if "terminated" in self.state and self.again_at is None else None

    @property
    def is_sidecar(self) -> bool:
        """Whether it starts before the others, and stays."""
        return self.is_init and self.policy == "Always"


class PodRunner(threading.Thread):
    """Runs a pod, and keeps its containers until the pod's object is gone."""

    def __init__(self, kubelet: DockerKubelet, pod: Json) -> None:
        super().__init__(name=pod["metadata"]["name"], daemon=True)
        self.kubelet, self.pod, self.store = kubelet, pod, kubelet.cluster.store
        self.uid = pod["metadata"]["uid"]
        self.wake = threading.Event()
        self.gone = self.lost = False
        self.died: set[str] = set()
        self._leaving, self._looked, self._told = False, 0.0, set()
        self.volumes = containers.Volumes(kubelet.cluster, pod, kubelet.folder / self.uid)
        policy = pod["spec"]["restartPolicy"]
        self.init = [self._box(each, True, "Never" if policy == "Never" else "OnFailure")
                     for each in pod["spec"].get("initContainers") or ()]  # fmt: skip
        self.main = [self._box(each, False, policy) for each in pod["spec"]["containers"]]

    def _box(self, spec: Json, is_init: bool, policy: str) -> Box:
        waits = "PodInitializing" if self.pod["spec"].get("initContainers") else "ContainerCreating"
        policy = spec.get("restartPolicy", policy)
        return Box(spec, is_init, policy, {"waiting": {"reason": waits}})

    def run(self) -> None:
        """All of it."""
        try:
            try:
                self._live()
            except Leaving:
                self._terminate()
            with contextlib.suppress(Leaving):
                while True:
                    self._wait(lambda: False)
            self._remove_pod()
        except (Gone, ApiError):
            pass
        except Exception as error:
            if not self.kubelet.closing:
                self.kubelet.cluster.errors.append(error)
        finally:
            self._clean()

    def _live(self) -> None:
        self._write("Pending")
        while not self._mount():
            self._pause(_AGAIN)
        for box in self.init:
            self._start_all([box])
            if not box.is_sidecar:
                self._wait(lambda box=box: box.code is not None)
                if box.code:
                    self._stop_sidecars()
                    self._write("Failed")
                    return
        for box in self.main:
            box.state = {"waiting": {"reason": "ContainerCreating"}}
        self._start_all(self.main)
        self._wait(lambda: all(box.code is not None for box in self.main))
        self._stop_sidecars()
        self._write("Failed" if any(box.code for box in self.main) else "Succeeded")

    # waiting

    def _wait(self, condition: Callable[[], object], until: float | None = None) -> None:
        """Wait until something is so, or until a time.

        Raises:
            Gone: there is nothing to wait for any more.
            Leaving: the pod is to end, and was not before.
        """
        while True:
            self._look()
            if self.gone or self.lost or self.kubelet.closing:
                raise Gone
            if not self._leaving and is_leaving(self._object()):
                raise Leaving
            if condition() or (until is not None and time.monotonic() >= until):
                return
            due = [box.again_at for box in (*self.init, *self.main) if box.again_at is not None]
            due += [] if until is None else [until]
            self.wake.wait(min([_LOOK, *(max(0.0, each - time.monotonic()) for each in due)]))
            self.wake.clear()

    def _pause(self, seconds: float) -> None:
        self._wait(lambda: False, time.monotonic() + seconds)

    def _object(self) -> Json:
        meta = self.pod["metadata"]
        found = self.store.find("pods", meta["namespace"], meta["name"])
        if found is None or found["metadata"]["uid"] != self.uid:
            raise Gone
        return found

    def _look(self) -> None:
        """See which containers have ended, and start again those that are to."""
        all_of_them = time.monotonic() - self._looked > _LOOK
        if all_of_them:
            self._looked = time.monotonic()
        changed = False
        for box in (*self.init, *self.main):
            if box.runs and (all_of_them or box.number in self.died):
                changed |= self._see_end(box)
            if box.again_at is not None and box.again_at <= time.monotonic() and not self._leaving:
                box.again_at = None
                box.restarts += 1
                changed |= self._start(box)
        if changed and not (self.gone or self.lost):
            self._write()

    def _see_end(self, box: Box) -> bool:
        try:
            found = self.kubelet.client.inspect_container(box.number)
        except NotFound:
            box.state = ended(137, "ContainerStatusUnknown", "The container could not be located")
            return True
        state = found["State"]
        if state["Running"]:
            return False
        code = state["ExitCode"]
        message = self.volumes.message(box.spec)
        if code and not message and box.spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            message = self.kubelet.client.logs(box.number, tail=80).decode(errors="replace")[-2048:]
        reason = "OOMKilled" if state.get("OOMKilled") else None
        box.state = ended(code, reason, message, state["StartedAt"][:19] + "Z")
        box.state["terminated"] |= {
            "finishedAt": state["FinishedAt"][:19] + "Z",
            "containerID": f"docker://{box.number}",
        }
        if not self._leaving and (box.policy == "Always" or (box.policy == "OnFailure" and code)):
            wait = self.kubelet.crash_backoff * 2**box.restarts
            box.last, box.again_at = box.state, time.monotonic() + wait
            text = (
                f"back-off {wait:g}s restarting failed container={box.spec['name']} pod={self.pod['metadata']['name']}"
            )
            box.state = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
        return True

    # starting

    def _mount(self) -> bool:
        try:
            self.volumes.make()
        except containers.MountError as error:
            self._tell("FailedMount", str(error))
            return False
        return True

    def _start_all(self, boxes: list[Box]) -> None:
        """Start containers; those that cannot be started yet are tried again."""
        left = boxes
        while left:
            left = [box for box in left if not self._start(box)]
            self._write()
            if left:
                self._pause(_AGAIN)

    def _start(self, box: Box) -> bool:
        """Start a container; False: it waits for something."""
        client, spec = self.kubelet.client, box.spec
        if not self._has_image(box):
            return False
        try:
            made = containers.creation(self.kubelet.cluster, self.pod, spec, self.volumes, box.restarts)
        except containers.ConfigError as error:
            self._block(box, "CreateContainerConfigError", str(error), f"Error: {error}")
            return False
        try:
            box.number = client.create_container(**made)["Id"]
            self.kubelet.runners_of[box.number] = self
            client.start(box.number)
        except APIError as error:
            text = f"failed to create containerd task: failed to create shim task: {error.explanation}"
            box.state = ended(128, "StartError", text, _EPOCH)
            self._tell("Failed", f"Error: {text}")
            return True
        box.state = {"running": {"startedAt": now()}}
        self._tell("Started", f"Container started: {spec['name']}", "Normal")
        return True

    def _has_image(self, box: Box) -> bool:
        image, policy = box.spec["image"], box.spec["imagePullPolicy"]
        try:
            self.kubelet.client.inspect_image(image)
        except NotFound:
            if policy == "Never":
                text = f'Container image "{image}" is not present with pull policy of Never'
                self._block(box, "ErrImageNeverPull", text, text)
                return False
            cause = (
                f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
            )
            reason = box.state.get("waiting", {}).get("reason")
            if reason == "ErrImagePull":
                text = f'Back-off pulling image "{image}": ErrImagePull: {cause}'
                self._block(box, "ImagePullBackOff", text, "Error: ImagePullBackOff")
                self._tell("BackOff", f'Back-off pulling image "{image}"', "Normal")
            elif reason != "ImagePullBackOff":
                self._block(box, "ErrImagePull", cause, f'Failed to pull image "{image}": {cause}')
            return False
        except APIError as error:
            text = f'Failed to apply default image tag "{image}": couldn\'t parse image name: {error.explanation}'
            self._block(box, "InvalidImageName", text, text, "InspectFailed")
            return False
        self._tell("Pulled", f'Container image "{image}" already present on machine', "Normal")
        return True

    def _block(self, box: Box, reason: str, message: str, told: str, event: str = "Failed") -> None:
        box.state = {"waiting": {"reason": reason, "message": message}}
        self._tell(event, told)

    # ending

    def _terminate(self) -> None:
        """SIGTERM, and SIGKILL when the time is over; then the object goes."""
        self._leaving = True
        self._write()
        began = time.monotonic()

        def end() -> float:
            return began + self._object()["metadata"].get("deletionGracePeriodSeconds", 0)

        self._end([box for box in (*self.init, *self.main) if not box.is_sidecar], end)
        self._end([box for box in self.init if box.is_sidecar], end)
        codes = [box.code for box in self.main]
        for box in self.main:
            if box.code is None:
                text = "The container could not be located when the pod was terminated"
                box.state = ended(137, "ContainerStatusUnknown", text)
        self._write("Succeeded" if all(code == 0 for code in codes) else "Failed")
        self._remove_pod()

    def _remove_pod(self) -> None:
        meta = self._object()["metadata"]
        self.store.remove("pods", meta["namespace"], meta["name"])
        raise Gone

    def _stop_sidecars(self) -> None:
        end = time.monotonic() + self.pod["spec"]["terminationGracePeriodSeconds"]
        self._end([box for box in self.init if box.is_sidecar], lambda: end)

    def _end(self, boxes: list[Box], limit: Callable[[], float]) -> None:
        """End containers that run; a function tells until when they may go on."""
        was_leaving, self._leaving = self._leaving, True  # what ends now is not started again
        for box in boxes:
            box.again_at = None
            if box.runs:
                self._tell("Killing", f"Stopping container {box.spec['name']}", "Normal")
                self._signal(box, "SIGTERM")

        def none_runs() -> bool:
            return not any(box.runs for box in boxes)

        self._wait(lambda: none_runs() or time.monotonic() >= limit(), limit())
        if not none_runs():
            for box in boxes:
                if box.runs:
                    self._signal(box, "SIGKILL")
            self._wait(none_runs, time.monotonic() + 10)
        self._leaving = was_leaving

    def _signal(self, box: Box, signal: str) -> None:
        with contextlib.suppress(APIError):
            self.kubelet.client.kill(box.number, signal=signal)

    def _clean(self) -> None:
        """Take all away."""
        for number in [number for number, runner in list(self.kubelet.runners_of.items()) if runner is self]:
            with contextlib.suppress(APIError, OSError):
                self.kubelet.client.remove_container(number, force=True, v=True)
            self.kubelet.runners_of.pop(number, None)
        self.volumes.remove()
        self.kubelet.forget(self)

    # telling

    def _tell(self, reason: str, message: str, kind: str = "Warning") -> None:
        if (reason, message) not in self._told:
            self._told.add((reason, message))
            self.kubelet.cluster.add_event(self.pod, reason, message, kind)

    def _write(self, phase: str | None = None) -> None:
        """Write the status."""
        meta = self.pod["metadata"]
        began = any(box.runs or "terminated" in box.state or box.last for box in self.main)
        ready = began and all(box.runs for box in self.main)
        init = [
            entry(box.spec, box.state, restarts=box.restarts, number=box.number, last=box.last) for box in self.init
        ]
        main = [
            entry(box.spec, box.state, restarts=box.restarts, number=box.number, last=box.last) for box in self.main
        ]
        for box, each in zip(self.init, init, strict=True):
            each["ready"] = box.runs or box.code == 0
        done = all(box.is_sidecar or box.code == 0 for box in self.init)
        more = {"containerStatuses": main, **({"initContainerStatuses": init} if init else {})}
        more |= {"hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}

        self._object()  # another pod may have got its name

        def make(status: Json) -> Json:
            if is_over({"status": status}):
                return status
            status = {"startTime": now()} | status | more
            status["phase"] = phase or ("Running" if began else status["phase"])
            reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(status["phase"], "ContainersNotReady")
            return with_ready(status, ready and phase is None, reason, done)

        if not self.lost:
            self.store.write_status("pods", meta["namespace"], meta["name"], make)
