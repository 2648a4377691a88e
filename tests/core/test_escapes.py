"""Texts of runs hold nothing that a terminal obeys."""

import pytest

from lightex.core.escapes import plain, printable, without_escapes


@pytest.mark.parametrize(
    ("text", "bare"),
    [("\x1b[32mgreen\x1b[0m", "green"), ("\x1b]0;title\x07\x1b[2Jgone", "gone"), ("\x1b]8;;x\x1b\\link", "link"), ("\x1b7\x1b(Ba", "a")],
)  # fmt: skip
def test_escapes_are_taken_out(text, bare):
    assert without_escapes(text) == bare
    assert printable(f"{text}\x08\x9b\ta\n") == f"{bare}\ta\n"


def test_a_plain_text_is_one_line_as_long_as_before():
    assert plain("a\nb\t\x1b[2J\x9bc é") == "a b  [2J c é"
