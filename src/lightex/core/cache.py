"""The user's folder for what can be deleted at any time: indexes, the feeder's list of runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """LX_CACHE, or `lightex` in XDG_CACHE_HOME or ~/.cache. Not made here."""
    if given := os.environ.get("LX_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightex"
