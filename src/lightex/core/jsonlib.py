"""JSON by orjson; in an image that has only Python the same calls by the standard library, some four times slower."""

from __future__ import annotations

from typing import Any

try:
    from orjson import (
        OPT_APPEND_NEWLINE,
        OPT_INDENT_2,
        OPT_SERIALIZE_NUMPY,
        OPT_SORT_KEYS,
        JSONDecodeError,
        dumps,
        loads,
    )
except ModuleNotFoundError:  # LightEx may be mounted into any image; orjson is compiled for one version of Python
    import json
    from collections.abc import Callable
    from json import JSONDecodeError  # type: ignore[assignment]
    from math import isfinite

    OPT_INDENT_2, OPT_SERIALIZE_NUMPY, OPT_SORT_KEYS, OPT_APPEND_NEWLINE = 1, 16, 32, 1024  # as in orjson

    def loads(text: Any) -> Any:  # type: ignore[misc]
        """A value from JSON in UTF-8."""
        try:
            return json.loads(text)
        except UnicodeDecodeError as error:
            raise JSONDecodeError(f"invalid UTF-8: {error}", "", 0) from None

    def dumps(  # type: ignore[misc]
        value: Any, default: Callable[[Any], Any] | None = None, option: int = 0
    ) -> bytes:
        """A value as JSON in UTF-8, as `orjson.dumps` writes it."""

        def plain(item: Any) -> Any:
            if option & OPT_SERIALIZE_NUMPY and hasattr(item, "tolist"):
                return _finite(item.tolist())
            if hasattr(item, "__dataclass_fields__"):
                return {name: getattr(item, name) for name in item.__dataclass_fields__}
            if default is None:
                raise TypeError(f"Type is not JSON serializable: {type(item).__name__}")
            return default(item)

        indent, separators = (2, (",", ": ")) if option & OPT_INDENT_2 else (None, (",", ":"))
        text = json.dumps(_finite(value), default=plain, ensure_ascii=False, indent=indent, separators=separators,
                          sort_keys=bool(option & OPT_SORT_KEYS))  # fmt: skip
        try:
            return (text + "\n" * bool(option & OPT_APPEND_NEWLINE)).encode("utf-8")
        except UnicodeEncodeError as error:
            raise TypeError(f"str is not valid UTF-8: {error}") from None

    def _finite(value: Any) -> Any:
        """The value with null for what is no number, as orjson has it."""
        if isinstance(value, float):
            return value if isfinite(value) else None
        if isinstance(value, dict):
            return {key: _finite(item) for key, item in value.items()}
        return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


__all__ = [
    "OPT_APPEND_NEWLINE",
    "OPT_INDENT_2",
    "OPT_SERIALIZE_NUMPY",
    "OPT_SORT_KEYS",
    "JSONDecodeError",
    "dumps",
    "loads",
]
