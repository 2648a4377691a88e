"""What exit codes of containers mean."""

from __future__ import annotations

from lightex.core.rundir import RunDir
from lightex.dispatcher.engines.containers.call import NOT_FOUND

NOT_STARTED = (126, 127)
"""Exit codes of shells, and of docker's init, where a command cannot be started."""


def signal_of(code: int) -> int | None:
    """The signal that an exit code tells of: docker and its init say it as shells do, by 128 and more (tini(1))."""
    return code - 128 if 128 < code < 160 else None


def not_started(run: RunDir, image: str) -> str | None:
    """Why a command did not start, by the output of its run; None: that does not say so."""
    last = (run.last_output() or [""])[-1]
    if last.startswith(NOT_FOUND):
        command = last.removeprefix(NOT_FOUND)
        other = {"python": "python3", "python3": "python"}.get(command)
        advice = f": write {other} if it has that, or take an image with Python" if other else ""
        return f"command not found: {command} is not in the image {image}{advice}"
    return f"it cannot be started in the image {image}: {last}" if last.startswith("sh: ") else None
