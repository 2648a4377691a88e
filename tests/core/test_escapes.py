"""Texts of runs hold nothing that a terminal obeys."""

import pytest

from lightex.core.escapes import printable, without_escapes


@pytest.mark.parametrize(
    ("text", "plain"),
    [("\x1b[32mgreen\x1b[0m", "green"), ("\x1b]0;title\x07\x1b[2Jgone", "gone"), ("\x1b]8;;x\x1b\\link", "link"), ("\x1b7\x1b(Ba", "a")],
)  # fmt: skip
def test_escapes_are_taken_out(text, plain):
    assert without_escapes(text) == plain
    assert printable(f"{text}\x08\x9b\ta\n") == f"{plain}\ta\n"
