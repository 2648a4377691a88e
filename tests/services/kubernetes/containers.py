"""A container of a pod as docker has it: environment, volumes, names, limits."""

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
_FIELD = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
LABEL = "lightex-test-cluster"


class ConfigError(Exception):
    """A container cannot be made as it is described, as long as something is missing."""


class MountError(Exception):
    """A volume cannot be mounted, as long as something is missing."""


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace $(NAME) where there is such a variable; $$ stands for a dollar."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else env.get(found[2], found[0])

    return _REFERENCE.sub(one, text)


def environment(cluster: Cluster, pod: Json, spec: Json) -> dict[str, str]:
    """The variables of a container.

    Raises:
        ConfigError: a Secret or ConfigMap that they come from is not there.
    """
    env: dict[str, str] = {}
    for each in spec.get("envFrom") or ():
        for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if kind in each:
                found = contents(cluster, pod, plural, each[kind])
                env |= {each.get("prefix", "") + key: value.decode() for key, value in found.items()}
    for each in spec.get("env") or ():
        if "valueFrom" not in each:
            env[each["name"]] = expand(each.get("value", ""), env)
        elif (value := _value_from(cluster, pod, spec, each["valueFrom"])) is not None:
            env[each["name"]] = value
    return env


def contents(cluster: Cluster, pod: Json, plural: str, where: Json, key: str | None = None) -> dict[str, bytes]:
    """What is in a Secret or a ConfigMap.

    Raises:
        ConfigError: it is not there, or has no such key.
    """
    namespace, kind = pod["metadata"]["namespace"], "secret" if plural == "secrets" else "configmap"
    found = cluster.store.find(plural, namespace, where.get("name", ""))
    if found is None:
        if where.get("optional"):
            return {}
        raise ConfigError(f'{kind} "{where.get("name", "")}" not found')
    data = {name: base64.b64decode(value) for name, value in (found.get("binaryData") or {}).items()}
    for name, value in (found.get("data") or {}).items():
        data[name] = base64.b64decode(value) if plural == "secrets" else value.encode()
    if key is not None and key not in data and not where.get("optional"):
        name = "Secret" if plural == "secrets" else "ConfigMap"
        raise ConfigError(f"couldn't find key {key} in {name} {namespace}/{where['name']}")
    return data


