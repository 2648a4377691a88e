"""What jobs use, by `sstat`, where Slurm gathers it (JobAcctGatherType)."""

from __future__ import annotations

from collections.abc import Mapping

from lightex.core.errors import LightexError
from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines.batch.commands import AwayError, ask

EVERY = 30.0
"""Seconds between two questions: Slurm's own JobAcctGatherFrequency."""

_FORMAT = "JobID,NTasks,AveCPU,AveRSS,AveDiskRead,AveDiskWrite"
_SCALES = {"K": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4}


def used(jobs: Mapping[str, str]) -> Mapping[str, Usage] | None:
    """What jobs use, all asked about together; None where nothing is gathered.

    Args:
        jobs: whatever each is called here to its id of Slurm's.
    """
    listed = ",".join(sorted(set(jobs.values())))
    try:
        text = ask("sstat", "--noheader", "--parsable2", "--allsteps", f"--jobs={listed}", f"--format={_FORMAT}")
    except AwayError:
        return {}
    except LightexError:  # nothing is gathered, or the command is not here: nothing depends on it
        return None
    known = read(text)
    return {name: known[job] for name, job in jobs.items() if job in known}


def read(text: str) -> dict[str, Usage]:
    """What `sstat` prints, by the id of the job: the sum of its steps."""
    sums: dict[str, list[float]] = {}
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) < 6 or not cells[1].isdigit():
            continue
        job, tasks = cells[0].partition(".")[0], int(cells[1])
        found = [seconds_of(cells[2]), *(size_of(cell) for cell in cells[3:6])]
        sums[job] = [old + new * tasks for old, new in zip(sums.get(job, [0.0] * 4), found, strict=True)]
    return {
        job: Usage(cpu_seconds=cpu, memory=int(memory), read=int(was_read), written=int(written))
        for job, (cpu, memory, was_read, written) in sums.items()
    }


def seconds_of(text: str) -> float:
    """Slurm's [DAYS-]HOURS:MINUTES:SECONDS[.PARTS] as seconds; what is none is 0."""
    days, _, rest = text.rpartition("-")
    try:
        seconds = 0.0
        for part in rest.split(":"):
            seconds = seconds * 60 + float(part)
        return seconds + 86400 * int(days or 0)
    except ValueError:
        return 0.0


def size_of(text: str) -> float:
    """Slurm's sizes, "2048K", "0.5M", as bytes; what is none is 0."""
    try:
        return float(text[:-1]) * _SCALES[text[-1]] if text[-1:] in _SCALES else float(text or 0)
    except ValueError:
        return 0.0
