"""A job as a call of docker: the one description that the API gets and that `--print-manifest` shows."""

from __future__ import annotations

import csv
import io
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError
from lightex.core.liveness import user
from lightex.core.taxonomy import Container, Experiment, Resources, Storage
from lightex.core.units import parse_size
from lightex.dispatcher.engines.containers import options
from lightex.dispatcher.job import Job
from lightex.storage import store

DIRS = "/lx/dirs"
"""Where named folders are that this machine does not see."""

LIBRARY = "/lx/lib"
"""Where LightEx is mounted, if it is."""

_READ_ONLY = ":ro"
_VOLUME = "volume:"

SHELL = ["/bin/sh"]
"""What a container is started with: it takes `command_of`."""

NOT_FOUND = "lx: command not found: "
"""What is in the output of a job whose command is not in its image."""

# What a container really runs. Docker would hand on stdout and stderr by two ways, which mixes up their order, and only
# to somebody who listens; the output file is there anyway.
_WRITES = (
    'exec >>"$1" 2>&1; shift; command -v "$1" >/dev/null || { echo "lx: command not found: $1"; exit 127; }; exec "$@"'
)


@dataclass(frozen=True)
class Mount:
    """What is seen inside: a folder or file of this machine, a volume of docker's, or a folder of a file server.

    Attributes:
        source: its path, the name of the volume, or SERVER:FOLDER.
        target: the path inside.
        read_only: whether it cannot be written to.
        kind: "bind", "volume" or "nfs".
    """

    source: str
    target: str
    read_only: bool = False
    kind: str = "bind"

    def as_api(self) -> dict[str, Any]:
        """As the API has it."""
        if self.kind != "nfs":
            return {"Type": self.kind, "Source": self.source, "Target": self.target, "ReadOnly": self.read_only}
        driver = {"Name": "local", "Options": self.driver_options()}
        mount = {"Type": "volume", "Target": self.target, "ReadOnly": self.read_only}
        return mount | {"VolumeOptions": {"DriverConfig": driver}}

    def driver_options(self) -> dict[str, str]:
        """What docker's own driver mounts a folder of a file server by (as mount(8) takes it)."""
        server, _, folder = self.source.partition(":/")
        host, _, port = server.partition(":")
        return {
            "type": "nfs",
            "o": f"addr={host},nfsvers=4" + (f",port={port}" if port else ""),
            "device": f":/{folder}",
        }


@dataclass(frozen=True)
class Call:
    """What docker is asked for.

    Attributes:
        name: of the container, the same for the same attempt at the same run.
        image: its name.
        command: the arguments.
        entrypoint: what the image, or an option, puts before them.
        env: variables and their values.
        inherit: variables that are taken from the environment of lx, if they are there.
        mounts: what is seen inside; almost all of it at the path that it has outside.
        user: UID:GID.
        groups: further group ids.
        cwd: working directory.
        network: "host", "bridge", "none" or a name.
        cpus: 0: not limited.
        memory: bytes; 0: not limited.
        shared_memory: bytes that /dev/shm may hold.
        gpus: their names, or how many.
        labels: what it is found by.
        output: the file that its output goes to.
        options: see `options`.
    """

    name: str
    image: str
    command: tuple[str, ...]
    entrypoint: tuple[str, ...]
    env: Mapping[str, str]
    inherit: tuple[str, ...]
    mounts: tuple[Mount, ...]
    user: str
    groups: tuple[str, ...]
    cwd: str
    network: str
    cpus: float
    memory: int
    shared_memory: int
    gpus: Sequence[str] | int
    labels: Mapping[str, str]
    output: str
    options: Mapping[str, options.Value]


def make_call(
    job: Job,
    image: str,
    gpus: Sequence[str] | int,
    *,
    path: str | None = None,
    entrypoint: tuple[str, ...] = (),
    root: bool = False,
) -> Call:
    """The call for a job.

    Args:
        job: the job, which has a container.
        image: the name of the image.
        gpus: those that it was given, or how many it wants.
        path: the image's own PYTHONPATH.
        entrypoint: the image's own.
        root: whether root inside is the caller outside, as with a daemon without root's rights.
    """
    container = of(job)
    needs = job.resources
    memory = parse_size(needs.memory or 0)
    env = environment(job, gpus, path)
    given = container.options.get("entrypoint")
    return Call(
        name=job.name,
        image=image,
        command=job.command,
        entrypoint=entrypoint if given is None else tuple(filter(None, [str(given)])),
        env=env,
        inherit=inherited((*job.inherit,), env),
        mounts=tuple(_mounts(job, container)),
        user="0:0" if root else f"{os.getuid()}:{os.getgid()}",
        groups=() if root else tuple(str(group) for group in sorted(set(os.getgroups()) - {os.getgid()})),
        cwd=str(job.cwd),
        network=container.network,
        cpus=needs.cpus,
        memory=memory,
        shared_memory=shared_memory(needs),
        gpus=gpus,
        labels={
            "lightex.run": str(job.run.path),
            "lightex.attempt": str(job.attempt),
            "lightex.keep": "yes" if container.keep else "no",
        },
        output=str(job.run.output_file),
        options=container.options,
    )


