"""Changing a config deep inside; every value remembers where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin, overload

from lightex.core.errors import ConfigError, did_you_mean
from lightex.core.naming import flatten
from lightex.namedconf.classes import (
    caller,
    is_config,
    members,
    slots,
    tags,
    type_name,
    where_field,
    where_is,
    with_article,
)
from lightex.namedconf.quick import parse
from lightex.namedconf.tree import to_tree

if TYPE_CHECKING:
    from lightex.namedconf.search import Search
    from lightex.namedconf.sweep import Sweep

C = TypeVar("C")

_ORIGINS = "_lightex_origins"  # attribute of a changed config: path -> Source, the latest change of each


@dataclass(frozen=True)
class Source:
    """Where a value came from.

    Attributes:
        kind: "default", "config", "replace", "file", "sweep" or "command line".
        where: `lxconfig.py:7`, or the argument itself.
    """

    kind: str
    where: str = ""

    def __str__(self) -> str:
        if self.kind in ("command line", "default") or not self.where:
            return f"{self.kind} {self.where}".strip() if self.kind == "default" else self.kind
        return self.where


@overload
def replace(base: Sweep, changes: Mapping[str, Any]) -> Sweep: ...
@overload
def replace(base: Search, changes: Mapping[str, Any]) -> Search: ...
@overload
def replace(base: C, changes: Mapping[str, Any]) -> C: ...
def replace(base: Any, changes: Mapping[str, Any]) -> Any:
    """A config like `base` with some values changed, however deep: `replace(base, {"hp.lr": 1e-3})`.

    Args:
        base: a dataclass instance, or a sweep or a search, whose base is changed.
        changes: dotted paths to values. A mapping given for a dataclass changes the fields that it names; paths
            go into dicts (which may get new keys) and, by number, into lists.

    Returns:
        A new instance; what was not changed is the same object as before.

    Raises:
        ConfigError: a path leads nowhere (names the nearest), or a value is not of the field's type.
    """
    from lightex.namedconf.search import Search
    from lightex.namedconf.sweep import Sweep

    source = Source("replace", caller(1))
    if not isinstance(base, (Sweep, Search)):
        return change(base, changes, source)
    return base.on(lambda config: change(config, changes, source))


def change(config: C, changes: Mapping[str, Any], source: Source) -> C:
    """As `replace`, with the source given.

    Raises:
        ConfigError: see `replace`.
    """
    new: Any = config
    for path, value in changes.items():
        new = _Change(path, value, source, config).apply(new)
    if new is not config:
        remember(new, {**_surviving(config, changes), **dict.fromkeys(changes, source)})
    return cast(C, new)


def locate(config: Any, path: str, value: Any, source: Source) -> tuple[Any, Any, type | None]:
    """The type of the place that a path leads to, what is there now, and the class whose field it is.

    Args:
        config: a dataclass instance.
        path: dotted path.
        value: what was given for it, for messages.
        source: where it was given, for messages.

    Raises:
        ConfigError: the path leads nowhere.
    """
    found = _Locate(path, value, source, config)
    found.apply(config)
    return found.places[0]


def origins(config: Any) -> dict[str, Source]:
    """The changed paths of a config with their sources."""
    return getattr(config, _ORIGINS, {})


def remember(config: Any, found: Mapping[str, Source]) -> None:
    """Attach sources to a config. One whose class has __slots__ cannot hold them and has none."""
    if hasattr(config, "__dict__"):
        object.__setattr__(config, _ORIGINS, dict(found))


def sources(config: Any, own: Source) -> dict[str, Source]:
    """The source of every value of a config, by its dotted path.

    Args:
        config: the config.
        own: where the config itself was written: the source of what no change and no default explains.
    """
    changed = origins(config)
    found = {}
    for path in flatten(to_tree(config)):
        parts = path.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        found[path] = next((changed[p] for p in prefixes if p in changed), None) or _default_of(config, parts) or own
    return found


def _default_of(config: Any, parts: Sequence[str]) -> Source | None:
    """Where the default stands that a value equals, if it does."""
    owner: Any = config
    for part in parts[:-1]:
        if not is_config(owner) or part not in slots(type(owner)):
            break
        if not is_config(getattr(owner, part)):
            parts = parts[: parts.index(part) + 1]
            break
        owner = getattr(owner, part)
    slot = slots(type(owner)).get(parts[-1]) if is_config(owner) else None
    if slot is None or slot.default is MISSING:
        return None
    same = slot.default == getattr(owner, slot.name)
    return Source("default", where_field(type(owner), slot.name)) if same else None


def _surviving(config: Any, changes: Mapping[str, Any]) -> dict[str, Source]:
    return {
        path: source
        for path, source in origins(config).items()
        if not any(path == changed or path.startswith(f"{changed}.") for changed in changes)
    }


@dataclass(frozen=True)
class _Change:
    """One change on its way down to its place."""

    path: str
    value: Any
    source: Source
    root: Any

    def apply(self, config: Any) -> Any:
        parts = self.path.split(".")
        return self._into(config, parts, 0, type(config), None)

    def _into(self, node: Any, parts: list[str], depth: int, kind: Any, owner: type | None) -> Any:
        if depth == len(parts):
            return self._leaf(node, kind, owner)
        name, place = parts[depth], ".".join(parts[:depth])
        if is_config(node):
            slot = slots(type(node)).get(name)
            if slot is None:
                raise self._unknown(node, name, place, kind)
            child = getattr(node, name)
            new = self._into(child, parts, depth + 1, slot.type_of(child), type(node))
            return dataclasses.replace(node, **{name: new})
        if isinstance(node, Mapping) or (node is None and get_origin(kind) in (dict, Mapping)):
            inner, there = get_args(kind)[-1] if get_args(kind) else Any, node or {}
            return {**there, name: self._into(there.get(name), parts, depth + 1, inner, None)}
        if isinstance(node, (list, tuple)):
            if not name.isdigit() or int(name) >= len(node):
                raise self._error(f"{place} has no item '{name}': it has {len(node)}, counted from 0")
            arguments = [a for a in get_args(kind) if a is not ...]
            inner = arguments[min(int(name), len(arguments) - 1)] if arguments else Any
            items = list(node)
            items[int(name)] = self._into(items[int(name)], parts, depth + 1, inner, None)
            return type(node)(items)
        classes = members(kind)
        if node is None and classes:
            return self._from_nothing(classes, kind, parts, depth, owner)
        raise self._error(f"{place} is {with_article(type_name(type(node)))} and has no field '{name}'")

    def _from_nothing(self, classes: tuple[type, ...], kind: Any, parts: list[str], depth: int, owner: Any) -> Any:
        """A change inside a dataclass that is not there yet (None): it is made of its defaults."""
        place = ".".join(parts[:depth])
        if len(classes) > 1:
            raise self._error(f"{place} is not set: say which it is first, {place}={classes[0].__name__}")
        nested: Any = self.value
        for part in reversed(parts[depth:]):
            nested = {part: nested}
        if parts[depth] not in slots(classes[0]):
            raise self._error(
                f"{place} has no field '{parts[depth]}'.{did_you_mean(parts[depth], slots(classes[0]))}",
                _fields_of(classes[0]),
            )
        return parse(kind, nested, place, str(self.source), owner)

    def _leaf(self, node: Any, kind: Any, owner: type | None) -> Any:
        value = self.value
        if isinstance(value, Mapping) and is_config(node) and not self._other_member(kind, node, value):
            key = tags(classes)[0] if len(classes := members(kind)) > 1 else None
            for name, item in value.items():
                if name != key or name in slots(type(node)):
                    path = f"{self.path}.{name}"
                    node = _Change(path, item, self.source, self.root)._into(
                        node, path.split("."), path.count("."), kind, owner
                    )
            return node
        return parse(kind, value, self.path, str(self.source), owner)

    @staticmethod
    def _other_member(kind: Any, node: Any, value: Mapping[str, Any]) -> bool:
        """Whether the value names another member of the union than the one that is there."""
        classes = members(kind)
        if len(classes) < 2:
            return False
        key, known = tags(classes)
        return key in value and known.get(str(value[key])) is not type(node)

    def _unknown(self, node: Any, name: str, place: str, kind: Any) -> ConfigError:
        cls, prefix = type(node), f"{place}." if place else ""
        valid = list(slots(cls))
        near = did_you_mean(name, valid).replace("'", f"'{prefix}", 1) if did_you_mean(name, valid) else ""
        if not near:
            tail = self.path[len(prefix) :]
            deeper = [path for path in flatten(to_tree(self.root)) if path.endswith(f".{tail}")]
            near = f" Did you mean '{deeper[0]}'?" if deeper else ""
        details = [_fields_of(cls)]
        for other in members(kind):
            if other is not cls and name in slots(other):
                _, known = tags(members(kind))
                tag = next(tag for tag, member in known.items() if member is other)
                details.append(
                    f"{other.__name__} has '{name}', but {place} is a {cls.__name__}: set {place}={tag} before it"
                )
        return self._error(f"{place or cls.__name__} has no field '{name}'.{near}", *details)

    def _error(self, message: str, *details: str) -> ConfigError:
        text = f"{self.path}={self.value!r}" if not isinstance(self.value, str) else f"{self.path}={self.value}"
        at = {"command line": "on the command line", "sweep": f"in a sweep, {self.source.where}"}
        given = f"given {at.get(self.source.kind, 'in ' + self.source.where)}: {text[:100]}"
        return ConfigError(message, given, *details)


@dataclass(frozen=True)
class _Locate(_Change):
    """A change that changes nothing: it tells what is at its place."""

    places: list[tuple[Any, Any, type | None]] = dataclasses.field(default_factory=list)

    def _leaf(self, node: Any, kind: Any, owner: type | None) -> Any:
        self.places.append((kind, node, owner))
        return node

    def _from_nothing(self, classes: tuple[type, ...], kind: Any, parts: list[str], depth: int, owner: Any) -> Any:
        if len(classes) == 1 and parts[depth] in slots(classes[0]):
            self.places.append((slots(classes[0])[parts[depth]].type, None, classes[0]))
            return None
        return super()._from_nothing(classes, kind, parts, depth, owner)


def _fields_of(cls: type) -> str:
    return f"fields of {cls.__name__} ({where_is(cls)}): {', '.join(slots(cls))}"
