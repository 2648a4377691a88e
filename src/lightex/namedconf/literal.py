"""Text from a command line as values and as lists of values."""

from __future__ import annotations

import json
import re
from typing import Any

from lightex.core.errors import ConfigError

_WORDS = {
    "null": None, "none": None, "true": True, "false": False,
    "nan": float("nan"), "inf": float("inf"), "+inf": float("inf"), "-inf": float("-inf"), "infinity": float("inf"),
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d[\d_]*)?(\.\d*)?([eE][+-]?\d+)?")
_OPEN, _CLOSE = "([{", ")]}"


def literal(text: str) -> Any:
    """The value that a text writes: a number, true, null, a list, a mapping, a quoted text; else the text itself."""
    text = text.strip()
    if is_quoted(text):
        return text[1:-1]
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text and text[0] in "[{":
        return _structure(text)
    if _NUMBER.fullmatch(text) and any(letter.isdigit() for letter in text):
        try:
            return int(text)
        except ValueError:
            return float(text)
    return text


def is_quoted(text: str) -> bool:
    """Whether a text is in quotes."""
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def split(text: str, at: str = ",") -> list[str]:
    """The parts of a text between separators that stand outside quotes and brackets.

    Raises:
        ConfigError: a quote or a bracket is not closed.
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and (not parts[-1].strip() or depth):
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif letter == at and depth == 0:
            parts.append("")
            continue
        parts[-1] += letter
    if quote or depth:
        raise ConfigError(f"{'a quote' if quote else 'a bracket'} is not closed: {text}")
    return [part.strip() for part in parts]


def _structure(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    closing = {"[": "]", "{": "}"}[text[0]]
    if not text.endswith(closing):
        return text
    items = [item for item in split(text[1:-1]) if item]
    if text[0] == "[":
        return [literal(item) for item in items]
    pairs = [split(item, ":") for item in items]
    if any(len(pair) < 2 for pair in pairs):
        raise ConfigError(f"not a mapping: {text}", "write {key: value, other: value}")
    return {str(literal(key)): literal(":".join(rest)) for key, *rest in pairs}
