"""Checking a whole config: users construct dataclasses unchecked, Python lets `HP(lr="fast")` pass."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

from lightex.core.errors import ConfigError
from lightex.namedconf.classes import is_config, members, slots
from lightex.namedconf.layers import Source, origins, remember, sources
from lightex.namedconf.quick import parse

C = TypeVar("C")


def check(config: C, own: Source) -> C:
    """The config with every value parsed as its type: sizes as numbers of bytes, durations as seconds.

    Args:
        config: a dataclass instance.
        own: where it was written, for messages.

    Raises:
        ConfigError: a value is not of its field's type; names path, type, value and source.
    """
    checked = _checked(config, "", own, config)
    remember(checked, origins(config))
    return cast(C, checked)


def from_tree(tree: Any, like: Any, where: str) -> Any:
    """A typed config back from plain data.

    Args:
        tree: as `to_tree` gives it, or as JSON has it.
        like: an instance of the config's class; the open fields of the result have the classes that its have.
        where: where the data came from, for messages.

    Raises:
        ConfigError: the data does not fit.
    """
    values = {}
    for name, slot in slots(type(like)).items():
        if name in tree:
            values[name] = parse(slot.type_of(getattr(like, name)), tree[name], name, where, type(like))
    return type(like)(**values)


def _checked(node: Any, prefix: str, own: Source, root: Any) -> Any:
    changed = {}
    for name, slot in slots(type(node)).items():
        value, path = getattr(node, name), f"{prefix}{name}"
        if is_config(value) and (slot.is_open or type(value) in members(slot.type)):
            new = _checked(value, f"{path}.", own, root)
        else:
            new = _parsed(slot.type, value, path, own, root, type(node))
        if new is not value:
            changed[name] = new
    return dataclasses.replace(node, **changed) if changed else node


def _parsed(kind: Any, value: Any, path: str, own: Source, root: Any, owner: type) -> Any:
    try:
        return parse(kind, value, path, "", owner)
    except ConfigError:
        found = sources(root, own)
        source = next((s for p, s in found.items() if p == path or p.startswith(f"{path}.")), own)
        parse(kind, value, path, str(source), owner)  # the same error, with its source
        raise
