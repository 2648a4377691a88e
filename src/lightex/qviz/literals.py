"""Numbers and times as people write them in filters."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from lightex.core.errors import ConfigError
from lightex.core.units import parse_duration

_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)


def number_of(text: str) -> float | int | None:
    """A number, as SQLite has them: whole ones of 64 bits, floats beyond; None: it is none."""
    if not _NUMBER.fullmatch(text):
        return None
    reads: tuple[Callable[[str], float | int], ...] = (int, float)
    for read in reads:
        try:
            number = read(text)
        except ValueError:
            continue
        if read is float or -(2**63) <= number < 2**63:
            return number
    return None


def time_of(text: str, now: float) -> float:
    """UTC seconds of a date, a date with time (of this machine's zone unless it names one), or a duration ago.

    Args:
        text: e.g. "2026-11-24", "2026-11-24 18:30", "7d ago", 1795700137.6.
        now: UTC seconds that durations are counted from.

    Raises:
        ConfigError: it is none of these.
    """
    number = number_of(text)
    if number is not None and number > 1e8:
        return float(number)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):  # the latter of years near 1 and 9999
        pass
    try:
        if number is not None:  # 2026 would be 34 minutes
            raise ConfigError("no unit")
        return now - parse_duration(text.removesuffix("ago").strip())
    except ConfigError:
        raise ConfigError(
            f"not a time: '{text}'", 'write 2026-11-24, "2026-11-24 18:30", or a duration: 7d ago'
        ) from None
