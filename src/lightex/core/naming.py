"""Short names for people: of parameters, of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightex.core.escapes import plain


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Dotted names without the leading parts that all of them share: hp.lr, hp.seed -> lr, seed."""
    split = {name: name.split(".") for name in names}
    shared = 0
    for parts in zip(*(parts[:-1] for parts in split.values()), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return {name: ".".join(parts[shared:]) for name, parts in split.items()}


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names to leaves: {"hp": {"lr": 0.1}} -> {"hp.lr": 0.1}. Lists and empty dicts are leaves."""
    if not isinstance(tree, dict) or (not tree and prefix):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, item in tree.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def label(values: Mapping[str, Any]) -> str:
    """What tells an experiment from its siblings, in one line: lr=0.1 seed=1."""
    names = short_names(values)
    return " ".join(f"{names[name]}={show(value)}" for name, value in values.items())


def in_line(values: Mapping[str, Any], first: str | None = None, most: int = 4) -> str:
    """Some values in one plain line, the one that is named before the others: acc 0.9  loss 0.1."""
    names = short_names(values)
    shown = sorted(values, key=lambda name: name != first)[:most]
    return plain("  ".join(f"{names[name]} {show(values[name])}" for name in shown))


def show(value: Any) -> str:
    """A value as people read it: numbers to 4 significant digits, a tagged dict as Conv(depth=4).

    Whole numbers are whole, floats from a million on excepted.
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"
    if isinstance(value, dict):
        kind = value.get("type", "")
        inside = ", ".join(f"{key}={show(item)}" for key, item in value.items() if key != "type")
        return f"{kind}({inside})"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(show, value)) + "]"
    return str(value)
