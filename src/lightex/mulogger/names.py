"""Names within a backend's rules, without two names becoming one."""

from __future__ import annotations

import hashlib
import re


def fit(name: str, allowed: str, limit: int) -> str:
    """A name as it is where the rules allow it; else with `_` for what they forbid, and a mark of the whole name.

    Args:
        name: any text, the empty one too.
        allowed: the characters that are allowed, as the inside of a regular expression's `[...]`.
        limit: the greatest length, at least 10.
    """
    if name and len(name) <= limit and re.fullmatch(f"[{allowed}]+", name):
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(f'[^{allowed}]', '_', name)[: limit - 9]}.{mark}"