def shared_memory(needs: Resources) -> int:
    """Bytes that /dev/shm may hold: as asked for, or half of the memory, as Linux has it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return parse_size(needs.shared_memory or 0) or (parse_size(needs.memory or 0) or machine) // 2


def environment(job: Job, gpus: Sequence[str] | int, path: str | None = None) -> dict[str, str]:
    """The variables of a job inside; `path`: the image's own PYTHONPATH."""
    own = {
        "HOME": "/tmp",  # noqa: S108  the one folder that every image lets every user write to
        "USER": user(),
        "LOGNAME": user(),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(max(1, math.ceil(job.resources.cpus))),
        "TINI_KILL_PROCESS_GROUP": "1",  # its init passes SIGTERM on to all, as the process engine does (tini(1))
    }
    if not gpus:  # an image may ask for all of them by itself, and a daemon may grant it
        own |= {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    env = {**own, **job.env}
    if of(job).mount_lightex:
        env["PYTHONPATH"] = ":".join(filter(None, (LIBRARY, job.env.get("PYTHONPATH", path))))
    return env


def of(wants: Job | Experiment[Any]) -> Container:
    """The container of a job, or of an experiment.

    Raises:
        ConfigError: it has none.
    """
    if wants.container is None:
        raise ConfigError(
            f"{wants.run.path.parent.name if isinstance(wants, Job) else wants.name} says no image to run in",
            'give its config a container=Container(image="python:3.12-slim")',
            "or build one: container=Container(image=Build()); lx init --docker writes a Dockerfile",
        )
    return wants.container


def inherited(patterns: Iterable[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of this process's environment that patterns name and that are not set otherwise."""
    wanted = list(patterns)
    return tuple(
        name for name in sorted(os.environ) if name not in env and any(fnmatchcase(name, each) for each in wanted)
    )


def extra_mounts(container: Container, project: Path) -> list[Mount]:
    """The mounts that a config names.

    Raises:
        ConfigError: one has no source, or no absolute target.
    """
    found = []
    for source, given in container.mounts.items():
        target, read_only = given.removesuffix(_READ_ONLY).removesuffix(":rw"), given.endswith(_READ_ONLY)
        volume = source.removeprefix(_VOLUME) if source.startswith(_VOLUME) else None
        place = (project / Path(source).expanduser()).absolute()
        if not target.startswith("/") or ":" in target:
            raise ConfigError(
                f"container.mounts: '{given}' is no path inside a container",
                f"given for {source}",
                'write it from the root, with :ro behind it where it is only read: {"~/data": "/data:ro"}',
            )
        if volume:
            found.append(Mount(volume, target, read_only, "volume"))
            continue
        if not place.exists():
            raise ConfigError(
                f"container.mounts: {place} does not exist", f"make it: mkdir -p {shlex.quote(str(place))}"
            )
        found.append(Mount(str(place), target, read_only))
    return found


def check_places(experiment: Experiment[Any], container: Container, project: Path) -> None:
    """Look whether what an experiment has mounted is there: working directory, named folders, further mounts.

    Raises:
        ConfigError: one is not.
    """
    extra_mounts(container, project)
    cwd = (project / (experiment.cwd or "")).absolute()
    if not cwd.is_dir():
        raise ConfigError(f"cwd: {cwd} is not a folder", f"make it: mkdir -p {shlex.quote(str(cwd))}")
    for name, place in store.folders(experiment.storage, project).items():
        if place.kind == "path" and place.here and not place.here.exists():
            path = shlex.quote(str(place.here))
            raise ConfigError(f"storage.dirs.{name}: {path} does not exist", f"make it: mkdir -p {path}")


def folders(storage: Storage, project: Path) -> dict[str, str]:
    """Where containers of this machine find named folders: at the paths that they have here, if they have one.

    Raises:
        ConfigError: one is not to be had on this machine.
    """
    found = {}
    for name, place in store.folders(storage, project).items():
        by_itself = place.kind == "nfs" and place.here is None
        found[name] = f"{DIRS}/{name}" if by_itself else str(store.seen_here(place, f"storage.dirs.{name}"))
    return found


def _mounts(job: Job, container: Container) -> Iterable[Mount]:
    """What the config names; then code, run, data, at the paths that they have outside, unless it is seen already."""
    named = extra_mounts(container, job.project or job.cwd)
    made: list[Mount] = []
    upstream = [Path(path) for path in job.after]
    places = store.folders(job.storage, job.project or job.cwd)
    dirs = [place.here for place in places.values() if place.here]
    wanted = [(path, False) for path in (job.project or job.cwd, job.cwd, job.run.path, *dirs)]
    for path, read_only in [*wanted, *((path, True) for path in upstream)]:
        seen = any(path.is_relative_to(each.target) for each in named) or any(_shows(each, path) for each in made)
        if not seen:
            made.append(Mount(str(path), str(path), read_only))
    for name, place in places.items():
        if place.here is None:
            made.append(Mount(f"{place.host}:{place.folder}", f"{DIRS}/{name}", kind="nfs"))
    made += named
    if container.mount_lightex:
        package = Path(__file__).parents[3]
        made.append(Mount(str(package), f"{LIBRARY}/{package.name}", True))
    return made


def _shows(mount: Mount, path: Path) -> bool:
    """Whether a path can be seen through a mount already: not where a link within leads out of it."""
    if not path.is_relative_to(mount.source):
        return False
    return path.resolve() == Path(mount.source).resolve() / path.relative_to(mount.source)


def host_config(call: Call) -> dict[str, Any]:
    """What the API calls HostConfig (https://docs.docker.com/reference/api/engine/)."""
    found: dict[str, Any] = {
        "Init": True,
        "NetworkMode": call.network,
        "ExtraHosts": ["host.docker.internal:host-gateway"],
        "GroupAdd": list(call.groups),
        "Mounts": [each.as_api() for each in call.mounts],
    }
    if call.cpus:
        found["NanoCpus"] = round(call.cpus * 1e9)
    if call.memory:
        found |= {"Memory": call.memory, "MemorySwap": call.memory}
    if "ipc" not in call.options:
        found["ShmSize"] = call.shared_memory
    if call.gpus:
        which = {"Count": call.gpus} if isinstance(call.gpus, int) else {"DeviceIDs": list(call.gpus)}
        found["DeviceRequests"] = [{"Driver": "", "Capabilities": [["gpu"]], "Options": {}, **which}]
    more = options.of_host(call.options)
    more["ExtraHosts"] = [*found["ExtraHosts"], *more.get("ExtraHosts", ())]
    return found | more


def creation(call: Call) -> dict[str, Any]:
    """What the SDK's `create_container` takes."""
    outside = {name: os.environ[name] for name in call.inherit}
    return {
        "image": call.image,
        "name": call.name,
        "entrypoint": SHELL,
        "command": command_of(call),
        "environment": {**outside, **call.env},
        "user": call.options.get("user", call.user),
        "working_dir": call.cwd,
        "labels": dict(call.labels),
        "host_config": host_config(call),
        "hostname": call.options.get("hostname"),
    }


def shell_line(call: Call) -> str:
    """The call as a command line: it runs the same, in the terminal. What it inherits is named without its value."""
    words = ["docker", "run", "--rm", "--init", "--name", call.name, "--network", call.network]
    words += ["--add-host", "host.docker.internal:host-gateway"]
    words += [] if "user" in call.options else ["--user", call.user]
    words += [word for group in call.groups for word in ("--group-add", group)]
    words += ["--workdir", call.cwd]
    words += ["--cpus", f"{call.cpus:g}"] if call.cpus else []
    words += ["--memory", str(call.memory), "--memory-swap", str(call.memory)] if call.memory else []
    words += [] if "ipc" in call.options else ["--shm-size", str(call.shared_memory)]
    if call.gpus:
        which = str(call.gpus) if isinstance(call.gpus, int) else f'"device={",".join(call.gpus)}"'
        words += ["--gpus", which]
    words += options.flags(call.options)
    for mount in call.mounts:
        words += ["--mount", mount_flag(mount)]
    words += [word for name in call.inherit for word in ("--env", name)]
    words += [word for name, value in call.env.items() for word in ("--env", f"{name}={value}")]
    return shlex.join([*words, call.image, *call.command])


def command_of(call: Call) -> list[str]:
    """What a container runs, by /bin/sh: entrypoint and command, with their output appended to the run's."""
    return ["-c", _WRITES, "sh", call.output, *call.entrypoint, *call.command]


def mount_flag(mount: Mount) -> str:
    """A mount as --mount takes it, which is a line of CSV."""
    if mount.kind == "nfs":
        options = [f"volume-opt={name}={value}" for name, value in mount.driver_options().items()]
        parts = ["type=volume", f"target={mount.target}", "volume-driver=local", *options]
    else:
        parts = [f"type={mount.kind}", f"source={mount.source}", f"target={mount.target}"]
    parts += ["readonly"] * mount.read_only
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(parts)
    return line.getvalue()
