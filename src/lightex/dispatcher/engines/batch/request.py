"""What is asked of Slurm for a job, as options of `sbatch`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lightex.core.taxonomy import Experiment, Resources
from lightex.core.units import parse_duration, parse_size
from lightex.dispatcher.engines.batch.options import Options, read
from lightex.dispatcher.job import Job

_SPARE = 60.0  # seconds between the timeout of a run, which lx sees to, and the time limit, which ends it without lx

# The environment comes along, as it does to a process; nodes write output to the run's own file.
_ALWAYS = ("--export=ALL", "--chdir=/", "--input=/dev/null", "--output=/dev/null")


@dataclass(frozen=True)
class Request:
    """Options of `sbatch`, of which jobs that have the same ones make an array.

    Attributes:
        asked: what the config wants.
        throttle: how many of an array run at once.
        several: whether the command is run by `srun`, on several nodes or in several tasks.
    """

    asked: tuple[str, ...]
    throttle: int | None
    several: bool

    @property
    def flags(self) -> tuple[str, ...]:
        """All options but those that each job has of its own."""
        return (*_ALWAYS, *self.asked)


def of_job(job: Job) -> Request:
    """What a job asks for."""
    return _request(job.resources, read(job.options), job.timeout, job.grace)


def of_experiment(experiment: Experiment[Any]) -> Request:
    """What the jobs of an experiment will ask for."""
    options = read(experiment.engine_options.get("slurm", {}))
    timeout = None if experiment.timeout is None else parse_duration(experiment.timeout)
    return _request(experiment.resources, options, timeout, parse_duration(experiment.grace))


def _request(resources: Resources, options: Options, timeout: float | None, grace: float) -> Request:
    values: dict[str, str | None] = {
        "nodes": str(resources.nodes),
        "ntasks-per-node": str(options.tasks),
        "cpus-per-task": str(max(1, math.ceil(resources.cpus / options.tasks))),
        "mem": f"{math.ceil(parse_size(resources.memory) / 2**20)}M" if resources.memory is not None else None,
        "gres": _gpus(resources, options),
        "time": _limit(options, timeout, grace),
        "constraint": _constraint(resources, options),
        "partition": options.partition,
        "qos": options.qos,
        "account": options.account,
        "reservation": options.reservation,
    }
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    flags += ["--exclusive"] if options.exclusive else []
    flags.append("--requeue" if options.requeue else "--no-requeue")
    if warning := options.warning:
        flags.append(f"--signal=B:{warning[0]}@{math.ceil(warning[1])}")
    return Request(
        (*flags, *options.extra), options.throttle, resources.nodes * options.tasks > 1 or options.runtime == "pyxis"
    )


def lines(flags: Iterable[str], **own: str) -> str:
    """Options as lines of a script that `sbatch` reads."""
    mine = (f"--{name.replace('_', '-')}={value}" for name, value in own.items())
    return "".join(f"#SBATCH {_quoted(flag)}\n" for flag in (*mine, *flags))


def _quoted(flag: str) -> str:
    """An option as a line has it: sbatch takes quotes, and a backslash before a character, for itself."""
    name, equals, value = flag.partition("=")
    if not equals or not set(value) & set(" \t\"'\\#"):
        return flag
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def _gpus(resources: Resources, options: Options) -> str | None:
    kind = f"{options.gpu_type}:" if options.gpu_type else ""
    return f"gpu:{kind}{resources.gpu_count}" if resources.gpu_count else None


def _limit(options: Options, timeout: float | None, grace: float) -> str | None:
    seconds = options.limit
    if seconds is None and timeout is not None:
        seconds = timeout + grace + _SPARE
    return None if seconds is None else str(max(1, math.ceil(seconds / 60)))  # minutes, as Slurm counts


def _constraint(resources: Resources, options: Options) -> str | None:
    wanted = list(resources.node_labels)
    if options.constraint:
        wanted.append(f"({options.constraint})" if wanted and "|" in options.constraint else options.constraint)
    return "&".join(wanted) or None
