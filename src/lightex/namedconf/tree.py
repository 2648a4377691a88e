"""A config as plain data, as JSON has it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin

from lightex.core.errors import ConfigError
from lightex.namedconf.classes import Slot, is_config, members, slots, tags

_PLAIN = (str, int, float, bool, type(None))


def to_tree(value: Any, kind: Any = None, path: str = "") -> Any:
    """Plain data from a config: nested dicts, lists, numbers, texts; a member of a union carries its tag.

    Enums become their values, paths texts, timedeltas seconds, dates ISO 8601 texts, sets sorted lists.
    Non-finite floats stay floats (`lightex.core.journal.jsonable` makes them JSON).

    Args:
        value: a dataclass instance, or any value that one may hold.
        kind: the type of the place it stands in; None: nothing is known of that.
        path: its place, for messages.

    Raises:
        ConfigError: a value has no form as data, e.g. a function.
    """
    if type(value) in _PLAIN:
        return value
    if is_config(value):
        tree = {}
        for name, slot, plain in _plan(value.__class__):
            item = getattr(value, name)
            if plain and type(item) in _PLAIN:
                tree[name] = item
            else:
                tree[name] = to_tree(item, slot.type, f"{path}.{name}" if path else name)
        classes = members(kind) if kind is not None else ()
        if len(classes) > 1:
            key, known = tags(classes)
            tag = next((tag for tag, cls in known.items() if cls is type(value)), None)
            return {key: tag, **tree} if tag else tree
        return tree
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, _PLAIN) else value.name
    if isinstance(value, Mapping):
        inner = _item_type(kind)
        return {_key(key): to_tree(item, inner, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        inner = _item_type(kind)
        return [to_tree(item, inner, f"{path}.{number}") for number, item in enumerate(value)]
    return _leaf(value, path)


def _leaf(value: Any, path: str) -> Any:
    if isinstance(value, _PLAIN):  # a subclass, as numpy.float64 is of float
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    if isinstance(value, (set, frozenset)):
        return sorted((to_tree(item, None, path) for item in value), key=repr)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if hasattr(value, "item") and getattr(value, "size", None) == 1:  # a NumPy scalar
        return value.item()
    raise ConfigError(
        f"{path}: {type(value).__name__} {str(value)[:60]!r} is not data",
        "a config holds numbers, texts, lists, dicts and dataclasses; name a function by a text and look it up",
    )


@cache
def _plan(cls: Any) -> tuple[tuple[str, Slot, bool], ...]:
    return tuple((name, slot, len(members(slot.type)) < 2) for name, slot in slots(cls).items())


@cache
def _item_type(kind: Any) -> Any:
    """The type of what a container holds, as far as unions of dataclasses are concerned."""
    if kind is None:
        return None
    for part in (kind, *get_args(kind)):
        arguments = get_args(part)
        if get_origin(part) is not None and arguments and not members(part) and arguments[-1] is not type(None):
            return arguments[-1] if arguments[-1] is not ... else arguments[0]
    return None


def _key(key: Any) -> str:
    return str(key.value) if isinstance(key, Enum) else str(key)
