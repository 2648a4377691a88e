"""A container of a pod as docker takes it: environment, volumes, names, user, limits."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes.api import Json, quantity

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")


class MissingError(Exception):
    """Something cannot be made as long as something is missing; the reason is Kubernetes' word for that."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME) where there is such a variable; $$ stands for a dollar."""
    return _REFERENCE.sub(lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]), text)


def environment(cluster: Cluster, pod: Json, container: Json) -> dict[str, str]:
    """The variables of a container."""
    env: dict[str, str] = {}
    for each in container.get("envFrom", ()):
        env |= _secret(cluster, pod, each["secretRef"]["name"])
    for each in container.get("env", ()):
        if "valueFrom" not in each:
            env[each["name"]] = expand(each.get("value", ""), env)
            continue
        ref = each["valueFrom"]["secretKeyRef"]
        values = _secret(cluster, pod, ref["name"])
        if ref["key"] not in values:
            text = f"couldn't find key {ref['key']} in Secret {pod['metadata']['namespace']}/{ref['name']}"
            raise MissingError("CreateContainerConfigError", text)
        env[each["name"]] = values[ref["key"]]
    return env


def _secret(cluster: Cluster, pod: Json, name: str) -> dict[str, str]:
    found = cluster.store.find("secrets", pod["metadata"]["namespace"], name)
    if found is None:
        raise MissingError("CreateContainerConfigError", f'secret "{name}" not found')
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


class Volumes:
    """The volumes of a pod, as folders of this machine."""

    def __init__(self, cluster: Cluster, pod: Json) -> None:
        self.cluster, self.pod = cluster, pod
        self.folder = cluster.folder / "kubelet" / pod["metadata"]["uid"]
        self.places: dict[str, Path] = {}
        self._mounted: list[Path] = []

    def make(self) -> None:
        """Make those that are not there yet."""
        for volume in self.pod["spec"].get("volumes", ()):
            name = volume["name"]
            try:
                self.places[name] = self.places.get(name) or self._make(name, volume)
            except OSError as error:
                raise MissingError("FailedMount", f'MountVolume.SetUp failed for volume "{name}" : {error}') from error

    def _make(self, name: str, volume: Json) -> Path:
        if source := volume.get("hostPath"):
            path, kind = Path(source["path"]), source.get("type", "")
            if kind == "Directory" and not path.is_dir():
                raise OSError(f"hostPath type check failed: {path} is not a directory")
            return path
        if source := volume.get("persistentVolumeClaim"):
            return self.cluster.claims[source["claimName"]]
        if "emptyDir" not in volume:
            raise OSError("the tests' kubelet knows no volumes of that kind")
        place = _folder(self.folder / "volumes" / name)
        if volume["emptyDir"].get("medium") == "Memory":
            size = volume["emptyDir"].get("sizeLimit")
            options = f"mode=0777,size={int(quantity(size))}" if size else "mode=0777"
            command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:  # else a folder will do
                self._mounted.append(place)
        return place

    def mounts(self, container: Json) -> list[Json]:
        """What docker is to mount into a container."""
        message = self._message(container)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_bytes(b"")
        message.chmod(0o666)
        found = [{"Type": "bind", "Source": str(message), "Target": container["terminationMessagePath"]}]
        for each in container.get("volumeMounts", ()):
            source = self.places[each["name"]] / each.get("subPath", "")
            source = source if source.exists() else _folder(source)
            more = {"Target": each["mountPath"], "ReadOnly": bool(each.get("readOnly"))}
            found.append({"Type": "bind", "Source": str(source), **more})
        return found

    def message(self, container: Json) -> str:
        """What a container has left to say."""
        return self._message(container).read_bytes()[:4096].decode(errors="replace")

    def _message(self, container: Json) -> Path:
        return self.folder / "messages" / container["name"]

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


def hosts(cluster: Cluster, pod: Json) -> list[str]:
    """Names that lead to this machine, which all pods are on: a Job's pods by index, if its Service is there."""
    space, subdomain = pod["metadata"]["namespace"], pod["spec"].get("subdomain")
    found = [pod["spec"].get("hostname", pod["metadata"]["name"])]
    if subdomain and cluster.store.find("services", space, subdomain):
        job = cluster.store.owner_of(pod)
        short = [f"{job['metadata']['name']}-{index}.{subdomain}" for index in range(job["spec"]["completions"])]
        found += [*short, *(f"{name}.{space}.svc.cluster.local" for name in short)]
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
