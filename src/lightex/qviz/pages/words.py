"""How templates write numbers, times and durations; the browser's format.js does the same."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from lightex.core.naming import show
from lightex.core.units import format_duration, format_size

_STATES = {
    "QUEUED": ("◷", "muted"), "SUBMITTED": ("◔", "accent"), "RUNNING": ("▶", "accent"), "SUCCEEDED": ("✓", "good"),
    "FAILED": ("✕", "bad"), "LOST": ("?", "warn"), "CANCELLED": ("■", "muted"),
}  # fmt: skip
_MOST = 32  # characters of a name in a table
_RECENT = 30 * 86400  # seconds: what is longer ago is told by its date


def ago(seconds: float | None) -> str:
    """How long ago a time was, in one unit; the date when it is more than thirty days."""
    if not isinstance(seconds, (int, float)) or seconds != seconds:  # noqa: PLR0124  NaN
        return "-"
    gap = abs(time.time() - seconds)
    if gap < 10:
        return "just now"
    if gap > _RECENT:
        return absolute(seconds)[:10]
    unit, length = next(each for each in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)) if gap >= each[1])
    words = f"{int(gap / length)} {unit}"
    return f"in {words}" if seconds > time.time() else f"{words} ago"


def absolute(seconds: float | None) -> str:
    """A time in this machine's zone: 2026-11-26 12:41:47."""
    try:
        return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):  # no time at all, as a program may have logged it
        return str(seconds)


def icon(state: str) -> str:
    """The sign of a state."""
    return _STATES.get(state, ("•", "muted"))[0]


def tone(state: str) -> str:
    """The class of a state's chip."""
    return _STATES.get(state, ("•", "muted"))[1]


def middle(text: Any, most: int = _MOST) -> str:
    """A long text cut in its middle."""
    whole = str(text)
    tail = (most - 1) // 2
    return whole if len(whole) <= most else f"{whole[: most - 1 - tail]}…{whole[-tail:]}"


FILTERS = {
    "ago": ago, "absolute": absolute, "icon": icon, "tone": tone, "middle": middle,
    "duration": format_duration, "show": show, "size": format_size,
}  # fmt: skip
