"""What a dispatcher is given to run: one run, ready to start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Resources


@dataclass(frozen=True)
class Job:
    """One attempt at one run.

    Attributes:
        run: its directory.
        command: the arguments; no shell is involved.
        env: environment variables beside those that the engine's processes have anyway.
        cwd: working directory.
        resources: what it needs while it runs.
        timeout: seconds until it is ended; None: never.
        grace: seconds between SIGTERM and SIGKILL.
        attempt: 1 for the first, counted up by each resume.
        code: which snapshot of the code it runs, see `code.*.tar.gz` in its directory; None: none was taken.
    """

    run: RunDir
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    resources: Resources
    timeout: float | None = None
    grace: float = 10.0
    attempt: int = 1
    code: str | None = None
