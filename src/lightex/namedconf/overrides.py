"""Changes and sweeps on the command line: hp.lr=0.1, hp.lr=0.1,0.01, hp.lr=interval(1e-5,1e-1), hp.model=vit_small."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightex.core.errors import ConfigError
from lightex.namedconf.classes import members, tags
from lightex.namedconf.layers import Source, change, locate
from lightex.namedconf.literal import is_quoted, literal, split
from lightex.namedconf.quick import parse as parse_value
from lightex.namedconf.space import Choice, Distribution, Interval, integers, loguniform, uniform
from lightex.namedconf.sweep import NOTHING, Points, grid, sample

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_FORMS = "choice(a, b), range(start, stop, step), interval(low, high), tag(log, interval(low, high))"


@dataclass(frozen=True)
class Overrides:
    """What a command line asks for.

    Attributes:
        fixed: one value each, in order.
        points: what is varied.
        paths: all paths that are named.
    """

    fixed: dict[str, Any]
    points: Points
    paths: tuple[str, ...]


def parse(
    texts: Sequence[str], config: Any, named: Mapping[str, Any], samples: int | None = None, seed: int = 0
) -> Overrides:
    """Overrides, checked against the config that they change.

    Args:
        texts: the arguments, `key=value` each.
        config: what they are for.
        named: values that have names: `hp.model=vit_small` takes the one of that name if it fits the field.
        samples: draw so many random points of all that is varied, instead of their product.
        seed: of these draws.

    Raises:
        ConfigError: an argument is not of that form, leads nowhere, is of the wrong type, or is given twice.
    """
    fixed: dict[str, Any] = {}
    varied: dict[str, list[Any] | Distribution] = {}
    for text in texts:
        path, given = _split_argument(text)
        if path in fixed or path in varied:
            raise ConfigError(f"{path} is given twice on the command line", f"to sweep over values: {path}=a,b")
        source = Source("command line", text)
        kind, _, owner = locate(config, path, given, source)
        values = _values(given, kind, path, named, owner)
        if isinstance(values, Interval | Choice) or len(values) > 1:
            varied[path] = values
            first = values[0] if isinstance(values, list) else None
        else:
            fixed[path] = first = values[0]
        if first is not None or path in fixed:  # what comes later may lead into a part that this brings
            config = change(config, {path: first}, source)
    return Overrides(fixed, _points(varied, samples, seed), (*fixed, *varied))


def _split_argument(text: str) -> tuple[str, str]:
    path, equals, given = text.partition("=")
    if not equals or not _KEY.fullmatch(path):
        raise ConfigError(f"not an override: {text}", "write key=value, e.g. hp.lr=0.1, or hp.lr=0.1,0.01 to sweep")
    if not given.strip():
        raise ConfigError(f"{path}= has no value", f"write {path}=null for none, {path}='\"\"' for an empty text")
    return path, given.strip()


def _points(varied: Mapping[str, Any], samples: int | None, seed: int) -> Points:
    source = Source("sweep", "command line")
    if samples is not None:
        if not varied:
            raise ConfigError("--samples needs something to draw from", "e.g. hp.lr='interval(1e-5, 1e-1)'")
        return sample(varied, samples, seed).sourced(source)
    for path, values in varied.items():
        if isinstance(values, Interval | Choice):
            raise ConfigError(
                f"{path}: an interval has no end of values", "say how many points to draw: --samples 20",
                "or name the values: " + f"{path}=0.1,0.01",
            )  # fmt: skip
    return grid(varied).sourced(source) if varied else NOTHING


def _values(given: str, kind: Any, path: str, named: Mapping[str, Any], owner: type | None) -> list[Any] | Distribution:
    call = _CALL.fullmatch(given)
    if call and call[1] in ("choice", "range", "interval", "tag"):
        arguments = [part for part in split(call[2]) if part]
        if call[1] == "choice":
            return [_value(part, kind, path, named, owner) for part in arguments] or _bad_form(path, given)
        if call[1] == "range":
            return [parse_value(kind, number, path, "command line", owner) for number in _range(path, given, arguments)]
        return _interval(path, given, call[1], arguments, kind, owner)
    return [_value(part, kind, path, named, owner) for part in split(given)]


def _value(text: str, kind: Any, path: str, named: Mapping[str, Any], owner: type | None) -> Any:
    """A value of the field's type: what has that name, else the literal, else the text as it stands."""
    classes = members(kind)
    if isinstance(named.get(text), classes or ()):
        return named[text]
    if len(classes) > 1 and text in tags(classes)[1]:
        return parse_value(kind, {tags(classes)[0]: text}, path, "command line", owner)
    value = text if kind is str and not is_quoted(text) else literal(text)
    try:
        return parse_value(kind, value, path, "command line", owner)
    except ConfigError as error:
        if isinstance(value, str) or is_quoted(text):
            raise _with_names(error, classes, named) from None
    try:
        return parse_value(kind, text, path, "command line", owner)
    except ConfigError:
        return parse_value(kind, value, path, "command line", owner)  # raises, in the words of the literal


def _with_names(error: ConfigError, classes: tuple[type, ...], named: Mapping[str, Any]) -> ConfigError:
    fitting = [name for name, value in named.items() if isinstance(value, classes or ())]
    return ConfigError(
        error.message, *error.details, *([f"named ones that fit: {', '.join(fitting)}"] if fitting else [])
    )


def _range(path: str, given: str, arguments: Sequence[str]) -> list[int | float]:
    numbers = [literal(part.partition("=")[2] or part) for part in arguments]
    if not 1 <= len(numbers) <= 3 or not all(type(number) in (int, float) for number in numbers):
        _bad_form(path, given)
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    if step == 0:
        raise ConfigError(f"{path}={given}: the step must not be 0")
    steps = (stop - start) / step  # 3.0000000000000004 of them are 3: the stop is left out
    values = [start + number * step for number in range(math.ceil(round(steps, 9)))]
    if not values:
        raise ConfigError(f"{path}={given} is empty", "range(start, stop, step) leaves out its stop")
    return [round(value, 12) if isinstance(value, float) else value for value in values]


def _interval(
    path: str, given: str, name: str, arguments: Sequence[str], kind: Any, owner: type | None
) -> Distribution:
    logarithmic = name == "tag" and arguments[:1] == ["log"]
    if name == "tag":
        inner = _CALL.fullmatch(arguments[1]) if logarithmic and len(arguments) == 2 else None
        arguments = split(inner[2]) if inner and inner[1] == "interval" else []
    bounds = [literal(part.partition("=")[2] or part) for part in arguments]
    if len(bounds) != 2 or not all(type(bound) in (int, float) for bound in bounds):
        _bad_form(path, given)
    for bound in bounds:
        parse_value(kind, bound, path, "command line", owner)
    if logarithmic:
        return loguniform(*bounds)
    return integers(*bounds) if kind is int else uniform(*bounds)


def _bad_form(path: str, given: str) -> Any:
    raise ConfigError(f"{path}={given} is not a sweep", f"write one of: {_FORMS}")
