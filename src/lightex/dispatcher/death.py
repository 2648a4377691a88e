"""How a run ended and why, in one shape for all engines: its death certificate."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace

from lightex.core import journal
from lightex.core.journal import Record
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, SUCCEEDED, RunDir
from lightex.dispatcher import torchrun
from lightex.dispatcher.engine import JobState

LAST_LINES = 20
"""So many lines of the output a certificate holds."""

_LINE = 500  # characters of a line that are kept
_LINES_READ = 40
_TAIL = 65536  # bytes that the last record may have
_NO_ROOM = 1 << 20  # bytes
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*")

# The words of those who run out of memory and tell so: CPython (the second where memory lacks for the traceback as
# well: _PyObject_Dump in Objects/object.c); NumPy; C++; PyTorch (CUDACachingAllocator.cpp); the CUDA runtime
# (cudaGetErrorString); XLA, which JAX and TensorFlow use.
_PYTHON = (
    r"^(?:MemoryError|object type name: MemoryError|numpy\.\S*_ArrayMemoryError)\b.*",
    r"^.*std::bad_alloc.*",
)
_OUT_OF_MEMORY = (
    ("Python", re.compile("(?m)" + "|".join(_PYTHON))),
    ("CUDA", re.compile(r".*(?:CUDA|HIP)(?: error:)? out of memory.*|.*CUBLAS_STATUS_ALLOC_FAILED.*")),
    ("XLA", re.compile(r".*RESOURCE_EXHAUSTED: Out of memory.*")),
)


def certify(run: RunDir, seen: JobState, asked: tuple[str, str] | None = None) -> JobState:
    """What an engine saw of an end, completed by what the run itself said: its logger, its last lines.

    Args:
        run: the run.
        seen: what the engine saw.
        asked: cause and reason, where the dispatcher ended it.
    """
    if asked:
        state = CANCELLED if asked[0] in ("cancelled", "pruned") else FAILED
        unsure = f"; {seen.reason}" if seen.state == LOST and seen.reason else ""  # it may go on, out of reach
        return replace(seen, state=state, cause=asked[0], reason=asked[1] + unsure)
    said = _said(run)
    if seen.state == SUCCEEDED and said.get("status") == FAILED:
        return replace(seen, state=FAILED, cause="reported", reason=f"the run failed: {said.get('reason')}")
    if seen.state == LOST and said.get("status") in ENDED:
        reason = f"{said['reason']} (its own word)" if said.get("reason") else None
        cause = "reported" if said["status"] != SUCCEEDED else None
        return replace(seen, state=str(said["status"]), cause=cause, reason=reason)
    if seen.state == LOST:
        return replace(seen, cause="lost", reason=seen.reason or "it ended while nothing watched it: nobody saw how")
    if seen.state != FAILED or seen.cause:
        return seen
    return _explain(run, seen, said)


def _explain(run: RunDir, seen: JobState, said: Record) -> JobState:
    lines = [line[:_LINE] for line in run.last_output(65536)]  # patterns take long on long lines
    workers = torchrun.report(lines)
    memory = _out_of_memory((workers.before if workers else lines)[-_LINES_READ:])
    code = f"exit code {seen.exit_code}" if seen.signal is None else f"killed by {signal_name(seen.signal)}"
    if memory:
        return replace(seen, cause="oom", reason=f"out of memory, {memory} ({code})")
    if seen.signal is not None:
        return replace(seen, cause="killed", reason=f"{code}, which lx did not send")
    words = said.get("reason") or (_of_workers(workers) if workers else _exception(lines)) or _full_disk(run)
    return replace(seen, cause="exit", reason=code + (f": {words}" if words and words != code else ""))


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_lines(run: RunDir) -> list[str]:
    """The last lines of the output, as a certificate holds them: those of the program, not of its launcher."""
    lines = [line[:_LINE] for line in run.last_output(16384)]
    workers = torchrun.report(lines)
    return (workers.before if workers and workers.before else lines)[-LAST_LINES:]


def _said(run: RunDir) -> Record:
    """The `finish` record that the run's logger wrote last, or nothing."""
    records = journal.tail(run.records_file(), _TAIL)
    said = records[-1].get("finish") if records else None
    return said if isinstance(said, dict) else {}


def _exception(lines: Sequence[str]) -> str | None:
    """The last line of the output, if it names a Python exception."""
    match = _EXCEPTION.fullmatch(lines[-1]) if lines else None
    return match[0][:200] if match else None


def _of_workers(workers: torchrun.Report) -> str | None:
    """Why the worker failed that failed first."""
    if workers.exit_code is not None and workers.exit_code < 0:
        return f"the worker of rank {workers.rank} was killed by {signal_name(-workers.exit_code)}"
    return _exception(workers.of_root)


def _full_disk(run: RunDir) -> str | None:
    try:
        disk = os.statvfs(run.path)
    except OSError:
        return None
    return "the disk of its directory is full" if disk.f_bavail * disk.f_frsize < _NO_ROOM else None


def _out_of_memory(lines: Sequence[str]) -> str | None:
    """Whose memory ran out and the words that say so, from the last lines of a run that failed."""
    text = "\n".join(lines)
    for whose, pattern in _OUT_OF_MEMORY:
        if found := pattern.search(text):
            return f"{whose}: {found[0].strip()[:200]}"
    return None
