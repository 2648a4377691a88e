"""The common case of parsing, without pydantic: values that plainly are of their type. It saves 90 ms at start-up."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

MISS = object()
"""Not plain: pydantic has to look at it."""


def parse(kind: Any, value: Any, path: str, where: str, owner: type | None = None) -> Any:
    """A value of a type: as `schema.parse`, which (with pydantic) is imported only for what is not plain.

    Raises:
        ConfigError: see `schema.parse`.
    """
    if (plain := quick(kind, value)) is not MISS:
        return plain
    from lightex.namedconf import schema

    return schema.parse(kind, value, path, where, owner)


def quick(kind: Any, value: Any) -> Any:
    """The parsed value if it plainly is of the type, else MISS; it never refuses a value.

    Args:
        kind: any annotation.
        value: what is to be of that type.
    """
    if kind in (int, float, str, bool, types.NoneType, None):
        wanted = types.NoneType if kind is None else kind
        return value if type(value) is wanted else float(value) if kind is float and type(value) is int else MISS
    if kind is Any or isinstance(kind, TypeVar):
        return value
    origin, parts = get_origin(kind), get_args(kind)
    if not parts:  # typing.List, which says nothing of what it holds
        return MISS
    if origin is Literal:
        return value if any(value == part and type(value) is type(part) for part in parts) else MISS
    if origin is Annotated:
        return _annotated(parts, value)
    if origin in (Union, types.UnionType):
        found = (quick(part, value) for part in parts if value is None or part is not types.NoneType)
        exact = [item for item in found if item is not MISS and type(item) is type(value)]
        return exact[0] if exact else quick(next(p for p in parts if p is not types.NoneType), value) if (
            value is not None and len(parts) == 2 and types.NoneType in parts) else MISS  # fmt: skip
    if origin in (Mapping, dict) and type(value) is dict and parts[0] is str:
        items = [quick(parts[1], item) for item in value.values()]
        plain = MISS not in items and all(type(key) is str for key in value)
        return dict(zip(value, items, strict=True)) if plain else MISS
    if origin in (Sequence, list, tuple) and type(value) in ((list, tuple) if origin is Sequence else (origin,)):
        if origin is tuple and parts[-1] is not ...:
            return MISS
        items = [quick(parts[0], item) for item in value]
        return type(value)(items) if MISS not in items else MISS
    return MISS


def _annotated(parts: tuple[Any, ...], value: Any) -> Any:
    """`Annotated[T, function]`: the value goes through the function; other marks are pydantic's."""
    if len(parts) != 2 or not isinstance(parts[1], types.FunctionType):
        return MISS
    try:
        return parts[1](value)
    except Exception:  # noqa: BLE001  any function of the user's; pydantic calls it again and tells of the error
        return MISS
