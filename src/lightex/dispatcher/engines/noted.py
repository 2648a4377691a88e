"""Whether the end of an attempt is noted down, so that what ran it is of no use to anybody any more."""

from __future__ import annotations

from pathlib import Path

from lightex.core.errors import LightexError
from lightex.core.rundir import ENDED, RunDir


def is_over(run: str, attempt: str) -> bool:
    """Whether an attempt has ended, by the directory of its run, as labels name both.

    A run whose directory was removed, from a folder of runs that is here, is over as well.
    """
    try:
        path = Path(run)
        if not path.exists():
            return (path.parent.parent / ".sweeps").is_dir()
        last = RunDir(run).last_event
        return int(last.get("attempt", 1)) > int(attempt) or str(last.get("state")) in ENDED
    except (LightexError, ValueError, OSError):  # none of ours, or not for us to read
        return False
