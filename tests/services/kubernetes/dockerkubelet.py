"""Pods as containers of a docker daemon: each pod has a thread that lives as long as it."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, NotFound

from tests.services.kubernetes import api
from tests.services.kubernetes.api import ApiError, Json, ended, is_leaving, is_over, quantity
from tests.services.kubernetes.hands import Kubelet
from tests.services.kubernetes.store import Change

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_LOOK = 0.03  # seconds between two looks at the containers of a pod
_AGAIN = 0.3  # seconds until what waits for something is looked at again
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")


class DockerKubelet(Kubelet):
    """The kubelet of all nodes; containers share this machine's network."""

    def __init__(self, address: str) -> None:
        self.client = docker.APIClient(base_url=address, version="auto", timeout=60)
        self.closing = threading.Event()
        self._runners: dict[str, PodRunner] = {}

    def close(self) -> None:
        """End all pods, and take their containers away."""
        self.closing.set()
        for runner in list(self._runners.values()):
            runner.join(20)
        self.client.close()

    def see(self, change: Change) -> None:
        """Called with each change, by whoever makes it."""
        pod, uid = change.obj, change.obj["metadata"]["uid"]
        is_bound = change.key[0] == "pods" and "nodeName" in pod["spec"] and not is_over(pod)
        if is_bound and uid not in self._runners and not self.closing.is_set():
            self._runners[uid] = PodRunner(self, pod)
            self._runners[uid].start()


class Gone(Exception):
    """The pod is not there any more, or its node is not."""


class Leaving(Exception):
    """The pod is to end."""


class MissingError(Exception):
    """Something that is needed is missing for now: Kubernetes' word for that, and a text."""


