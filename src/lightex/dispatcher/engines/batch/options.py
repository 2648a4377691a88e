"""What a config tells Slurm in its own words: `engine_options={"slurm": {...}}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightex.core.errors import ConfigError
from lightex.dispatcher.engines import given as given_options

_GIVEN = "engine_options.slurm"
_SIGNAL = re.compile(r"(?:SIG)?([A-Z][A-Z0-9]*)@(\S+)")

# What lx says itself of a job; another value would take the run away from it.
_OURS = ("array", "job-name", "output", "error", "wrap", "wait", "parsable", "test-only", "open-mode", "chdir", "input")
# What has a field of its own here or in Resources, so that a config says it once.
_TYPED = {
    "partition": "partition", "qos": "qos", "account": "account", "reservation": "reservation", "time": "time_limit",
    "constraint": "constraint", "exclusive": "exclusive", "requeue": "requeue", "no-requeue": "requeue",
    "signal": "signal",
}  # fmt: skip
_RESOURCES = {"mem": "memory", "cpus-per-task": "cpus", "nodes": "nodes", "gres": "gpus", "gpus": "gpus"}


@dataclass(frozen=True)
class Options:
    """What a config may say.

    Attributes:
        partition: one, or several with commas between them; None: the cluster's default.
        qos: quality of service.
        account: that it is charged to.
        reservation: that it runs in.
        constraint: features of nodes, as `sbatch --constraint` takes them: "a100&ib"; `resources.node_labels` are
            further ones, all of which a node must have.
        exclusive: whether it has its nodes to itself.
        time_limit: seconds or "2h", rounded up to minutes, after which Slurm ends it, also if no lx looks; None: the
            experiment's `timeout` with its grace and a minute, or else the partition's default.
        gpu_type: of the GPUs, as the cluster calls it: "a100".
        tasks: how many processes run the command on each node (`srun`), which share the node's resources.
        throttle: how many of the experiments that are submitted together run at once (`--array=...%N`); None: all that
            Slurm has room for.
        modules: environment modules to load: "cuda/12.4".
        setup: lines of shell that run before each command: "source venv/bin/activate".
        runtime: "apptainer", "singularity" or "pyxis" runs the command in an image; None: it runs on the node itself.
        image: for the runtime, a file or URL; None: the image of `container`, by its name in a registry.
        runtime_options: further options of the runtime: ["--no-home"] of `apptainer exec`, or pyxis' own of `srun`.
        signal: "USR1@5m": what the command gets so long before its time limit, and where the cluster wants it
            (`send_user_signal`) before it is preempted, to save what it has.
        requeue: whether Slurm itself starts a job again whose node failed or that was preempted, as the same attempt.
            Otherwise it ends as lost, and `retries={"lost": 3}` makes further attempts.
        most_open: how many of a sweep's experiments Slurm has at once at the most; further ones wait with lx.
        srun: further options of `srun`, where the command runs by it (several nodes or tasks, pyxis).
        extra: further options of `sbatch`: ["--licenses=matlab:1", "--mail-type=END"].
    """

    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    exclusive: bool = False
    time_limit: float | str | None = None
    gpu_type: str | None = None
    tasks: int = 1
    throttle: int | None = None
    modules: Sequence[str] = ()
    setup: Sequence[str] = ()
    runtime: Literal["apptainer", "singularity", "pyxis"] | None = None
    image: str | None = None
    runtime_options: Sequence[str] = ()
    signal: str | None = None
    requeue: bool = False
    most_open: int = 1000
    srun: Sequence[str] = ()
    extra: Sequence[str] = ()

    @property
    def warning(self) -> tuple[str, float] | None:
        """The signal and how many seconds before the end it comes."""
        if self.signal is None:
            return None
        found = _SIGNAL.fullmatch(self.signal)
        if found is None:
            raise ConfigError(f"{_GIVEN}.signal: '{self.signal}' is no SIGNAL@TIME", 'write it as "USR1@5m"')
        if found[1] in ("TERM", "KILL"):
            raise ConfigError(f"{_GIVEN}.signal: SIG{found[1]} is what Slurm ends it with", 'write it as "USR1@5m"')
        return found[1], given_options.seconds("slurm", "signal", found[2])

    @property
    def limit(self) -> float | None:
        """The time limit in seconds."""
        return None if self.time_limit is None else given_options.seconds("slurm", "time_limit", self.time_limit)


def read(given: Mapping[str, Any]) -> Options:
    """The options of a config, checked.

    Raises:
        ConfigError: there is none of that name, or it has no such value.
    """
    advice = 'what sbatch alone knows: engine_options={"slurm": {"extra": ["--name=value"]}}'
    options = given_options.read(Options, "slurm", given, advice)
    _ = options.limit, options.warning
    for name in ("partition", "qos", "account", "reservation", "constraint", "gpu_type"):
        if (text := getattr(options, name)) is not None and (not text.strip() or "\n" in text):
            raise ConfigError(f"{_GIVEN}.{name}: {text!r} is no name of Slurm's")
    for flag in options.extra:
        _check_flag(flag)
    return options


def _check_flag(flag: str) -> None:
    name = flag.partition("=")[0].removeprefix("--")
    if not flag.startswith("--") or "\n" in flag or not name:
        raise ConfigError(f"{_GIVEN}.extra: '{flag}' is no option of sbatch", 'write it as "--name=value" or "--name"')
    if name in _OURS:
        raise ConfigError(f"{_GIVEN}.extra: --{name} is what lx says itself of each job")
    if name in _TYPED:
        raise ConfigError(f"{_GIVEN}.extra: --{name} has a place of its own: {_GIVEN}.{_TYPED[name]}")
    if name in _RESOURCES:
        raise ConfigError(f"{_GIVEN}.extra: --{name} has a place of its own: resources.{_RESOURCES[name]}")
