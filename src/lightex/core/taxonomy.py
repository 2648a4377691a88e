"""What an experiment is: the plain dataclasses that several components speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from lightex.core.errors import ConfigError, did_you_mean
from lightex.core.rundir import CAUSES
from lightex.core.units import parse_duration, parse_size

Size = Annotated[int | str, parse_size]
"""Bytes, or a text such as "2GiB"; an int of bytes once the config is resolved."""

Duration = Annotated[float | str, parse_duration]
"""Seconds, or a text such as "1h30m"; a float of seconds once the config is resolved."""

H = TypeVar("H")

_WHERE = {"result": False}  # a field that tells where or how a run happens, not what comes out: not fingerprinted


@dataclass(frozen=True)
class Resources:
    """What one experiment needs while it runs.

    Attributes:
        cpus: CPU cores; a fraction shares one.
        memory: bytes or "2GiB", of the machine; None: not counted and not limited.
        gpus: how many GPUs, each to itself unless `gpu_memory` is given.
        gpu_memory: bytes or "20GiB" of each GPU: it is shared with others as far as their sum fits. One GPU where
            `gpus` is 0.
        shared_memory: bytes or "8GiB" that /dev/shm of a container may hold; None: half of its memory, as Linux has it.
        node_labels: "NAME=VALUE" of what a node must be labelled with, on engines that run on several.
        nodes: on how many nodes the command runs at once, each with all of the above (docs/engines.md); they find
            each other by MASTER_ADDR, MASTER_PORT, WORLD_SIZE and NODE_RANK.
    """

    cpus: float = 1.0
    memory: Size | None = None
    gpus: int = 0
    gpu_memory: Size | None = None
    shared_memory: Size | None = None
    node_labels: tuple[str, ...] = ()
    nodes: int = 1

    def __post_init__(self) -> None:
        for name, value in (("cpus", self.cpus), ("gpus", self.gpus)):
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise ConfigError(f"resources.{name} must be 0 or more, got {value!r}")
        if isinstance(self.nodes, int) and self.nodes < 1:
            raise ConfigError(f"resources.nodes must be 1 or more, got {self.nodes!r}")
        object.__setattr__(self, "node_labels", tuple(self.node_labels))  # what was written down comes back as a list

    @property
    def gpu_count(self) -> int:
        """How many GPUs it needs."""
        return max(self.gpus, 1 if self.gpu_memory else 0)


@dataclass(frozen=True)
class Build:
    """An image that is built from a Dockerfile, again only when something that goes into it has changed.

    Attributes:
        dockerfile: its path, relative to the context.
        context: the folder that its COPY takes files from, less what its .dockerignore names; relative to the folder of
            the config.
        args: values for its ARGs; never a secret: those stay in the image.
        target: the stage to build; None: the last one.
        repository: "registry.example.com:5000/name": it is pushed there, for nodes that pull it; None: it stays here.
    """

    dockerfile: str = "Dockerfile"
    context: str = "."
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    repository: str | None = None


@dataclass(frozen=True)
class Container:
    """What an experiment runs in, on engines that run containers; others run the command as it is.

    Attributes:
        image: name and tag of an image that exists, or a Build of one.
        mounts: further folders and files: their path here (relative to the folder of the config, or with ~) to their
            path inside; ":ro" at its end makes it read-only. "volume:NAME" is a volume that the engine keeps.
        network: "host" has the addresses of the machine, as a process has; "bridge", "none" or a network's name.
        inherit: names of variables of your shell that it gets, such as "HF_TOKEN" or "AWS_*"; their values are not
            recorded.
        mount_lightex: whether this LightEx is mounted read-only, for images with Python 3.11 or later that have none.
        keep: whether the container stays after its end, to be looked into.
        options: further ones of what runs it, by its own names (docs/docker.md): {"cap-add": ["SYS_PTRACE"]}.
    """

    image: str | Build
    mounts: Mapping[str, str] = field(default_factory=dict, metadata=_WHERE)
    network: str = field(default="host", metadata=_WHERE)
    inherit: Sequence[str] = field(default=(), metadata=_WHERE)
    mount_lightex: bool = field(default=False, metadata=_WHERE)
    keep: bool = field(default=False, metadata=_WHERE)
    options: Mapping[str, str | int | bool | Sequence[str]] = field(default_factory=dict, metadata=_WHERE)


@dataclass(frozen=True)
class Logger:
    """A backend with options; its bare name stands for it where there are none.

    Attributes:
        name: of the backend, as `lx doctor` lists them.
        options: its own options by name (docs/loggers.md); never a secret: those stay in the environment.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """A place that a folder is kept in; its bare URL stands for it where nothing else is to be said.

    Attributes:
        url: a path, which may begin with ~ and is taken from the folder of the config; "nfs://SERVER/EXPORT/DIR";
            "s3://BUCKET/PREFIX"; "pvc://CLAIM/DIR", a persistent volume claim of Kubernetes.
        path: where this machine sees the folder of an nfs or pvc URL; nfs: found by itself where it is mounted.
        endpoint: of an S3 service other than Amazon's, "http://minio.example.com:9000"; default: AWS_ENDPOINT_URL.
        endpoint_inside: the same, as containers and nodes reach it, where that is otherwise.
        write: whether what experiments write there is brought back to s3 (into the other kinds they write at once).
    """

    url: str
    path: str | None = None
    endpoint: str | None = None
    endpoint_inside: str | None = None
    write: bool = False


