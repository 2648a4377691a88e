"""`python -m lightex.target MODULE:FUNCTION` calls a function with the typed parameters of the dispatched run."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

from lightex.core.errors import ConfigError, LightexError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Experiment
from lightex.namedconf.check import from_tree
from lightex.namedconf.classes import is_config_class
from lightex.namedconf.quick import parse
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
    reference = run.identity["config_reference"]
    named = Registry.load(Path.cwd(), Experiment).get(str(reference)) if reference else None
    sys.path.insert(0, str(Path.cwd()))
    function = getattr(importlib.import_module(module_name), name, None)
    if not callable(function):
        raise ConfigError(f"target '{target}': {module_name} has no function '{name}'")
    if named:
        config: Experiment[object] = from_tree(run.config, named.base, str(run.config_file))
        function(config.hp)
    else:
        function(_as_annotated(function, run))


def _as_annotated(function: Callable[..., object], run: RunDir) -> object:
    """The parameters of a run that was submitted from Python, as the class that the function says it takes."""
    first = next(iter(inspect.signature(function).parameters), None)
    kind = get_type_hints(function).get(first) if first else None
    if not is_config_class(kind):
        raise ConfigError(
            f"target '{run.config['target']}': its parameter does not say what class it is",
            "write it down, e.g. def train(hp: HP), with a dataclass",
        )
    return parse(kind, run.config["hp"], "hp", str(run.config_file))


if __name__ == "__main__":
    try:
        call(sys.argv[1])
    except LightexError as fault:
        sys.exit(f"error: {fault}")
