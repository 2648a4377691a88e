"""`python -m lightex.target MODULE:FUNCTION` calls a function with the typed parameters of the dispatched run."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from lightex.core.errors import ConfigError, LightexError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Experiment
from lightex.namedconf.check import from_tree
from lightex.namedconf.registry import Registry


def call(target: str) -> None:
    """Call the function of a target with `hp` as its class has it.

    Raises:
        ConfigError: there is no such function, or it is not called inside a run.
    """
    module_name, colon, name = target.partition(":")
    if not colon:
        raise ConfigError(f"target must be 'module:function', got '{target}'")
    if "LX_RUN_DIR" not in os.environ:
        raise ConfigError("this is for runs that lx started: LX_RUN_DIR is not set")
    run = RunDir(os.environ["LX_RUN_DIR"])
    registry = Registry.load(Path.cwd(), Experiment)
    named = registry.get(str(run.identity["config_reference"]))
    config: Experiment[object] = from_tree(run.config, named.base, str(run.config_file))
    sys.path.insert(0, str(Path.cwd()))
    function = getattr(importlib.import_module(module_name), name, None)
    if not callable(function):
        raise ConfigError(f"target '{target}': {module_name} has no function '{name}'")
    function(config.hp)


if __name__ == "__main__":
    try:
        call(sys.argv[1])
    except LightexError as fault:
        sys.exit(f"error: {fault}")
