"""What Slurm and a job's own notes say, turned into a state. Nothing here asks anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.batch.notes import Notes
from lightex.dispatcher.engines.batch.script import NOT_SEEN

# Job states of squeue(1) and sacct(1), in three groups; what is none of them is an end.
_WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_RUNNING = frozenset({"RUNNING", "SUSPENDED", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING"})
_LOST = {
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node could not be started",
    "PREEMPTED": "it was preempted: Slurm took its place for a job that goes before",
    "REVOKED": "another cluster runs it",
}

# Reasons that many ask about (squeue(1), JOB REASON CODES), in a few words more.
_MEANING = {
    "Priority": "jobs with a higher priority are before it",
    "Resources": "what it needs is not free yet",
    "JobArrayTaskLimit": "its array's throttle",
    "JobHeldUser": "it is held: scontrol release",
    "JobHeldAdmin": "an administrator holds it",
    "PartitionTimeLimit": "its time limit is longer than the partition's",
    "PartitionNodeLimit": "it wants more nodes than the partition may give",
    "PartitionDown": "the partition does not start jobs now",
    "BeginTime": "it may begin later; so also after it was started again",
    "launch failed requeued held": "its node could not start it, and Slurm holds it: scontrol release",
}


@dataclass(frozen=True)
class Row:
    """What Slurm says of a job.

    Attributes:
        job: its id: "123_4".
        state: in Slurm's words.
        status: how its script ended, as wait(2) tells it; None: not told.
        reason: why it waits, in Slurm's words.
        host: the node of its script.
        by: who cancelled it, where that is told.
        own: the id of this task alone.
    """

    job: str
    state: str
    status: int | None = None
    reason: str = ""
    host: str = ""
    by: str = ""
    own: str = ""


def waits(row: Row) -> bool:
    """Whether a job is in Slurm's queue."""
    return row.state in _WAITING


def runs(row: Row) -> bool:
    """Whether a job has begun and not ended."""
    return row.state in _RUNNING


def state_of(row: Row, notes: Notes | None, run: RunDir) -> JobState:
    """The state of a job that Slurm knows."""
    if row.state in _WAITING:
        return JobState(SUBMITTED, reason=_waits(row.reason))
    if row.state in _RUNNING:
        return JobState(RUNNING, process=_mark(row.job, row.host))
    seen = _usage(notes)
    if row.host:
        seen = replace(seen, process=_mark(row.job, row.host))
    code, signal = _how(row, notes)
    if row.state == "COMPLETED":
        return replace(seen, state=SUCCEEDED, exit_code=0)
    if row.state == "CANCELLED":
        words = "cancelled in Slurm (scancel)" + (f" by {row.by}" if row.by else "")
        return replace(seen, state=CANCELLED, cause="cancelled", reason=words, exit_code=code, signal=signal)
    if row.state in _LOST:
        where = f" ({row.host})" if row.host else ""
        return replace(seen, state=LOST, cause="lost", reason=_LOST[row.state] + where)
    if row.state in ("TIMEOUT", "DEADLINE"):
        limit = "its time limit in Slurm is over" if row.state == "TIMEOUT" else "Slurm's deadline for it is over"
        return replace(seen, state=FAILED, cause="timeout", reason=f"timed out: {limit}", exit_code=code, signal=signal)
    if row.state == "OUT_OF_MEMORY":
        words = "out of memory: killed by its memory limit (Slurm: OUT_OF_MEMORY)"
        code, signal = _parted(notes.exit_code if notes else None)  # Slurm's own word on it is a number of its own
        return replace(seen, state=FAILED, cause="oom", reason=words, exit_code=code, signal=signal)
    return _failed(seen, row.host, code, signal, notes, run)


def forgotten(notes: Notes | None, run: RunDir, waited: bool) -> JobState:
    """The state of a job that Slurm does not know any more; `waited`: it was seen to be in the queue."""
    if notes is None and waited:  # tasks of an array that are cancelled while they wait leave no trace
        return JobState(CANCELLED, "cancelled", "taken out of Slurm's queue (scancel)")
    if notes is None:
        return JobState(LOST, "lost", "Slurm does not know it any more, and it has not begun")
    mark = _mark(notes.job, notes.host)
    if notes.exit_code is None:
        words = f"Slurm does not know it any more, and it was ended before it could say how (job {notes.job})"
        return JobState(LOST, "lost", words, process=mark)
    code, signal = _parted(notes.exit_code)
    seen = replace(_usage(notes), process=mark)
    if code == 0:
        return replace(seen, state=SUCCEEDED, exit_code=0)
    return _failed(seen, notes.host, code, signal, notes, run)


def _failed(
    seen: JobState, host: str, code: int | None, signal: int | None, notes: Notes | None, run: RunDir
) -> JobState:
    seen = replace(seen, state=FAILED, exit_code=code, signal=signal)
    if notes and notes.launch:
        words = (run.last_output() or [""])[-1].removeprefix("lx: ")
        return replace(seen, cause="launch", reason=words)
    if notes and notes.warned:
        words = f"ended after the {notes.warned} that Slurm sent before its time limit (exit code {notes.exit_code})"
        return replace(seen, cause="timeout", reason=words)
    if code == NOT_SEEN and notes is None:
        words = f"node {host} does not see {run.path}: runs must lie on a file system that all nodes share"
        return replace(seen, cause="launch", reason=words)
    return seen


def _how(row: Row, notes: Notes | None) -> tuple[int | None, int | None]:
    """Exit code and signal of the command, by its notes or by Slurm's word."""
    if notes and notes.exit_code is not None:
        return _parted(notes.exit_code)
    if row.status is None:
        return None, None
    if number := row.status & 0x7F:
        return None, number
    return _parted(row.status >> 8)


def _parted(code: int | None) -> tuple[int | None, int | None]:
    """Exit code and signal: shells tell a signal by 128 and more (POSIX, 2.8.2)."""
    return (None, code - 128) if code is not None and 128 < code < 160 else (code, None)


def _usage(notes: Notes | None) -> JobState:
    if notes is None:
        return JobState()
    return JobState(peak_memory=notes.peak_memory, cpu_seconds=notes.cpu_seconds, duration=notes.duration)


def _waits(reason: str) -> str | None:
    words = reason.strip().removeprefix("(").removesuffix(")")
    if words in ("", "None"):
        return None
    return f"{words}: {_MEANING[words]}" if words in _MEANING else words


def _mark(job: str, host: str) -> Mapping[str, Any]:
    return {"host": host, "job": job, "bounds": ["slurm"]}
