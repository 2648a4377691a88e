"""What a run's program runs in: its Python, its packages, its system."""

from __future__ import annotations

import os
import platform
import re
import sys
from contextlib import suppress
from typing import Any

_INSTALLED = re.compile(r"(.+?)-(.+?)(?:-py[\d.]+(?:-.+)?)?\.(?:dist|egg)-info")


def environment() -> dict[str, Any]:
    """`python`, `implementation`, `prefix`, `system`, `machine`, and `packages` (name to version).

    Packages are read off the names of their folders, which costs a millisecond; their metadata would cost a second.
    """
    packages = {}
    for folder in reversed(sys.path):
        with suppress(OSError):
            for entry in os.listdir(folder or "."):  # noqa: PTH208  as fast as can be: every run does this
                if entry.endswith("-info") and (match := _INSTALLED.fullmatch(entry)):
                    packages[match[1].replace("_", "-").lower()] = match[2]
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "prefix": sys.prefix,
        "system": platform.platform(),
        "machine": platform.machine(),
        "packages": dict(sorted(packages.items())),
    }
