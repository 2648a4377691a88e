"""The scripts that Slurm runs: one for each attempt at a run, in its directory, and one for an array of them."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lightex.core.errors import StorageError
from lightex.core.rundir import RunDir
from lightex.dispatcher.engine import LaunchError
from lightex.dispatcher.engines.batch import request
from lightex.dispatcher.engines.batch.options import Options, read
from lightex.dispatcher.job import Job
from lightex.storage import store

NOT_SEEN = 66
"""Exit code of a script whose node does not see the run's directory (EX_NOINPUT of sysexits.h)."""

_PLACE = "#LX "  # begins the line that tells by which name and number Slurm knows it
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # what a shell takes for the name of a variable


def path_of(run: RunDir, attempt: int) -> Path:
    """Where the script of an attempt lies."""
    return run.path / f"slurm.{attempt}.sh"


def write(job: Job, place: str) -> None:
    """Write the script of a job.

    Args:
        job: the job.
        place: "NAME/TASK": the name of the Slurm job, and the number in its array.

    Raises:
        LaunchError: it cannot be written.
    """
    try:
        path_of(job.run, job.attempt).write_bytes(os.fsencode(of_job(job, place)))
        os.close(job.run.open_output(job.attempt))
    except OSError as error:
        raise LaunchError(f"cannot write {job.run.path}: {error.strerror}") from error


def place_in(run: RunDir, attempt: int) -> str | None:
    """The "NAME/TASK" of an attempt that was to be submitted; None: it was not.

    Raises:
        StorageError: its script cannot be read.
    """
    path = path_of(run, attempt)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    found = next((os.fsdecode(line) for line in lines if line.startswith(_PLACE.encode())), None)
    return found.removeprefix(_PLACE) if found else None


def of_job(job: Job, place: str | None) -> str:
    """The script of a job. `sbatch` takes it as it is; as a task of an array it is read by `of_array`'s."""
    options, asked = read(job.options), request.of_job(job)
    name = place.rpartition("/")[0] if place else f"lx-{job.run.short_id}"
    q = shlex.quote
    lines = [f"{_PLACE}{place}", f'[ "$SLURM_JOB_NAME" = {q(name)} ] || exit 0 # it was submitted again, otherwise']
    exported, odd = _variables(job)
    command = _command(job, options)
    return "\n".join(
        [
            "#!/bin/bash",
            request.lines(asked.flags, job_name=name).rstrip("\n"),
            *(lines if place else []),
            f"run={q(str(job.run.path))} attempt={job.attempt} cwd={q(str(job.cwd))}",
            f"several={'1' if asked.several else ''} warning={options.warning[0] if options.warning else ''}",
            f"srun=({shlex.join(_srun(job, options))})",
            *(f"export {each}" for each in exported),
            f"command=({shlex.join([*(['env', *odd] if odd else []), *command])})",
            "prepare() {",
            *_prepared(options),
            "}",
            _wrapper(),
        ]
    )


def of_array(name: str, flags: Sequence[str], throttle: int | None, jobs: Sequence[tuple[int, Job]]) -> tuple[str, str]:
    """The script of an array, and its `--array`; each task reads the script of its run.

    Args:
        name: of the Slurm job.
        flags: those that all have.
        throttle: how many run at once.
        jobs: with their numbers, which are consecutive.
    """
    first, last = jobs[0][0], jobs[-1][0]
    array = f"{first}-{last}" if last > first else str(first)
    array += f"%{throttle}" if throttle else ""
    root = Path(os.path.commonpath([job.run.path.parent.parent for _, job in jobs]))
    scripts = [str(path_of(job.run, job.attempt).relative_to(root)) for _, job in jobs]
    text = "\n".join(
        [
            "#!/bin/bash",
            request.lines(flags, job_name=name, array=array).rstrip("\n"),
            f"root={shlex.quote(str(root))} scripts=(",
            *map(shlex.quote, scripts),
            ")",
            f"script=$root/${{scripts[SLURM_ARRAY_TASK_ID - {first}]}}",
            "for _ in 1 2 3 4 5; do # a file server's client may remember for seconds that it was not there",
            '    if [ -r "$script" ]; then break; fi',
            "    sleep 1",
            "done",
            f'if ! [ -r "$script" ]; then exit {NOT_SEEN}; fi',
            '. "$script"',
            "",
        ]
    )
    return text, array


def _variables(job: Job) -> tuple[list[str], list[str]]:
    """The variables of a job, as a shell assigns them; those that no shell takes are left to `env`."""
    given = {"OMP_NUM_THREADS": str(max(1, math.ceil(job.resources.cpus))), **job.env}
    if "OMP_NUM_THREADS" in os.environ and "OMP_NUM_THREADS" not in job.env:
        del given["OMP_NUM_THREADS"]
    plain = [f"{name}={shlex.quote(value)}" for name, value in given.items() if _NAME.fullmatch(name)]
    return plain, [f"{name}={value}" for name, value in given.items() if not _NAME.fullmatch(name)]


def _prepared(options: Options) -> list[str]:
    """The lines that get a node ready for the command; the first that fails ends the job with words that say so."""
    steps, lines = list(options.setup), []
    if options.modules:
        steps.insert(0, f"module load {shlex.join(options.modules)}")
        lines = ["type module >/dev/null 2>&1 || . /etc/profile # where nobody has logged in"]
    for step in steps:
        lines += ["{", step, f'}} || fail {shlex.quote(f"set-up failed: {step}")}" (exit code $?, on $host)"']
    return lines or [":"]


def _command(job: Job, options: Options) -> list[str]:
    if options.runtime not in ("apptainer", "singularity"):
        return list(job.command)
    binds = [word for each in _mounts(job) for word in ("--bind", ":".join(each))]
    gpus = ["--nv"] if job.resources.gpu_count else []
    image = _image(job, options)
    image = image if "://" in image or image.endswith(".sif") or image[:1] == "/" else f"docker://{image}"
    within = [*binds, "--pwd", str(job.cwd), *gpus, *options.runtime_options]
    return [options.runtime, "exec", *within, image, *job.command]


def _srun(job: Job, options: Options) -> list[str]:
    if options.runtime != "pyxis":
        return list(options.srun)
    mounts = ",".join(":".join(each) for each in _mounts(job))
    image = _image(job, options)
    own = [f"--container-image={image}", f"--container-mounts={mounts}", f"--container-workdir={job.cwd}"]
    return [*own, *options.runtime_options, *options.srun]


def _image(job: Job, options: Options) -> str:
    """The image that a runtime is given."""
    found = options.image or (job.container.image if job.container else None)
    if not isinstance(found, str):
        raise LaunchError(f"there is no image for {options.runtime}")
    return found


def _mounts(job: Job) -> list[tuple[str, str]]:
    """What is seen in a container: paths here and inside. Project, runs and named folders lie where they lie here."""
    project = job.project or job.cwd
    folders = store.folders_here(job.storage, project).values()
    same = dict.fromkeys(str(each) for each in (project, job.run.path.parent.parent, job.cwd, *folders))
    given = job.container.mounts if job.container else {}
    further = [(str(project / Path(source).expanduser()), inside) for source, inside in given.items()]
    return [*((each, each) for each in same), *further]


@cache
def _wrapper() -> str:
    return Path(__file__).with_name("wrapper.sh").read_text()
