"""The grammar of the command line."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.namedconf.literal import literal, split
from lightex.namedconf.overrides import parse


@dataclass(frozen=True)
class Conv:
    depth: int = 4


@dataclass(frozen=True)
class MLP:
    width: int = 32


@dataclass(frozen=True)
class HP:
    lr: float = 0.1
    n: int = 1
    tag: str = "x"
    flag: bool = False
    act: Literal["relu", "gelu"] = "relu"
    model: Conv | MLP = Conv()
    maybe: int | None = None
    sizes: list[int] = field(default_factory=list)


named = {"tiny": MLP(2), "other": 3}


def values(text):
    found = parse([text], HP(), named)
    return next(iter(found.fixed.values())) if found.fixed else [next(iter(p.values())) for p in found.points]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr=1e-3", 1e-3),
        ("lr=1", 1.0),
        ("lr=inf", float("inf")),
        ("n=7", 7),
        ("tag=123", "123"),
        ("tag='a,b'", "a,b"),
        ("tag=true", "true"),
        ("tag=a=b", "a=b"),
        ("flag=true", True),
        ("maybe=null", None),
        ("maybe=5", 5),
        ("sizes=[1,2]", [1, 2]),
        ("model=tiny", MLP(2)),
        ("model=MLP", MLP()),
        ("lr=0.1,0.01", [0.1, 0.01]),
        ("act=relu,gelu", ["relu", "gelu"]),
        ("act=choice(relu, gelu)", ["relu", "gelu"]),
        ("n=range(1,10,3)", [1, 4, 7]),
        ("n=range(3)", [0, 1, 2]),
        ("lr=range(0,0.3,0.1)", [0.0, 0.1, 0.2]),
        ("lr=range(0.1,0.4,0.1)", [0.1, 0.2, 0.3]),
        ("lr=range(0.3,0.05,-0.1)", [0.3, 0.2, 0.1]),
        ("sizes=[1],[2,3]", [[1], [2, 3]]),
        ("model=tiny,Conv", [MLP(2), Conv()]),
    ],
)
def test_what_a_text_means(text, value):
    assert values(text) == value


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lr=fast"], "lr must be a float, got 'fast' (command line)"),
        (["n=1.5"], "n must be an int, got 1.5 (command line)"),
        (["flag=maybe"], "flag must be a bool, got 'maybe' (command line)"),
        (["act=tanh"], "act must be 'relu' or 'gelu', got 'tanh' (command line)"),
        (["lr"], "not an override: lr"),
        (["lr="], "lr= has no value"),
        (["lr=1", "lr=2"], "lr is given twice on the command line"),
        (["lr=interval(0,1)"], "lr: an interval has no end of values"),
        (["lr=interval(0)"], "lr=interval(0) is not a sweep"),
        (["n=range(1,1)"], "n=range(1,1) is empty"),
        (["tag=[1"], "a bracket is not closed: [1"),
        (["model=huge"], "model must be a Conv | MLP, got 'huge' (command line)"),
    ],
)
def test_what_is_wrong_is_said_in_words(texts, message):
    with pytest.raises(ConfigError) as caught:
        parse(texts, HP(), named)
    assert caught.value.message == message


def test_a_later_override_may_lead_into_what_an_earlier_one_brought():
    found = parse(["model=MLP", "model.width=1,2"], HP(), named)
    assert [point["model.width"] for point in found.points] == [1, 2]


def test_samples_draw_from_intervals_and_lists():
    found = parse(["lr=tag(log, interval(1e-4, 1e-1))", "n=interval(1,3)", "act=relu,gelu"], HP(), named, 5, 1)
    drawn = list(found.points)
    assert len(drawn) == 5
    assert all(1e-4 <= p["lr"] <= 0.1 and p["n"] in (1, 2, 3) and p["act"] in ("relu", "gelu") for p in drawn)


plain = st.text(st.characters(codec="ascii", exclude_characters="\"'\\()[]{},", exclude_categories=["Cc"]), min_size=1)


@given(st.lists(plain.map(str.strip).filter(bool), min_size=1))
def test_split_is_the_inverse_of_join(parts):
    assert split(",".join(parts)) == parts


@given(st.floats(allow_nan=False) | st.integers(-(2**60), 2**60) | st.booleans())
def test_every_number_is_read_as_it_is_written(value):
    assert literal(str(value)) == value
