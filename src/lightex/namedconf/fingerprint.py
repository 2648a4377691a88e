"""A config's fingerprint: equal for configs that give the same result."""

from __future__ import annotations

import hashlib
from typing import Any

from lightex.core import jsonlib
from lightex.core.journal import jsonable
from lightex.core.naming import flatten
from lightex.namedconf.classes import is_config, slots
from lightex.namedconf.tree import to_tree

_SIZE = 8  # bytes; two of a million configs collide with a chance of 3e-8 (birthday bound n^2 / 2^65)


def fingerprint(config: Any, tree: dict[str, Any] | None = None) -> str:
    """16 hex digits that tell configs apart by what determines their results.

    It is the BLAKE2b hash (digest of 8 bytes) of the tree as JSON: keys sorted, no spaces, UTF-8, non-finite
    numbers as "NaN", "Infinity", "-Infinity". Fields declared with `metadata={"result": False}` are left out,
    at every depth.

    Args:
        config: a dataclass instance.
        tree: its `to_tree`, if that is at hand.
    """
    tree = _without_context(config, to_tree(config) if tree is None else tree)
    data = jsonlib.dumps(jsonable(tree), option=jsonlib.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=_SIZE).hexdigest()


def diff(left: dict[str, Any], right: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted paths at which two trees differ, with both values; None where one has nothing."""
    a, b = flatten(left), flatten(right)
    paths = dict.fromkeys((*a, *b))
    return {path: (a.get(path), b.get(path)) for path in paths if repr(a.get(path)) != repr(b.get(path))}


def _without_context(config: Any, tree: dict[str, Any]) -> dict[str, Any]:
    kept = dict(tree)
    for name, slot in slots(type(config)).items():
        if slot.field.metadata.get("result") is False:
            del kept[name]
        elif is_config(value := getattr(config, name)):
            kept[name] = _without_context(value, kept[name])
    return kept
