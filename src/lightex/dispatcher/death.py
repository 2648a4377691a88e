"""How a run ended and why, in one shape for all engines."""

from __future__ import annotations

import os
import re
import signal

import orjson

from lightex.core.journal import Record
from lightex.core.rundir import ENDED, FAILED, LOST, SUCCEEDED, RunDir
from lightex.dispatcher.engine import JobState

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*")


def judge(run: RunDir, state: JobState) -> JobState:
    """What an engine saw of an end, completed by what the run itself said: its logger, its last lines."""
    said = _said(run)
    if state.state == SUCCEEDED and said.get("status") == FAILED:
        return JobState(**{**vars(state), "state": FAILED, "reason": f"the run failed: {said.get('reason')}"})
    if state.state == LOST and said.get("status") in ENDED:
        reason = f"{said['reason']} (its own word)" if said.get("reason") else None
        return JobState(**{**vars(state), "state": str(said["status"]), "reason": reason})
    if state.state != FAILED or state.reason:
        return state
    words = said.get("reason") or _exception(run)
    if state.signal is not None:
        reason = f"killed by {signal_name(state.signal)}"
    else:
        reason = f"exit code {state.exit_code}" + (f": {words}" if words else "")
    return JobState(**{**vars(state), "reason": reason})


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _said(run: RunDir) -> Record:
    """The `finish` record that the run's logger wrote last, or nothing."""
    try:
        descriptor = os.open(run.records_file(), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, 8192, max(0, size - 8192))
    finally:
        os.close(descriptor)
    lines = tail.split(b"\n")
    try:
        record = orjson.loads(lines[-2]) if len(lines) > 1 else {}
    except orjson.JSONDecodeError:
        return {}
    said = record.get("finish") if isinstance(record, dict) else None
    return said if isinstance(said, dict) else {}


def _exception(run: RunDir) -> str | None:
    """The last line of the output, if it names a Python exception."""
    lines = run.last_output()
    match = _EXCEPTION.fullmatch(lines[-1]) if lines else None
    return match[0][:200] if match else None
