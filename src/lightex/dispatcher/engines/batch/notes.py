"""What a job of Slurm's has written down of itself, in its run's directory: the node where it began, and its end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightex.core.rundir import RunDir

_TIME = re.compile(r"(\d+)m(\d+)[.,](\d+)s")  # as bash's `times` prints it, in its user's locale


@dataclass(frozen=True)
class Notes:
    """The last start of an attempt, and its end.

    Attributes:
        job: Slurm's id: "123" or "123_4".
        host: the node.
        place: "NAME/TASK", as it was submitted.
        exit_code: of the command; None: it has not ended, or was killed with all that watched it.
        warned: the signal that it got before its time limit.
        launch: whether the command was not even started.
        duration: seconds.
        cpu_seconds: of the command; None: unknown.
        peak_memory: bytes; None: unknown.
    """

    job: str
    host: str
    place: str
    exit_code: int | None = None
    warned: str | None = None
    launch: bool = False
    duration: float | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None


def read(run: RunDir, attempt: int, wanted: str) -> Notes | None:
    """The notes of an attempt, as it was submitted in the place `wanted` ("NAME/TASK").

    None: it has not begun, or no word of it has come here yet.
    """
    try:
        text = (run.path / f"slurm.{attempt}.notes").read_text(errors="replace")
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines()]
    begun = [number for number, words in enumerate(lines) if words[:1] == ["begun"] and len(words) == 5]
    if not begun:
        return None
    _, since, job, host, place = lines[begun[-1]]
    if place != wanted:
        return None
    rest = lines[begun[-1] + 1 :]
    ended = next((words for words in rest if words[:1] == ["ended"] and len(words) == 5), None)
    if ended is None or not text.endswith("\n"):
        return Notes(job, host, place)
    _, until, code, warned, peak = ended
    return Notes(
        job,
        host,
        place,
        exit_code=int(code),
        warned=warned if warned not in ("-", "launch") else None,
        launch=warned == "launch",
        duration=round(float(until) - float(since), 3),
        cpu_seconds=_cpu_seconds(rest),
        peak_memory=int(peak) if peak.isdigit() else None,
    )


def _cpu_seconds(lines: list[list[str]]) -> float | None:
    """CPU time of the children of a shell: the second line of `times`, user and system."""
    found = [[_TIME.fullmatch(word) for word in words] for words in lines if len(words) == 2]
    if len(found) != 2 or not all(found[1]):
        return None
    return round(sum(60 * int(m[1]) + float(f"{m[2]}.{m[3]}") for m in found[1] if m), 3)
