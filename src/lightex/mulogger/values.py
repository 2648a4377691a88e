"""What users hand to the logger, made into plain numbers and JSON."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.journal import NONFINITE, jsonable


def plain_metrics(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float | int | str]:
    """Metrics as finite numbers, or as "NaN", "Infinity", "-Infinity"; nested mappings get dotted names.

    NumPy scalars, tensors of one element and booleans become numbers.

    Raises:
        LightexError: a value is not a number.
    """
    plain: dict[str, float | int | str] = {}
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            plain |= plain_metrics(value, f"{name}.")
        else:
            plain[name] = _number(name, value)
    return plain


def _number(name: str, value: Any) -> float | int | str:
    try:
        number = value.item() if hasattr(value, "item") else value
        if isinstance(number, str):
            raise TypeError
        if isinstance(number, int) and -(2**63) <= number < 2**64:
            return int(number)
        number = float(number)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LightexError(
            f"metric {name!r} must be a number, got {type(value).__name__} {_shown(value)}",
            "run.log_text keeps text, run.log_params parameters, run.set_tag labels",
        ) from error
    return number if isfinite(number) else NONFINITE.get(number, "NaN")


def plain_params(params: Any) -> dict[str, Any]:
    """Parameters by dotted names, from a mapping, a dataclass or an argparse namespace, nested or not.

    Values that have no JSON form are kept as text.
    """
    flat: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        nested = _as_mapping(value)
        if nested is None or (name and not nested):
            flat[name] = _json_value(value)
        else:
            for key, item in nested.items():
                walk(f"{name}.{key}" if name else str(key), item)

    walk("", params if _as_mapping(params) is not None else vars(params))
    return flat


def _as_mapping(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return jsonable(value)
    if isinstance(value, enum.Enum):
        return _json_value(value.value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        return _json_value(value.item())
    return str(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
