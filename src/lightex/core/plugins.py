"""Engines and loggers are found by name through entry points; the built-in ones load the same way."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lightex.core.errors import NotFoundError, did_you_mean, needing

ENGINES = "lightex.engines"
SINKS = "lightex.sinks"

_KINDS = {ENGINES: "engine", SINKS: "logger"}  # as people call them


def names(group: str) -> list[str]:
    """The names that are installed in a group, in alphabetical order."""
    return sorted({point.name for point in entry_points(group=group)})


@cache
def find(group: str, name: str) -> EntryPoint:
    """The plugin of that name, not yet imported.

    Raises:
        NotFoundError: there is none; names those that there are.
    """
    found = list(entry_points(group=group, name=name))
    if found:
        return found[0]
    known, kind = names(group), _KINDS[group]
    raise NotFoundError(
        f"no {kind} named '{name}'.{did_you_mean(name, known)}",
        f"installed {kind}s: {', '.join(known) or 'none'}",
    )


def load(group: str, name: str) -> Any:
    """Import the plugin of that name.

    Raises:
        NotFoundError: there is none, or a package that it needs is not installed (tells the pip install).
    """
    point = find(group, name)
    with needing(f"'{name}' needs", f"'lightex[{name}]'"):
        return point.load()
