"""What a terminal obeys and nobody reads, taken out of texts of runs."""

from __future__ import annotations

import re

# ECMA-48: control sequences (colours, erasing), strings for the terminal itself (its title), all other escapes.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))  # tabs and ends of lines stay
_ANY_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def without_escapes(text: str) -> str:
    """A text without colours and all else that begins with an escape."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def printable(text: str) -> str:
    """The same without any other control character but tabs and ends of lines."""
    return without_escapes(text).translate(_CONTROL)


def plain(text: str) -> str:
    """A text of a run in one line as long as itself, without what would move the cursor: names are anybody's text."""
    return _ANY_CONTROL.sub(" ", text)
