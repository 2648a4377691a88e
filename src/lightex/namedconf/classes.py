"""What is known of a dataclass: its fields, their types, where it stands; unions of dataclasses and their tags."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Hashable
from dataclasses import MISSING, Field, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from lightex.core.errors import ConfigError

TAG = "type"
"""The key that names the class where a field may hold one of several dataclasses."""


@dataclass(frozen=True)
class Slot:
    """A field of a dataclass.

    Attributes:
        name: of the field.
        type: its annotation, evaluated.
        field: as `dataclasses.fields` has it.
        is_open: its type is Any or a TypeVar, so that the instance it holds tells the type.
    """

    name: str
    type: Any
    field: Field[Any]
    is_open: bool

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.field.default is MISSING and self.field.default_factory is MISSING

    @property
    def default(self) -> Any:
        """Its default; MISSING if there is none."""
        return self.field.default_factory() if self.field.default_factory is not MISSING else self.field.default

    def type_of(self, value: Any) -> Any:
        """The type that a value here must have: that of the instance held, where the field is open."""
        return type(value) if self.is_open and is_config(value) else self.type


def is_config(value: Any) -> bool:
    """Whether it is an instance of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def is_config_class(kind: Any) -> bool:
    """Whether it is a dataclass."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def slots(cls: Any) -> dict[str, Slot]:
    """The fields that a dataclass is constructed from, by name.

    Raises:
        ConfigError: an annotation cannot be evaluated.
    """
    return _slots(cls)


@cache
def _slots(cls: type) -> dict[str, Slot]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise ConfigError(f"an annotation of {cls.__name__} is not a type: {error}", where_is(cls)) from error
    found = {}
    for field in dataclasses.fields(cls):
        if field.init:
            kind = _with_hash(hints[field.name])
            found[field.name] = Slot(field.name, kind, field, kind is Any or isinstance(kind, TypeVar))
    return found


def _with_hash(kind: Any) -> Any:
    """A type without marks, `Annotated[T, mark]`, that have no hash: they are for others."""
    if get_origin(kind) is not Annotated:
        return kind
    plain, *marks = get_args(kind)
    kept = [mark for mark in marks if isinstance(mark, Hashable)]
    return Annotated[(plain, *kept)] if kept else plain


def members(kind: Any) -> tuple[type, ...]:
    """The dataclasses among the members of a union, also inside Annotated; one for a plain dataclass."""
    origin = get_origin(kind)
    if origin is Annotated:
        return members(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return tuple(cls for part in get_args(kind) for cls in members(part))
    cls = origin or kind
    return (cls,) if is_config_class(cls) else ()


@cache
def tags(classes: tuple[type, ...]) -> tuple[str, dict[str, type]]:
    """The key that tells the members of a union apart, and the class for each of its values.

    It is a field that all of them have with a Literal value of its own, else "type" with the class's name.

    Raises:
        ConfigError: "type" is a field of one of them, or two have the same name.
    """
    for name in slots(classes[0]):
        literals = [_single_literal(cls, name) for cls in classes]
        if None not in literals and len(set(literals)) == len(classes):
            return name, {str(literal): cls for literal, cls in zip(literals, classes, strict=True)}
    for cls in classes:
        if TAG in slots(cls):
            raise ConfigError(
                f"{cls.__name__}.{TAG}: this field's name is what tells the classes of a union apart",
                f'give each class its own value: {TAG}: Literal["{cls.__name__.lower()}"] = "{cls.__name__.lower()}"',
            )
    named = {cls.__name__: cls for cls in classes}
    if len(named) < len(classes):
        raise ConfigError(f"two classes of a union have the same name: {', '.join(c.__name__ for c in classes)}")
    return TAG, named


def _single_literal(cls: type, name: str) -> str | None:
    slot = slots(cls).get(name)
    values = get_args(slot.type) if slot and get_origin(slot.type) is Literal else ()
    return values[0] if len(values) == 1 and isinstance(values[0], str) else None


def type_name(kind: Any) -> str:
    """A type as its user wrote it: `float`, `int | None`, `list[str]`."""
    if get_origin(kind) is Annotated:
        parse = next((mark for mark in kind.__metadata__ if callable(mark)), None)
        name = getattr(parse, "__name__", "")
        return name.removeprefix("parse_") if name.startswith("parse_") else type_name(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in get_args(kind))
    if kind is types.NoneType:
        return "None"
    if get_origin(kind) is not None:
        return str(kind).replace("typing.", "")
    return getattr(kind, "__name__", str(kind))


def with_article(name: str) -> str:
    """A word with its article."""
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def where_is(cls: type) -> str:
    """Where a class or its source stands: `lxconfig.py:6`; its module where that is not known."""
    return _where(cls, lambda node: node)


def where_field(cls: type, name: str) -> str:
    """Where a field of a class stands."""
    for owner in cls.__mro__:
        if name in inspect.get_annotations(owner):
            return _where(owner, lambda node: next(n for n in node.body if _names(n, name)))
    return where_is(cls)


def _names(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name


def _where(cls: type, part: Callable[[ast.ClassDef], ast.stmt]) -> str:
    """Where a part of a class stands."""
    try:
        file = Path(inspect.getsourcefile(cls) or "")
        nodes = ast.walk(_tree(file, file.stat().st_mtime_ns))
        found = next(node for node in nodes if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
        return f"{shown_path(file)}:{part(found).lineno}"
    except (TypeError, OSError, SyntaxError, StopIteration):
        return str(getattr(cls, "__source__", cls.__module__))


def declaration(cls: type, name: str) -> str:
    """A field as its class declares it: `HP.lr: float = 0.01, lxconfig.py:7`."""
    slot = slots(cls)[name]
    default = "" if slot.required else f" = {slot.default!r}"
    return (
        f"{cls.__name__}.{name}: {type_name(slot.type)}{default if len(default) < 60 else ''}, {where_field(cls, name)}"
    )


def shown_path(path: Path) -> str:
    """A path as seen from here, if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)


def caller(depth: int) -> str:
    """`file:line` of the code `depth` frames above the function that asks."""
    frame = sys._getframe(depth + 1)  # inspect.stack reads files: too slow for a call per config
    return f"{frame.f_code.co_filename.removeprefix(f'{Path.cwd()}/')}:{frame.f_lineno}"


@lru_cache(maxsize=64)
def _tree(file: Path, _modified: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
