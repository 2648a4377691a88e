"""LightEx runs many ML experiments at once over constrained resources, records them, lets people compare them.

Names are imported when they are first used: a training process that only logs loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightex.api import Handle, Submission, run, submit
    from lightex.core.errors import ConfigError, LightexError
    from lightex.core.taxonomy import Build, Container, Duration, Experiment, Logger, Resources, Size, Storage, Store
    from lightex.mulogger.models import load_model
    from lightex.mulogger.reading import LoggedRun, read_run
    from lightex.mulogger.run import Run
    from lightex.mulogger.start import MultiLogger, start_run
    from lightex.namedconf.layers import replace
    from lightex.namedconf.search import search
    from lightex.namedconf.space import choice, integers, loguniform, uniform
    from lightex.namedconf.sweep import grid, sample, sweep, zipped
    from lightex.qviz.runs import Runs, runs
    from lightex.qviz.sql import sql
    from lightex.qviz.table import Table

__version__ = "0.1.0"

_HOME = {
    "lightex.api": ("Handle", "Submission", "run", "submit"),
    "lightex.core.errors": ("ConfigError", "LightexError"),
    "lightex.core.taxonomy": (
        "Build",
        "Container",
        "Duration",
        "Experiment",
        "Logger",
        "Resources",
        "Size",
        "Storage",
        "Store",
    ),
    "lightex.mulogger.reading": ("LoggedRun", "read_run"),
    "lightex.mulogger.run": ("Run",),
    "lightex.mulogger.models": ("load_model",),
    "lightex.mulogger.start": ("MultiLogger", "start_run"),
    "lightex.namedconf.layers": ("replace",),
    "lightex.namedconf.search": ("search",),
    "lightex.namedconf.space": ("choice", "integers", "loguniform", "uniform"),
    "lightex.namedconf.sweep": ("grid", "sample", "sweep", "zipped"),
    "lightex.qviz.runs": ("Runs", "runs"),
    "lightex.qviz.sql": ("sql",),
    "lightex.qviz.table": ("Table",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Build",
    "ConfigError",
    "Container",
    "Duration",
    "Experiment",
    "Handle",
    "LightexError",
    "LoggedRun",
    "Logger",
    "MultiLogger",
    "Resources",
    "Run",
    "Runs",
    "Size",
    "Storage",
    "Store",
    "Submission",
    "Table",
    "choice",
    "grid",
    "integers",
    "load_model",
    "loguniform",
    "read_run",
    "replace",
    "run",
    "runs",
    "sample",
    "search",
    "sql",
    "start_run",
    "submit",
    "sweep",
    "uniform",
    "zipped",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'lightex' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
