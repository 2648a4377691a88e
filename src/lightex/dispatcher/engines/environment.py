"""The environment that commands start with, where they are processes of a machine and not in an image."""

from __future__ import annotations

import os
import sys
import sysconfig


def environment() -> dict[str, str]:
    """This process's environment, with `python` meaning the Python of `lx` where it lies in a venv that nobody
    activated; and with Python's output unbuffered, so that logs can be followed."""
    found = {"PYTHONUNBUFFERED": "1", **os.environ}
    folder = sysconfig.get_path("scripts")
    activated = "VIRTUAL_ENV" in found or "CONDA_PREFIX" in found
    paths = found.get("PATH", os.defpath).split(os.pathsep)
    if sys.prefix != sys.base_prefix and not activated and folder not in paths:
        found["PATH"] = os.pathsep.join([folder, *paths])
    return found
