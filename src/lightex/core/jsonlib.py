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
    from json import JSONDecodeError, loads  # type: ignore[assignment]

    OPT_INDENT_2, OPT_SERIALIZE_NUMPY, OPT_SORT_KEYS, OPT_APPEND_NEWLINE = 1, 16, 32, 1024  # as in orjson

    def dumps(  # type: ignore[misc]
        value: Any, default: Callable[[Any], Any] | None = None, option: int = 0
    ) -> bytes:
        """A value as JSON in UTF-8, as `orjson.dumps` writes it."""

        def plain(item: Any) -> Any:
            if option & OPT_SERIALIZE_NUMPY and hasattr(item, "tolist"):
                return item.tolist()
            if hasattr(item, "__dataclass_fields__"):
                return {name: getattr(item, name) for name in item.__dataclass_fields__}
            if default is None:
                raise TypeError(f"Type is not JSON serializable: {type(item).__name__}")
            return default(item)

        indent, separators = (2, (",", ": ")) if option & OPT_INDENT_2 else (None, (",", ":"))
        text = json.dumps(value, default=plain, ensure_ascii=False, indent=indent, separators=separators,
                          sort_keys=bool(option & OPT_SORT_KEYS))  # fmt: skip
        return (text + "\n" * bool(option & OPT_APPEND_NEWLINE)).encode("utf-8")


__all__ = [
    "OPT_APPEND_NEWLINE",
    "OPT_INDENT_2",
    "OPT_SERIALIZE_NUMPY",
    "OPT_SORT_KEYS",
    "JSONDecodeError",
    "dumps",
    "loads",
]