class PodRunner(threading.Thread):
    """Runs a pod."""

    def __init__(self, kubelet: DockerKubelet, pod: Json) -> None:
        super().__init__(name=pod["metadata"]["name"], daemon=True)
        self.kubelet, self.pod, self.store, self.docker = kubelet, pod, kubelet.cluster.store, kubelet.client
        self.volumes = Volumes(kubelet.cluster, pod)
        self.init, self.main = pod["spec"].get("initContainers", []), pod["spec"]["containers"]
        state = {"waiting": {"reason": "PodInitializing" if self.init else "ContainerCreating"}}
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
        finally:
            for number in self.numbers.values():
                with contextlib.suppress(APIError, OSError):
                    self.docker.remove_container(number, force=True, v=True)
            self.volumes.remove()

    def _live(self) -> None:
        self._try(self.volumes.make)
        for each in self.init:
            self._try(self._start, each)
            self._wait(lambda each=each: self._code(each) is not None)
            if self._code(each):
                return
        for each in self.main:
            self._try(self._start, each)
        self._wait(lambda: all(self._code(each) is not None for each in self.main))

    def _terminate(self) -> None:
        """SIGTERM, and SIGKILL when the time is over, which may be made shorter meanwhile."""
        began, grace = time.monotonic(), "deletionGracePeriodSeconds"
        self._signal("SIGTERM")
        self._wait(lambda: not self._running() or time.monotonic() > began + self._object()["metadata"][grace])
        self._signal("SIGKILL")
        self._wait(lambda: not self._running())
        for each in self.main:
            if self._code(each) is None:
                text = "The container could not be located when the pod was terminated"
                self.states[each["name"]] = ended(137, "ContainerStatusUnknown", text)

    def _code(self, container: Json) -> int | None:
        return self.states[container["name"]].get("terminated", {}).get("exitCode")

    def _running(self) -> list[str]:
        return [name for name, state in self.states.items() if "running" in state]

    def _signal(self, signal: str) -> None:
        for name in self._running():
            with contextlib.suppress(APIError):  # it has just ended
                self.docker.kill(self.numbers[name], signal=signal)

    def _object(self) -> Json:
        found = self.store.current(self.pod)
        if found is None or self.kubelet.closing.is_set() or self.pod["spec"]["nodeName"] in self.kubelet.cluster.lost:
            raise Gone
        return found

    def _wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, or until the pod is gone, or is to end and was not before."""
        while True:
            for each in (*self.init, *self.main):
                if "running" in self.states[each["name"]]:
                    self._look_at(each)
            if is_leaving(self._object()) and not self._leaving:
                self._leaving = True
                raise Leaving
            if condition():
                return
            self.kubelet.closing.wait(_LOOK)

    def _look_at(self, container: Json) -> None:
        """See whether a container has ended."""
        number = self.numbers[container["name"]]
        found = self.docker.inspect_container(number)["State"]
        if not found["Running"]:
            code, message = found["ExitCode"], (self.volumes.messages / container["name"]).read_text(errors="replace")
            if code and not message and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
                message = self.docker.logs(number, tail=80).decode(errors="replace")[-2048:]
            began = self.states[container["name"]]["running"]["startedAt"]
            self.states[container["name"]] = ended(code, "OOMKilled" if found["OOMKilled"] else None, message, began)
            self._write()

    def _try(self, step: Callable[..., None], *containers: Json) -> None:
        """Do something, for a container perhaps, again and again while something is missing that it needs."""
        told = None
        while True:
            try:
                step(*containers)
                return self._write()
            except MissingError as error:
                for each in containers:
                    self.states[each["name"]] = {"waiting": dict(zip(("reason", "message"), error.args, strict=True))}
                if error.args != told:
                    told = error.args
                    self.kubelet.cluster.add_event(self.pod, "Failed" if containers else "FailedMount", told[1])
                self._write()
                again = time.monotonic() + _AGAIN
                self._wait(lambda again=again: time.monotonic() >= again)

    def _start(self, container: Json) -> None:
        name, image = container["name"], container["image"]
        made = creation(self.kubelet.cluster, self.pod, container, self.volumes)
        try:
            self.numbers[name] = self.docker.create_container(**made)["Id"]
        except NotFound:
            text = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found'
            if self.states[name]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff"):
                text = f'Back-off pulling image "{image}": ErrImagePull: {text}'
                raise MissingError("ImagePullBackOff", text) from None
            raise MissingError("ErrImagePull", text) from None
        try:
            self.docker.start(self.numbers[name])
            self.states[name] = {"running": {"startedAt": api.now()}}
        except APIError as error:
            text = f"failed to create containerd task: failed to create shim task: {error.explanation}"
            self.states[name] = ended(128, "StartError", text, "1970-01-01T00:00:00Z")

    def _write(self, phase: str | None = None) -> None:
        """Write the status; without a phase, that of a pod that goes on."""
        began = any(self.states[each["name"]].keys() & {"running", "terminated"} for each in self.main)
        more = {"phase": phase or ("Running" if began else "Pending"), "podIP": "127.0.0.1"}
        for kind, boxes in (("initContainerStatuses", self.init), ("containerStatuses", self.main)):
            more[kind] = [api.entry(each, self.states[each["name"]]) for each in boxes]
        ready = str(all(each["ready"] for each in more["containerStatuses"]))
        since = {"startTime": self._object()["metadata"]["creationTimestamp"]}
        self.store.write_status(self.pod, lambda old: api.with_condition(since | old | more, "Ready", ready))


class Volumes:
    """The volumes of a pod, as folders of this machine."""

    def __init__(self, cluster: Cluster, pod: Json) -> None:
        self.cluster, self.pod = cluster, pod
        self.folder = cluster.folder / "kubelet" / pod["metadata"]["uid"]
        self.messages = _folder(self.folder / "messages")  # what containers leave to say
        self.places: dict[str, Path] = {}
        self._mounted: list[Path] = []

    def make(self) -> None:
        """Make those that are not there yet."""
        for volume in self.pod["spec"].get("volumes", ()):
            name, path = volume["name"], Path(volume.get("hostPath", {}).get("path", "/"))
            if volume.get("hostPath", {}).get("type") == "Directory" and not path.is_dir():
                why = f"hostPath type check failed: {path} is not a directory"
                raise MissingError("FailedMount", f'MountVolume.SetUp failed for volume "{name}" : {why}')
            if source := volume.get("persistentVolumeClaim"):
                path = self.cluster.claims[source["claimName"]]
            elif "hostPath" not in volume:
                path = self.places.get(name) or self._empty(name, volume["emptyDir"])
            self.places[name] = path

    def _empty(self, name: str, source: Json) -> Path:
        place = _folder(self.folder / "volumes" / name)
        if source.get("medium") == "Memory":
            size = f",size={int(quantity(source['sizeLimit']))}" if "sizeLimit" in source else ""
            command = ["mount", "-t", "tmpfs", "-o", f"mode=0777{size}", "none", str(place)]
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:  # else a folder will do
                self._mounted.append(place)
        return place

    def mounts(self, container: Json) -> list[Json]:
        """What docker is to mount into a container."""
        message = self.messages / container["name"]
        message.write_bytes(b"")
        message.chmod(0o666)
        found = [{"Type": "bind", "Source": str(message), "Target": container["terminationMessagePath"]}]
        for each in container.get("volumeMounts", ()):
            source = self.places[each["name"]] / each.get("subPath", "")
            source = source if source.exists() else _folder(source)
            more = {"Target": each["mountPath"], "ReadOnly": bool(each.get("readOnly"))}
            found.append({"Type": "bind", "Source": str(source), **more})
        return found

    def remove(self) -> None:
        """Take them away."""
        for place in self._mounted:
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _folder(path: Path) -> Path:
    """A folder that everybody may write to."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME) where there is such a variable; $$ stands for a dollar."""
    return _REFERENCE.sub(lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]), text)


