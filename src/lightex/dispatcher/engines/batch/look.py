"""What Slurm knows of our jobs: one question for all of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from lightex.dispatcher.engines.batch.commands import RefusedError, ask
from lightex.dispatcher.engines.batch.outcome import Row

_SQUEUE = "JobArrayID:60|,JobID:20|,Name:60|,State:30|,exit_code:20|,ReasonList:400|,BatchHost:100|"  # of --Format
_SACCT = "JobID%60,JobName%60,State%60,ExitCode%20,NodeList%200"
_EARLIER = 86400.0  # seconds; clocks of machines differ, and so may our idea of their time zone

Place = str
"""NAME/TASK: the name of a Slurm job, and the number in its array."""


@dataclass(frozen=True)
class Facts:
    """What there is to know of a cluster.

    Attributes:
        version: of Slurm.
        cluster: its name.
        array_size: numbers of an array are less than this (MaxArraySize).
        accounting: whether it keeps what ended (sacct).
        gathers: whether it gathers what jobs use while they run (sstat).
    """

    version: str
    cluster: str
    array_size: int
    accounting: bool
    gathers: bool = False


LEAST = Facts(version="?", cluster="?", array_size=1001, accounting=False)
"""What holds where nothing is known: Slurm's defaults."""


def facts() -> Facts:
    """Ask the controller.

    Raises:
        LightexError: it does not answer, or its commands are not here.
    """
    found = dict(re.findall(r"(?m)^(\w+)\s*= (.*?)\s*$", ask("scontrol", "show", "config")))
    return Facts(
        version=found.get("SLURM_VERSION", "?"),
        cluster=found.get("ClusterName", "?"),
        array_size=int(found.get("MaxArraySize") or 1001),
        accounting="none" not in found.get("AccountingStorageType", "none"),
        gathers="none" not in found.get("JobAcctGatherType", "none"),
    )


def now(names: Iterable[str]) -> dict[Place, Row]:
    """The jobs of some names that the controller knows, also those that ended within its MinJobAge.

    Raises:
        LightexError: the controller does not answer.
    """
    listed = ",".join(names)
    text = ask("squeue", "--noheader", "--array", "--states=all", f"--name={listed}", f"--Format={_SQUEUE}")
    found: dict[Place, Row] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 7 or (task := _task(cells[0])) is None:  # an array without tasks: they were all cancelled
            continue
        job, own, name, state, status, reason, host = cells[:7]
        place = f"{name}/{task}"
        host = "" if host in ("n/a", "(null)") else host
        found[place] = Row(job, state, _status(status), reason if reason.startswith("(") else "", host, own=own)
    return found


def ended(names: Iterable[str], since: float) -> dict[Place, Row]:
    """The same of those that accounting knows, for what the controller has forgotten.

    Args:
        names: of jobs.
        since: when the first of them was submitted, seconds since the epoch.
    """
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - _EARLIER))
    asked = ["--noheader", "--parsable2", "--allocations", f"--name={','.join(names)}", f"--starttime={start}"]
    try:
        text = ask("sacct", *asked, f"--format={_SACCT}")
    except RefusedError:  # accounting is down or switched off: the jobs' own notes have to do
        return {}
    found: dict[Place, Row] = {}
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) < 5 or (task := _task(cells[0])) is None:
            continue
        job, name, state, status, hosts = cells[:5]
        words = state.split(" by ")
        host = "" if hosts == "None assigned" else hosts.partition(",")[0]
        found[f"{name}/{task}"] = Row(job, words[0].strip(), _status(status), "", host, "".join(words[1:]))
    return found


def ids(rows: Iterable[Row]) -> list[str]:
    """The ids of jobs as `scancel` takes them: tasks of an array together, "123_[0-5,7]"."""
    arrays: dict[str, list[int]] = {}
    for row in rows:
        head, _, task = row.job.partition("_")
        arrays.setdefault(head, []).append(int(task))
    return [f"{head}_[{_ranges(sorted(tasks))}]" for head, tasks in arrays.items()]


def _ranges(numbers: list[int]) -> str:
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in found)


def cancel(rows: Iterable[Row]) -> None:
    """Take jobs out of the queue; those that run get SIGTERM, and SIGKILL after the cluster's KillWait.

    It is said without a signal or a state: with one of these, Slurm 22.05 takes an array's waiting tasks for one job,
    and ends all of them for one, or tries again for a minute to signal what does not run.

    Raises:
        AwayError: the controller does not answer.
    """
    if jobs := ids(rows):
        with suppress(RefusedError):  # some have ended meanwhile: "Invalid job id", "already completing"
            ask("scancel", *jobs)


def kill(rows: Iterable[Row]) -> None:
    """Kill jobs that run, by ids of their own (see `cancel`).

    Raises:
        AwayError: the controller does not answer.
    """
    for row in rows:  # the last task of an array has the array's id, and then its number says that it alone is meant
        alone = row.own if not row.job.startswith(f"{row.own}_") else row.job
        with suppress(RefusedError):
            ask("scancel", "--signal=KILL", alone)


def _task(job: str) -> str | None:
    """The number in an array: "123_4" -> "4"."""
    head, underscore, task = job.partition("_")
    return task if underscore and head.isdigit() and task.isdigit() else None


def _status(text: str) -> int | None:
    """An end as wait(2) tells it; sacct, and squeue of some versions, write "CODE:SIGNAL"."""
    code, colon, signal = text.partition(":")
    if not code.isdigit():
        return None
    return int(code) << 8 | int(signal or 0) & 0x7F if colon else int(code)
