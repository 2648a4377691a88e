"""Command templates: a value stays one argument, whatever it holds."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.namedconf.template import render, render_text


@dataclass(frozen=True)
class Model:
    depth: int = 4


@dataclass(frozen=True)
class HP:
    lr: float = 0.1
    note: str = "a b"
    flag: bool = True
    none: None = None
    model: Model = Model()
    sizes: tuple[int, ...] = (1, 2)


context = {"hp": HP(), "dirs": {"data": "/d"}}


@given(st.text())
@example("$(rm -rf /); `x` && 'y' \"z\" \ue0000\ue001")
def test_any_text_stays_one_argument(text):
    given_context = {"hp": {"note": text}}
    assert render("run --note {{ hp.note }} end", given_context) == ["run", "--note", text, "end"]
    assert render('run "--note={{ hp.note }}"', given_context) == ["run", f"--note={text}"]
    assert render(["run", "{{ hp.note }}"], given_context) == ["run", text]


def test_words_flags_lists_and_blocks():
    flags = ["--lr", "0.1", "--note", "a b", "--flag", "--model.depth", "4", "--sizes", "1", "2"]
    assert render("run {{ hp | flags }} -x", context) == ["run", *flags, "-x"]
    assert render(["run", "{{ hp | flags }}"], context) == ["run", *flags]
    assert render("run {{ hp.sizes }} --all={{ hp.sizes }}", context) == ["run", "1", "2", "--all=1 2"]
    assert render("run {% if hp.flag %}--fast {{ hp.lr }}{% endif %}", context) == ["run", "--fast", "0.1"]
    assert render("run {{ dirs.data }}/x '{{ hp.lr }} y'", context) == ["run", "/d/x", "0.1 y"]
    assert render_text("lr is {{ hp.lr }}", context) == "lr is 0.1"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("run {{ hp.lrr }}", "the template names hp.lrr, which is not there. Did you mean 'hp.lr'?"),
        ("run {{ hpp.lr }}", "the template names hpp, which is not there. Did you mean 'hp'?"),
        ("run {{ hp.model.dept }}", "the template names hp.model.dept, which is not there. Did you mean 'hp.model.depth'?"),
        ("run {{ dirs.code }}", "the template names dirs.code, which is not there."),
        ("run {{ hp.lr", "the template does not parse: unexpected end of template, expected 'end of print statement'."
                         " (line 1)"),
        ("run && rm x", "the command has '&&', but no shell runs it"),
        ("run > x", "the command has '>', but no shell runs it"),
        ("run $HOME", "the command has '$H', but no shell runs it"),
        ("run 'x", "the command cannot be split into words: no closing quotation"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_in_words(command, message):
    with pytest.raises(ConfigError) as caught:
        render(command, context)
    assert caught.value.message == message


def test_quoted_shell_signs_are_plain_text():
    assert render("run 'a && b' \"c;d\" e\\&f", context) == ["run", "a && b", "c;d", "e&f"]


def test_a_template_cannot_reach_beyond_its_values():
    with pytest.raises(ConfigError):
        render("run {{ hp.__class__.__mro__ }}", context)
