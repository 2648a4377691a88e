"""What a pod sees of folders: paths of its node, file servers, claims, and what is staged from s3."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Experiment, Storage
from lightex.dispatcher.engines.containers import call
from lightex.dispatcher.engines.containers.call import DIRS, LIBRARY, Mount
from lightex.dispatcher.job import Job
from lightex.storage import store
from lightex.storage.store import Place

WORK = "/lx/work"
"""Where the containers of a pod meet that stage, run and bring back."""

ALIVE = f"{WORK}/alive"
"""The pipe that is held open for as long as a command lives."""

_STAGED = "staged"


@dataclass
class Volumes:
    """The volumes of a pod and where its containers see them, as Kubernetes has both."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: dict[str, Any], path: str, folder: str = "", read_only: bool = False) -> None:
        """See a volume, or a folder of it, at a path."""
        name = next((each["name"] for each in self.volumes if {**each, "name": 0} == {**source, "name": 0}), None)
        if name is None:
            name = f"v{len(self.volumes)}"
            self.volumes.append({"name": name, **source})
        mount: dict[str, Any] = {"name": name, "mountPath": path}
        mount |= {"subPath": folder} if folder else {}
        self.mounts.append(mount | ({"readOnly": True} if read_only else {}))

    def add_staged(self, path: str, folder: str) -> None:
        """See at a path what is staged for it."""
        if not any(each["name"] == _STAGED for each in self.volumes):
            self.volumes.append({"name": _STAGED, "emptyDir": {}})
            self.mounts.append({"name": _STAGED, "mountPath": WORK, "subPath": "work"})
        self.mounts.append({"name": _STAGED, "mountPath": path, "subPath": folder})


def remote_of(storage: Storage, project: Path) -> Place | None:
    """How nodes reach what is here; None: at the same paths.

    Raises:
        ConfigError: it is no store, or no place for that.
    """
    if storage.remote is None:
        return None
    place = store.find(storage.remote, project, "storage.remote")
    if place.kind in ("nfs", "pvc"):
        store.seen_here(place, "storage.remote")
    return None if place.kind == "path" else place


def copied_by(storage: Storage, project: Path) -> Place | None:
    """The store on s3 by which code and runs are copied to nodes; None: they see them. Raises as `remote_of`."""
    remote = remote_of(storage, project)
    return remote if remote and remote.kind == "s3" else None


def folders(storage: Storage, project: Path) -> dict[str, str]:
    """Where a command in a pod finds its named folders.

    Raises:
        ConfigError: one is no store.
    """
    found = {}
    for name, place in store.folders(storage, project).items():
        seen = place.here if place.kind != "s3" else None
        found[name] = str(seen) if seen else f"{DIRS}/{name}"
    return found


def check(experiment: Experiment[Any], project: Path) -> None:
    """Look whether nodes can see what an experiment wants to see.

    Raises:
        ConfigError: they cannot.
    """
    container = call.of(experiment)
    remote = remote_of(experiment.storage, project)
    cwd = (project / (experiment.cwd or "")).absolute()
    mounts = call.extra_mounts(container, project)
    call.check_places(experiment, container, project)
    if remote is None:
        return
    if remote.kind == "s3":
        if bound := [each.source for each in mounts if each.kind == "bind"]:
            raise ConfigError(
                f"container.mounts: {bound[0]} is on this machine, which nodes do not see with storage.remote on s3",
                'keep it on a store: Storage(dirs={"data": "s3://BUCKET/DATA"})',
            )
        if container.mount_lightex:
            raise ConfigError(
                "container.mount_lightex: LightEx is on this machine, which nodes do not see with storage.remote on s3",
                "install it in the image: pip install lightex",
            )
        return
    _check_seen(remote, {"the project": project, "cwd": cwd})


def _check_seen(remote: Place, paths: Mapping[str, Path]) -> None:
    """Look whether nodes see paths by a store that this machine sees too."""
    seen = store.seen_here(remote, "storage.remote")
    for what, path in paths.items():
        if not path.is_relative_to(seen):
            raise ConfigError(
                f"{what} is at {path}, and nodes see only what is below {seen} ({remote.url}, storage.remote)",
                f"move it there, or name another place for runs: lx --root {shlex.quote(str(seen / 'runs'))}",
            )


def of(job: Job, top: Path | None) -> Volumes:
    """The volumes of a job's pods.

    Args:
        job: the job.
        top: where its code is unpacked; None: it is not copied.

    Raises:
        ConfigError: see `check`.
    """
    project = job.project or job.cwd
    remote = remote_of(job.storage, project)
    found = Volumes()
    container = call.of(job)
    if remote is not None and remote.kind == "s3":  # code and runs at the paths that they have here, as they are staged
        found.add_staged(str(top or project), "code")
        found.add_staged(str(job.run.path), "run")
        for number, path in enumerate(job.after):
            found.add_staged(str(path), f"upstream/{number}")
    else:
        if remote is not None:
            _check_seen(remote, {"the run": job.run.path})
            found.add(_source(remote), str(remote.here), _below(remote))
        own = [(path, False) for path in (project, job.cwd, job.run.path)] + [(path, True) for path in job.after]
        _add_paths(found, own)
    for name, place in store.folders(job.storage, project).items():
        if place.kind == "s3":
            found.add_staged(f"{DIRS}/{name}", f"dirs/{name}")
        elif place.kind == "path":
            _add_paths(found, [(Path(place.folder), False)])
        else:
            found.add(_source(place), str(place.here or f"{DIRS}/{name}"), _below(place))
    for mount in call.extra_mounts(container, project):
        found.add(_of_mount(mount), mount.target, read_only=mount.read_only)
    if container.mount_lightex:
        package = Path(call.__file__).parents[3]
        found.add(_path(package), f"{LIBRARY}/{package.name}", read_only=True)
    shared: dict[str, Any] = {"medium": "Memory"}
    if job.resources.shared_memory or job.resources.memory:
        shared["sizeLimit"] = str(call.shared_memory(job.resources))
    found.add({"emptyDir": shared}, "/dev/shm")  # noqa: S108
    return found


def _add_paths(found: Volumes, paths: Iterable[tuple[Path, bool]]) -> None:
    """See paths of the node where they have no other source yet."""
    for path, read_only in paths:
        if not any(path.is_relative_to(each["mountPath"]) for each in found.mounts):
            found.add(_path(path), str(path), read_only=read_only)


def _path(path: Path) -> dict[str, Any]:
    return {"hostPath": {"path": str(path), "type": "" if path.is_file() else "Directory"}}


def _of_mount(mount: Mount) -> dict[str, Any]:
    if mount.kind == "volume":
        return {"persistentVolumeClaim": {"claimName": mount.source}}
    return _path(Path(mount.source))


def _source(place: Place) -> dict[str, Any]:
    if place.kind == "nfs":
        server, _, port = place.host.partition(":")
        if port:
            raise ConfigError(
                f"{place.url}: a pod's own NFS volume has no port",
                f'make a claim of a volume with mountOptions ["port={port}"], and say pvc://CLAIM',
            )
        return {"nfs": {"server": server, "path": place.folder}}
    return {"persistentVolumeClaim": {"claimName": place.host}}


def _below(place: Place) -> str:
    """The folder of a volume that is seen; a file server shows it by itself."""
    return place.folder if place.kind == "pvc" else ""