@dataclass(frozen=True)
class Storage:
    """Named folders that the command template knows as `{{ dirs.NAME }}`, and how code and runs reach other nodes.

    Attributes:
        dirs: name to a path, a URL (see Store) or a Store.
        remote: how nodes reach what is on this machine: the folder of the config and the runs. None: they see the same
            paths. nfs or pvc: both are below the path where this machine sees it. s3: they are copied to and fro.
        code_limit: bytes or "1GiB" that the code may have that is copied.
    """

    dirs: Mapping[str, str | Store] = field(default_factory=dict)
    remote: str | Store | None = None
    code_limit: Size = "100MiB"


@dataclass(frozen=True)
class Experiment(Generic[H]):
    """One experiment: what to run, with which parameters, needing what.

    Attributes:
        name: names the folder of its runs; letters, digits, '.', '_' and '-'.
        command: the command as a list of arguments, or as one text that is split into arguments as a shell
            would, without a shell being run. A Jinja2 template: `{{ hp.lr }}`, `{{ hp | flags }}`.
        hp: the parameters: any dataclass of the user's, nested as deep as needed.
        target: instead of a command, a Python function "module:function", called with the typed `hp`.
        resources: what it needs while it runs.
        storage: named folders for the template.
        container: the image, for engines that run containers.
        loggers: backends that its records are copied to, by name or as Logger(name, options).
        engine: what runs it.
        engine_options: what engines are told in words of their own, by the engine's name (docs/kubernetes.md):
            {"kubernetes": {"namespace": "team"}}; those of engines that do not run it do not matter.
        env: environment variables for the command (values are templates too).
        cwd: working directory; relative to the folder of the config (default: that folder).
        timeout: seconds or "2h" after which the run is ended; None: never.
        stall: seconds or "15m" without any output or record after which the run is ended; None: never.
        retries: how many times it is run again by itself, per cause of its end (docs/queue.md lists them):
            {"oom": 0, "lost": 3}; a cause that is not named: 0.
        backoff: seconds or "1m" before the first retry; each further one waits twice as long, an hour at most.
        priority: what is higher starts first, among all sweeps of the machine.
        depends_on: names of experiments of the same sweep, or ids of runs, that must have succeeded before.
        grace: seconds or "10s" that a run gets to end by itself between SIGTERM and SIGKILL.
        metric: the logged metric that tells how good a run is, e.g. "val.acc"; orders comparisons.
        mode: whether its least ("min") or greatest ("max") value is best.
        tags: free labels, recorded with the run.
    """

    name: str
    command: str | Sequence[str] | None = None
    hp: H = field(default=cast(Any, None))
    target: str | None = None
    resources: Resources = field(default=Resources(), metadata=_WHERE)
    storage: Storage = field(default=Storage(), metadata=_WHERE)
    container: Container | None = None
    loggers: Sequence[str | Logger] = field(default=(), metadata=_WHERE)
    engine: str = field(default="process", metadata=_WHERE)
    engine_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, metadata=_WHERE)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    timeout: Duration | None = field(default=None, metadata=_WHERE)
    stall: Duration | None = field(default=None, metadata=_WHERE)
    grace: Duration = field(default=10.0, metadata=_WHERE)
    retries: Mapping[str, int] = field(default_factory=dict, metadata=_WHERE)
    backoff: Duration = field(default=10.0, metadata=_WHERE)
    priority: int = field(default=0, metadata=_WHERE)
    depends_on: Sequence[str] = field(default=(), metadata=_WHERE)
    metric: str | None = field(default=None, metadata=_WHERE)
    mode: Literal["min", "max"] = field(default="max", metadata=_WHERE)
    tags: Mapping[str, str] = field(default_factory=dict, metadata=_WHERE)

    def __post_init__(self) -> None:
        for cause in self.retries if isinstance(self.retries, Mapping) else ():
            if cause not in CAUSES or cause in ("cancelled", "pruned", "upstream"):
                raise ConfigError(
                    f"retries: there is no cause '{cause}' to retry.{did_you_mean(cause, CAUSES)}",
                    f"valid: {', '.join(list(CAUSES)[:-3])}",
                )
