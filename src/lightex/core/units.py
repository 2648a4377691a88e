"""Sizes and durations as people write them: "2GiB", "500MB", "90m", "1h30m"."""

from __future__ import annotations

import re

from lightex.core.errors import ConfigError

_SIZES = {"": 1, "B": 1}
_SIZES |= {f"{p}iB": 1024**n for n, p in enumerate("KMGTP", start=1)}  # IEC 80000-13
_SIZES |= {f"{p}B": 1000**n for n, p in enumerate("KMGTP", start=1)} | {"kB": 1000}
_SIZES |= {p: 1024**n for n, p in enumerate("KMGTP", start=1)}  # "2G", as schedulers read it
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "ms": 0.001}
_NUMBER = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_SIZE = re.compile(rf"\s*{_NUMBER}\s*([A-Za-z]*)\s*")
_PART = re.compile(rf"\s*{_NUMBER}\s*([a-z]*)\s*")


def parse_size(value: str | float) -> int:
    """Bytes from a number of bytes or a text such as "2GiB", "1.5 GB", "512M" (K, M, G, T, P are powers of 1024).

    Raises:
        ConfigError: the text is not a size, or it is negative.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return round(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = float(match[1]) * _SIZES[match[2]] if match and match[2] in _SIZES else float("inf")
    if size == float("inf"):
        raise ConfigError(f"not a size: {value!r}", 'write bytes, or a text such as "512MiB", "2GiB", "1.5GB"')
    return round(size)


def format_size(size: float) -> str:
    """A size in bytes as people read it: 1073741824 -> "1 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.3g} {unit}" if abs(size) < 1000 else f"{size:.0f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def parse_duration(value: str | float) -> float:
    """Seconds from a number of seconds or a text such as "90s", "1.5h", "1h30m", "2d".

    Raises:
        ConfigError: the text is not a duration, or it is negative.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    total, rest = 0.0, value if isinstance(value, str) else ""
    while rest and (match := _PART.match(rest)) and match[2] in _SECONDS:
        total, rest = total + float(match[1]) * _SECONDS[match[2]], rest[match.end() :]
    if rest or not isinstance(value, str) or not value.strip() or total == float("inf"):
        raise ConfigError(f"not a duration: {value!r}", 'write seconds, or a text such as "90s", "45m", "1h30m", "2d"')
    return total


def format_duration(seconds: float | None) -> str:
    """A duration in seconds as people read it: 0.42 -> "0.4 s", 75 -> "01:15", 3700 -> "1h 02m"; None -> "-".

    One below 0, of two clocks that differ, is 0.
    """
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
    if seconds < 86400:
        return f"{int(seconds) // 3600}h {int(seconds) % 3600 // 60:02d}m"
    return f"{int(seconds) // 86400}d {int(seconds) % 86400 // 3600:02d}h"


def format_age(seconds: float) -> str:
    """How long ago, in one unit: 45 s ago, 12 min ago, 3 h ago, 4 d ago."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
