"""What `lx doctor` says of docker: the daemon, the rights, the GPUs' runtime, images and mounts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker.errors import APIError

from lightex.core.errors import LightexError
from lightex.core.taxonomy import Build, Container, Experiment
from lightex.dispatcher.engine import Finding
from lightex.dispatcher.engines.containers import daemon, images
from lightex.dispatcher.engines.containers.daemon import connect, reaching
from lightex.dispatcher.gpus import probe_gpus


def examine(experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:
    """Look at the daemon, and at what experiments want of it."""
    try:
        told = daemon.facts()
    except daemon.AwayError as error:
        return [Finding("daemon", False, "; ".join((error.message, *error.details)))]
    found = [_daemon(told), *_runtime(told)]
    containers = {repr(each.container): each.container for each in experiments if each.container}
    ready: list[str] = []
    for container in containers.values():
        found.append(_image(container, project, ready))
    return [*found, *([_mounts(ready[0], project)] if ready else [])]


def _daemon(told: dict[str, Any]) -> Finding:
    more = "without root's rights" if daemon.is_rootless() else f"{told['NCPU']} cpus"
    groups = f"control groups of version {told.get('CgroupVersion', 1)}"
    words = f"{told['ServerVersion']} at {daemon.address()}, {more}, {groups}"
    if not told.get("InitBinary"):
        return Finding("daemon", False, f"{words}; it has no docker-init: install tini, or docker's own packages")
    if not told.get("MemoryLimit", True) or not told.get("CpuCfsQuota", True):
        return Finding("daemon", False, f"{words}; it cannot limit memory or CPUs, so that Resources do not hold")
    return Finding("daemon", True, words)


def _runtime(told: dict[str, Any]) -> Iterator[Finding]:
    gpus = probe_gpus()
    runtimes = told.get("Runtimes") or {}
    if not gpus:
        return
    if "nvidia" in runtimes or told.get("CDISpecDirs"):
        yield Finding("gpus", True, f"{len(gpus)}, and docker can give them to containers")
    else:
        advice = "install nvidia-container-toolkit, then: nvidia-ctk runtime configure --runtime=docker"
        yield Finding("gpus", False, f"{len(gpus)}, but docker has no runtime for them: {advice}; restart docker")


def _image(container: Container, project: Path, ready: list[str]) -> Finding:
    try:
        name, found = images.look(container.image, project)
    except LightexError as error:
        return Finding("image", False, "; ".join((error.message, *error.details)))
    if found:
        ready.append(name)
        return Finding("image", True, f"{name} is there")
    if isinstance(container.image, Build):
        return Finding("image", None, f"{name} will be built from {container.image.dockerfile} by the first run")
    return Finding("image", None, f"{name} is not here; the first run pulls it")


def _mounts(name: str, project: Path) -> Finding:
    """Whether what a container writes into a folder of the project is here then, and ours."""
    try:
        probe = Path(tempfile.mkdtemp(prefix=".lx-doctor-", dir=project))
    except OSError as error:
        return Finding("mounts", None, f"{project} cannot be written to, so that is not tried: {error.strerror}")
    user = "0:0" if daemon.is_rootless() else f"{os.getuid()}:{os.getgid()}"
    mount = {"Type": "bind", "Source": str(probe), "Target": str(probe)}
    try:
        with reaching():
            command = ["-c", 'echo written >"$0"', f"{probe}/file"]
            made = connect().create_container(
                name, command, user=user, entrypoint=["/bin/sh"], host_config={"Mounts": [mount]}
            )["Id"]
            try:
                connect().start(made)
                connect().wait(made, timeout=30)
                said = connect().logs(made).decode(errors="replace").strip()
            finally:
                with suppress(APIError):
                    connect().remove_container(made, force=True)
        stat = (probe / "file").stat()
    except FileNotFoundError:
        hint = "is the daemon on another machine, or SELinux at work (container.options security-opt label=disable)?"
        return Finding("mounts", False, f"what a container writes to {project} does not arrive: {said or hint}")
    except LightexError as error:
        return Finding("mounts", False if "mount" in error.message else None, error.message)
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    ours = stat.st_uid == os.getuid()
    return Finding("mounts", ours, f"a container writes to {project} as {'you' if ours else f'user {stat.st_uid}'}")