def _value_from(cluster: Cluster, pod: Json, spec: Json, source: Json) -> str | None:
    for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        if ref := source.get(kind):
            value = contents(cluster, pod, plural, ref, ref["key"]).get(ref["key"])
            return None if value is None else value.decode()
    if ref := source.get("resourceFieldRef"):
        kind, _, name = ref["resource"].partition(".")
        amount = quantity((spec["resources"].get(kind) or {}).get(name, 0)) / quantity(ref.get("divisor") or 1)
        return str(-int(-amount // 1))
    return field(cluster, pod, source["fieldRef"]["fieldPath"])


def field(cluster: Cluster, pod: Json, path: str) -> str:
    """A field of a pod, as fieldRef names it."""
    pod = cluster.store.find("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]) or pod
    if found := _FIELD.fullmatch(path):
        return (pod["metadata"].get(found[1]) or {}).get(found[2], "")
    if path in ("status.podIP", "status.hostIP", "status.podIPs"):
        return "127.0.0.1"
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


class Volumes:
    """The volumes of a pod, as folders of this machine."""

    def __init__(self, cluster: Cluster, pod: Json, folder: Path) -> None:
        self.cluster, self.pod, self.folder = cluster, pod, folder
        self.places: dict[str, Path] = {}
        self._mounted: list[Path] = []

    def make(self) -> None:
        """Make them all, or those that are missing.

        Raises:
            MountError: one cannot be made.
        """
        for volume in self.pod["spec"].get("volumes") or ():
            name = volume["name"]
            if name not in self.places:
                try:
                    self.places[name] = self._make(name, volume)
                except (ConfigError, OSError) as error:
                    raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error

    def _make(self, name: str, volume: Json) -> Path:
        place = self.folder / "volumes" / name
        if "hostPath" in volume:
            return host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            return self.cluster.claims[volume["persistentVolumeClaim"]["claimName"]]
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
        if "emptyDir" in volume:
            if volume["emptyDir"].get("medium") == "Memory":
                self._mount_memory(place, volume["emptyDir"].get("sizeLimit"))
        elif "secret" in volume or "configMap" in volume:
            self._write_files(place, volume)
        else:
            kind = next(key for key in volume if key != "name")
            raise ConfigError(f"volumes of kind {kind} are nothing that the tests' kubelet knows")
        return place

    def _mount_memory(self, place: Path, size: object) -> None:
        options = f"mode=0777,size={int(quantity(size))}" if size else "mode=0777"
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:  # else a plain folder will do
            self._mounted.append(place)

    def _write_files(self, place: Path, volume: Json) -> None:
        if source := volume.get("secret"):
            where = {"name": source.get("secretName", ""), "optional": source.get("optional")}
            data = contents(self.cluster, self.pod, "secrets", where)
        else:
            source = volume["configMap"]
            data = contents(self.cluster, self.pod, "configmaps", source)
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        for each in items:
            if each["key"] not in data:
                if source.get("optional"):
                    continue
                raise ConfigError(f"references non-existent secret key: {each['key']}")
            file = place / each["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data[each["key"]])
            file.chmod(each.get("mode", source.get("defaultMode", 0o644)))
        place.chmod(0o755)

    def mounts(self, spec: Json, env: Mapping[str, str]) -> list[Json]:
        """What docker is to mount into a container."""
        found = []
        read_only = {each["name"] for each in self.pod["spec"].get("volumes") or () if "secret" in each}
        for each in spec.get("volumeMounts") or ():
            source = self.places[each["name"]]
            if inner := each.get("subPath") or expand(each.get("subPathExpr", ""), env):
                source = source / inner
                if not source.exists():
                    source.mkdir(parents=True)
                    source.chmod(0o777)
            only = bool(each.get("readOnly")) or each["name"] in read_only
            found.append({"Type": "bind", "Source": str(source), "Target": each["mountPath"], "ReadOnly": only})
        message = self.folder / "messages" / spec["name"]
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_bytes(b"")
        message.chmod(0o666)
        found.append({"Type": "bind", "Source": str(message), "Target": spec["terminationMessagePath"]})
        return found

    def message(self, spec: Json) -> str:
        """What a container has left to say."""
        path = self.folder / "messages" / spec["name"]
        return path.read_bytes()[:4096].decode(errors="replace") if path.exists() else ""

    def remove(self) -> None:
        """Take them away."""
        for place in self._mounted:
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def host_path(volume: Json) -> Path:
    """A path of the node's, looked at as its type says.

    Raises:
        ConfigError: it is not of that type.
    """
    path, kind = Path(volume["path"]), volume.get("type") or ""
    if kind == "DirectoryOrCreate" or (not kind and not path.exists()):
        path.mkdir(parents=True, exist_ok=True)
    if kind == "FileOrCreate":
        path.touch()
    if kind.startswith("Directory") and not path.is_dir():
        raise ConfigError(f"hostPath type check failed: {path} is not a directory")
    if kind.startswith("File") and not path.is_file():
        raise ConfigError(f"hostPath type check failed: {path} is not a file")
    return path


def hosts(cluster: Cluster, pod: Json) -> list[str]:
    """Names that lead to this machine, which all pods are on: a Job's pods by index, if its Service is there."""
    meta, spec = pod["metadata"], pod["spec"]
    space = meta["namespace"]
    found = [spec.get("hostname") or meta["name"]]
    for service in cluster.store.select("services", space):
        found += _domains(service["metadata"]["name"], space)
    subdomain = spec.get("subdomain")
    if subdomain and cluster.store.find("services", space, subdomain):
        for other in cluster.store.select("pods", space):
            if other["spec"].get("subdomain") == subdomain and (name := other["spec"].get("hostname")):
                found += _domains(f"{name}.{subdomain}", space)
        owner = next(iter(meta.get("ownerReferences") or ()), {})
        job = cluster.store.find("jobs", space, owner.get("name", "")) if owner.get("kind") == "Job" else None
        for index in range(job["spec"].get("completions") or 0 if job else 0):
            found += _domains(f"{owner['name']}-{index}.{subdomain}", space)
    aliases = [f"{name}:{each['ip']}" for each in spec.get("hostAliases") or () for name in each["hostnames"]]
    return [*(f"{name}:127.0.0.1" for name in dict.fromkeys(found)), *aliases]


def _domains(name: str, space: str) -> list[str]:
    return [name, f"{name}.{space}", f"{name}.{space}.svc", f"{name}.{space}.svc.cluster.local"]


def user_of(pod: Json, spec: Json) -> tuple[str | None, list[str]]:
    """UID:GID and further groups.

    Raises:
        ConfigError: it must not be root, and would be.
    """
    whole, own = pod["spec"].get("securityContext") or {}, spec.get("securityContext") or {}
    both = {**whole, **own}
    uid, gid = both.get("runAsUser"), both.get("runAsGroup")
    if both.get("runAsNonRoot") and not uid:
        raise ConfigError("container has runAsNonRoot and image will run as root")
    groups = [str(each) for each in whole.get("supplementalGroups") or ()]
    groups += [str(whole["fsGroup"])] if "fsGroup" in whole else []
    if uid is None and gid is None:
        return None, groups
    return f"{0 if uid is None else uid}" + ("" if gid is None else f":{gid}"), groups


def creation(cluster: Cluster, pod: Json, spec: Json, volumes: Volumes, number: int) -> dict[str, Any]:
    """What docker's SDK takes to create a container.

    Raises:
        ConfigError: something that it is made of is missing.
    """
    env = environment(cluster, pod, spec)
    meta = pod["metadata"]
    user, groups = user_of(pod, spec)
    limits = spec["resources"].get("limits") or {}
    host: Json = {"NetworkMode": "host", "Mounts": volumes.mounts(spec, env), "ExtraHosts": hosts(cluster, pod)}
    host |= {"GroupAdd": groups, "Init": bool(pod["spec"].get("shareProcessNamespace"))}
    host["ReadonlyRootfs"] = bool((spec.get("securityContext") or {}).get("readOnlyRootFilesystem"))
    if "memory" in limits:
        host |= {"Memory": (size := int(quantity(limits["memory"]))), "MemorySwap": size}
    if "cpu" in limits:  # a node may say that it has more than this machine
        host["NanoCpus"] = int(min(quantity(limits["cpu"]), os.cpu_count() or 1) * 1e9)
    return {
        "image": spec["image"],
        "name": f"k8s_{spec['name']}_{meta['name']}_{meta['namespace']}_{meta['uid']}_{number}",
        "entrypoint": [expand(each, env) for each in spec["command"]] if spec.get("command") else None,
        "command": [expand(each, env) for each in spec["args"]] if spec.get("args") else None,
        "environment": env,
        "working_dir": spec.get("workingDir"),
        "user": user,
        "hostname": (pod["spec"].get("hostname") or meta["name"])[:63],
        "tty": bool(spec.get("tty")),
        "labels": {LABEL: str(cluster.folder), "io.kubernetes.pod.name": meta["name"]},
        "host_config": host,
    }