def environment(cluster: Cluster, pod: Json, container: Json) -> dict[str, str]:
    """The variables of a container."""
    env: dict[str, str] = {}

    def secret(name: str) -> dict[str, str]:
        if not (found := cluster.store.find("secrets", pod["metadata"]["namespace"], name)):
            raise MissingError("CreateContainerConfigError", f'secret "{name}" not found')
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    for each in container.get("envFrom", ()):
        env |= secret(each["secretRef"]["name"])
    for each in container.get("env", ()):
        if "valueFrom" in each:
            ref = each["valueFrom"]["secretKeyRef"]
            env[each["name"]] = secret(ref["name"])[ref["key"]]
        else:
            env[each["name"]] = expand(each.get("value", ""), env)
    return env


def hosts(cluster: Cluster, pod: Json) -> list[str]:
    """Names that lead to this machine, which all pods are on: a Job's pods by index, if its Service is there."""
    space, subdomain = pod["metadata"]["namespace"], pod["spec"].get("subdomain")
    found = [pod["spec"].get("hostname", pod["metadata"]["name"])]
    job = cluster.store.owner_of(pod)
    if job and subdomain and cluster.store.find("services", space, subdomain):
        found += [f"{job['metadata']['name']}-{index}.{subdomain}" for index in range(job["spec"]["completions"])]
    return [f"{name}:127.0.0.1" for name in found]


def creation(cluster: Cluster, pod: Json, container: Json, volumes: Volumes) -> dict[str, Any]:
    """What docker's SDK takes to create a container."""
    env = environment(cluster, pod, container)
    meta, security = pod["metadata"], pod["spec"]["securityContext"]
    limits = container["resources"].get("limits", {})
    groups = [*security.get("supplementalGroups", ()), *([security["fsGroup"]] if "fsGroup" in security else [])]
    host: Json = {"NetworkMode": "host", "Mounts": volumes.mounts(container), "ExtraHosts": hosts(cluster, pod)}
    host |= {"GroupAdd": [str(each) for each in groups], "Init": False}  # its first process is the command itself
    if "memory" in limits:
        host |= {"Memory": (size := int(quantity(limits["memory"]))), "MemorySwap": size}
    if "cpu" in limits:  # a node may say that it has more than this machine
        host["NanoCpus"] = int(min(quantity(limits["cpu"]), os.cpu_count() or 1) * 1e9)
    return {
        "image": container["image"],
        "name": f"k8s_{container['name']}_{meta['name']}_{meta['uid']}",
        "entrypoint": [expand(each, env) for each in container.get("command", ())] or None,
        "command": [expand(each, env) for each in container.get("args", ())] or None,
        "environment": env,
        "working_dir": container.get("workingDir"),
        "user": f"{security['runAsUser']}:{security.get('runAsGroup', 0)}" if "runAsUser" in security else None,
        "hostname": pod["spec"].get("hostname", meta["name"])[:63],
        "host_config": host,
    }
