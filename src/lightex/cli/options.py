"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lightex.experiment import Plan
    from lightex.namedconf.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


def config_arguments(function: F) -> F:
    """NAME, OVERRIDES and the options of everything that makes a plan."""
    for decorate in reversed(
        (
            click.argument("name", required=False),
            click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
            click.option("--engine", "-e", help="What runs it (overrides the config's engine)."),
            click.option("--samples", type=click.IntRange(min=1), help="Draw so many random points of what is varied."),
            click.option("--seed", type=int, default=0, show_default=True, help="Seed of these draws."),
        )
    ):
        function = decorate(function)
    return function


def queue_options(function: F) -> F:
    """How a queue runs; `rules` reads them."""
    for decorate in reversed(
        (
            click.option("--jobs", "-j", type=click.IntRange(1), help="How many at once (default: what fits)."),
            click.option("--max-failures", type=click.IntRange(1), metavar="N", help="Stop all when N have failed."),
            click.option("--fail-fast", "max_failures", flag_value=1, type=int, help="The same as --max-failures 1."),
            click.option("--detach", "-d", is_flag=True, help="Return at once; it goes on without this terminal."),
            sync_wait_option,
        )
    ):
        function = decorate(function)
    return function


def sync_wait_option(function: F) -> F:
    """How long the end of a sweep waits for its loggers."""
    option = click.option(
        "--sync-wait", type=float, default=10.0, show_default=True, help="Seconds to wait at the end for its loggers."
    )
    return option(function)


def load_registry() -> Registry:
    """The configs of the project that we are in.

    Raises:
        ConfigError: lxconfig raises, or does not parse.
        NotFoundError: there is none.
    """
    from pathlib import Path

    from lightex.core.taxonomy import Experiment
    from lightex.namedconf.registry import Registry

    return Registry.load(Path.cwd(), Experiment)


def plan_from(registry: Registry, name: str | None, overrides: Sequence[str], choices: Mapping[str, Any]) -> Plan:
    """The plan for the common arguments; `lx run lr=0.1` means the only config there is."""
    from lightex.experiment import make_plan

    name, overrides = config_name(registry, name, overrides)
    for key in ("engine", "priority"):
        if choices.get(key) is not None:
            overrides = (*overrides, f"{key}={choices[key]}")
    return make_plan(registry, name, overrides, samples=choices["samples"], seed=choices["seed"])


def config_name(registry: Registry, name: str | None, overrides: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The name given, or the one config that there is, or the one named `base`.

    Raises:
        NotFoundError: none was given and it is not clear which is meant.
    """
    from lightex.core.errors import NotFoundError

    if name is not None and "=" not in name:
        return name, tuple(overrides)
    overrides = (name, *overrides) if name else tuple(overrides)
    names = [named.name for named in registry.names() if named.kind != "part"]
    if len(names) == 1 or "base" in names:
        return names[0] if len(names) == 1 else "base", tuple(overrides)
    if not names:
        raise NotFoundError(f"there are no configs in {registry.folder} or above", "lx init writes a first one")
    raise NotFoundError("which config?", f"there are: {', '.join(names)}", "name one: lx run NAME")
