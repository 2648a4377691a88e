"""The further options of a container: those of `docker run` that have their place in the API too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightex.core.errors import ConfigError, did_you_mean

Value = str | int | bool | Sequence[str]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        host: its name in HostConfig (https://docs.docker.com/reference/api/engine/); None: it is the container's.
        service: its name in the ContainerSpec of a service; None: a swarm has no such thing.
        form: what the API wants for the texts that the command line takes.
        kind: what its value is.
    """

    host: str | None
    service: str | None = None
    form: Callable[[Any], Any] = lambda value: value
    kind: type = list


def _device(texts: Sequence[str]) -> list[dict[str, str]]:
    found = []
    for text in texts:
        outside, *more = text.split(":")
        inside, rights = (more[0] if more else outside), (more[1] if len(more) > 1 else "rwm")
        found.append({"PathOnHost": outside, "PathInContainer": inside, "CgroupPermissions": rights})
    return found


def _ulimit(texts: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for text in texts:
        name, _, limits = text.partition("=")
        soft, _, hard = limits.partition(":")
        found.append({"Name": name, "Soft": int(soft), "Hard": int(hard or soft)})
    return found


def _pairs(separator: str) -> Callable[[Sequence[str]], dict[str, str]]:
    return lambda texts: {text.partition(separator)[0]: text.partition(separator)[2] for text in texts}


OPTIONS = {
    "add-host": Option("ExtraHosts"),
    "cap-add": Option("CapAdd", "CapabilityAdd"),
    "cap-drop": Option("CapDrop", "CapabilityDrop"),
    "cpuset-cpus": Option("CpusetCpus", kind=str),
    "device": Option("Devices", form=_device),
    "dns": Option("Dns"),
    "entrypoint": Option(None, "", kind=str),
    "hostname": Option(None, "Hostname", kind=str),
    "ipc": Option("IpcMode", kind=str),
    "pid": Option("PidMode", kind=str),
    "pids-limit": Option("PidsLimit", kind=int),
    "privileged": Option("Privileged", kind=bool),
    "read-only": Option("ReadonlyRootfs", "ReadOnly", kind=bool),
    "runtime": Option("Runtime", kind=str),
    "security-opt": Option("SecurityOpt"),
    "sysctl": Option("Sysctls", "Sysctls", form=_pairs("=")),
    "tmpfs": Option("Tmpfs", form=_pairs(":")),
    "ulimit": Option("Ulimits", "Ulimits", form=_ulimit),
    "user": Option(None, "User", kind=str),
}


def check(given: Mapping[str, Value]) -> None:
    """Look whether options are known and their values fit.

    Raises:
        ConfigError: one is not.
    """
    for name, value in given.items():
        if name not in OPTIONS:
            raise ConfigError(
                f"container.options: there is no '{name}'.{did_you_mean(name, OPTIONS)}",
                f"valid: {', '.join(OPTIONS)}",
                "others have fields of their own: mounts, network, inherit, resources.*, env",
            )
        option = OPTIONS[name]
        wanted = {list: "a list of texts", str: "a text", int: "a whole number", bool: "true or false"}[option.kind]
        fits = isinstance(value, (list, tuple)) if option.kind is list else type(value) is option.kind
        if not fits:
            raise ConfigError(f"container.options.{name} must be {wanted}, got {value!r}")
        try:
            option.form(value)
        except ValueError:
            raise ConfigError(f"container.options.{name}: docker would not understand {value!r}") from None


def flags(given: Mapping[str, Value]) -> list[str]:
    """Options as the command line takes them."""
    found: list[str] = []
    for name, value in given.items():
        if isinstance(value, bool):
            found += [f"--{name}"] if value else []
        elif isinstance(value, (str, int)):
            found += [f"--{name}", str(value)]
        else:
            found += [word for each in value for word in (f"--{name}", str(each))]
    return found


def of_host(given: Mapping[str, Value]) -> dict[str, Any]:
    """Options as the API takes them in HostConfig."""
    return {str(OPTIONS[name].host): OPTIONS[name].form(value) for name, value in given.items() if OPTIONS[name].host}


def of_service(given: Mapping[str, Value]) -> dict[str, Any]:
    """Options as the API takes them in a service's ContainerSpec."""
    known = {name: OPTIONS[name] for name in given if OPTIONS[name].service}
    return {str(option.service): option.form(given[name]) for name, option in known.items()}
