"""Slurm's own commands: asked with a limit, and without what our environment would change in their answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from lightex.core.errors import ConfigError, LightexError, UnreachableError
from lightex.dispatcher.engines.environment import environment

_LIMIT = 60.0  # seconds; a controller that is busy answers late, one that is dead after MessageTimeout (10 s)

# What the commands say of a controller that does not answer for now (Slurm's src/common/slurm_errno.c).
_AWAY = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "temporarily unable to accept job",
    "Connection refused",
    "Communication connection failure",
    "Zero Bytes were transmitted",
    "Transport endpoint is not connected",
    "Resource temporarily unavailable",
    "in standby mode",
)

# Of a shell inside of a job these would be taken for what the new job is to have; the others change what is printed.
_NOT_HANDED_ON = ("SLURM_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_")


class AwayError(UnreachableError):
    """The controller does not answer for now; what was asked may have been done nevertheless."""


class RefusedError(LightexError):
    """Slurm does not do it: its own words."""


def ask(command: str, *arguments: str, given: str | None = None) -> str:
    """What a command of Slurm's prints.

    Args:
        command: its name.
        arguments: its arguments.
        given: its standard input.

    Raises:
        ConfigError: there is no such command.
        AwayError: the controller does not answer.
        RefusedError: the command fails.
    """
    try:
        done = subprocess.run(
            [command, *arguments],
            input=os.fsencode(given or ""),
            capture_output=True,
            check=False,
            timeout=_LIMIT,
            env=_environment(),
            cwd="/",
            start_new_session=True,  # Ctrl-C is for lx
        )
    except FileNotFoundError as error:
        raise missing(command) from error
    except subprocess.TimeoutExpired as error:
        raise AwayError(f"{command} has not answered for {_LIMIT:.0f} s: Slurm's controller is away or busy") from error
    said = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return done.stdout.decode(errors="surrogateescape")
    if any(words in said for words in _AWAY):
        raise AwayError(f"Slurm's controller does not answer: {words_of(command, said).rpartition('; ')[2]}")
    raise RefusedError(words_of(command, said) or f"{command} ended with exit code {done.returncode}")


def check() -> None:
    """Look whether Slurm's commands are here.

    Raises:
        ConfigError: one is not.
    """
    for command in ("sbatch", "squeue", "scancel", "scontrol"):
        if shutil.which(command, path=environment().get("PATH")) is None:
            raise missing(command)


def missing(command: str) -> ConfigError:
    """That there is no such command."""
    return ConfigError(
        f"Slurm's command {command} is not on PATH",
        "run lx where you would type it: on a login node of the cluster, perhaps after: module load slurm",
    )


def words_of(command: str, said: str) -> str:
    """What a command has said on standard error, less its name before each line, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    shorter = [line.removeprefix(f"{command}: ").removeprefix("error: ") for line in lines]
    shorter = [line.removeprefix("Batch job submission failed: ") for line in shorter]
    return "; ".join(dict.fromkeys(shorter))


def _environment() -> Mapping[str, str]:
    """Ours, as commands get it. SBATCH_ variables stay: a user's defaults, such as an account."""
    found = environment()
    return {name: value for name, value in found.items() if not name.startswith(_NOT_HANDED_ON) or name == "SLURM_CONF"}
