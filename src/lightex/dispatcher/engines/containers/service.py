"""A call of docker as a service of a swarm: a replicated job of one task, which is never started again by itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from lightex.core.errors import ConfigError
from lightex.dispatcher.engines.containers import options
from lightex.dispatcher.engines.containers.call import SHELL, Call, command_of, mount_flag

_GPU = "gpu"  # the kind of generic resource that nodes offer GPUs by: dockerd --node-generic-resource gpu=UUID


def check(given: Mapping[str, options.Value]) -> None:
    """Look whether a swarm has the options that a config names.

    Raises:
        ConfigError: it has not.
    """
    options.check(given)
    known = [name for name, option in options.OPTIONS.items() if option.service is not None]
    for name in given:
        if name not in known:
            raise ConfigError(f"container.options: a swarm has no '{name}'", f"it has: {', '.join(known)}")


def specification(call: Call, labels: tuple[str, ...], grace: float) -> dict[str, Any]:
    """What the API calls TaskTemplate (https://docs.docker.com/reference/api/engine/).

    Args:
        call: the call.
        labels: "NAME=VALUE" that the node must have.
        grace: seconds between SIGTERM and SIGKILL.
    """
    limits: dict[str, Any] = {}
    if call.cpus:
        limits["NanoCPUs"] = round(call.cpus * 1e9)
    if call.memory:
        limits["MemoryBytes"] = call.memory
    reserved: dict[str, Any] = dict(limits)
    if call.gpus:
        count = call.gpus if isinstance(call.gpus, int) else len(call.gpus)
        reserved["GenericResources"] = [{"DiscreteResourceSpec": {"Kind": _GPU, "Value": count}}]
    shared = {"Type": "tmpfs", "Target": "/dev/shm", "TmpfsOptions": {"SizeBytes": call.shared_memory}}  # noqa: S108
    outside = {name: os.environ[name] for name in call.inherit}
    container = {
        "Image": call.image,
        "Command": SHELL,
        "Args": command_of(call),
        "Env": [f"{name}={value}" for name, value in {**outside, **call.env}.items()],
        "Dir": call.cwd,
        "User": call.user,
        "Groups": list(call.groups),
        "Mounts": [*(each.as_api() for each in call.mounts), shared],
        "StopGracePeriod": round(grace * 1e9),
        "Init": True,
        "Healthcheck": {"Test": ["NONE"]},  # an image's own would have the swarm end what is busy
        "Labels": dict(call.labels),
    }
    return {
        "ContainerSpec": container | options.of_service(call.options),
        "Resources": {"Limits": limits, "Reservations": reserved},
        "RestartPolicy": {"Condition": "none"},
        "Placement": {"Constraints": constraints(labels)},
        "Networks": [{"Target": call.network}],
    }


def mode(tasks: int) -> dict[str, Any]:
    """The mode of a service that runs so many tasks to their end: 1, or 0 to stop it."""
    return {"ReplicatedJob": {"MaxConcurrent": tasks, "TotalCompletions": tasks}}


def is_stopped(specification: Mapping[str, Any]) -> bool:
    """Whether a service was told to stop, by its Spec."""
    return not specification["Mode"].get("ReplicatedJob", {}).get("TotalCompletions")


def constraints(labels: tuple[str, ...]) -> list[str]:
    """What a node must have, as a swarm says it."""
    return [f"node.labels.{name}=={value}" for name, _, value in (label.partition("=") for label in labels)]


def shell_line(call: Call, labels: tuple[str, ...], grace: float) -> str:
    """The command line that makes the same service."""
    words = ["docker", "service", "create", "--mode", "replicated-job", "--restart-condition", "none", "--init"]
    words += ["--name", call.name, "--network", call.network, "--stop-grace-period", f"{grace:g}s"]
    words += ["--workdir", call.cwd, *([] if "user" in call.options else ["--user", call.user])]
    words += [word for group in call.groups for word in ("--group", group)]
    words += [word for each in constraints(labels) for word in ("--constraint", each)]
    if call.cpus:
        words += ["--limit-cpu", f"{call.cpus:g}", "--reserve-cpu", f"{call.cpus:g}"]
    if call.memory:
        words += ["--limit-memory", str(call.memory), "--reserve-memory", str(call.memory)]
    words += ["--generic-resource", f"{_GPU}={call.gpus}"] if call.gpus else []
    words += options.flags(call.options)
    words += [word for each in call.mounts for word in ("--mount", mount_flag(each))]
    words += ["--mount", f"type=tmpfs,target=/dev/shm,tmpfs-size={call.shared_memory}"]
    words += [word for name in call.inherit for word in ("--env", name)]
    words += [word for name, value in call.env.items() for word in ("--env", f"{name}={value}")]
    return shlex.join([*words, "--entrypoint", *SHELL, call.image, *command_of(call)])
