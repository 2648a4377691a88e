"""What a config tells an engine in its own words: `engine_options={NAME: {...}}`, read into a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from lightex.core.errors import ConfigError, did_you_mean
from lightex.core.taxonomy import Resources
from lightex.core.units import parse_duration

T = TypeVar("T")


def read(kind: type[T], engine: str, given: Mapping[str, Any], *advice: str) -> T:
    """The options of a config, with their types checked.

    Args:
        kind: a dataclass with the options that there are, all with defaults.
        engine: its name.
        given: what the config says.
        advice: further lines, where an option is given that there is not.

    Raises:
        ConfigError: there is no such option, or it has no such value.
    """
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            what = f"engine_options.{engine}: there is no '{name}'.{did_you_mean(name, names)}"
            raise ConfigError(what, f"valid: {', '.join(names)}", *advice)
    try:
        found: T = _adapter(cast(Any, kind)).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"engine_options.{engine}.{where}: {first['msg'].lower()}"
        raise ConfigError(what, f"given: {first['input']!r}") from error
    for name in names:  # all that is a whole number says how many of something
        if type(value := getattr(found, name)) is int and value < 1:
            raise ConfigError(f"engine_options.{engine}.{name} must be 1 or more, got {value}")
    return found


def seconds(engine: str, name: str, value: float | str) -> float:
    """The duration that an option tells.

    Raises:
        ConfigError: it is none.
    """
    try:
        return parse_duration(value)
    except ConfigError as error:
        raise ConfigError(f"engine_options.{engine}.{name}: {error.message}", *error.details) from error


def node_labels(resources: Resources) -> dict[str, str]:
    """The labels that a node is to have, where the engine knows them by name and value.

    Raises:
        ConfigError: one is no NAME=VALUE.
    """
    for each in resources.node_labels:
        if "=" not in each:
            raise ConfigError(f"resources.node_labels: '{each}' is no NAME=VALUE")
    return dict(each.split("=", 1) for each in resources.node_labels)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
