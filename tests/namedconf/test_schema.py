"""Types: what is accepted, what is refused and in which words."""

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.core.naming import flatten
from lightex.core.taxonomy import Duration, Experiment, Size
from lightex.namedconf.check import from_tree
from lightex.namedconf.schema import config_schema, parse
from lightex.namedconf.tree import to_tree


class Act(enum.Enum):
    RELU = "relu"
    GELU = "gelu"


@dataclass(frozen=True)
class Conv:
    depth: int = 4


@dataclass(frozen=True)
class MLP:
    width: int = 32
    act: Act = Act.RELU


@dataclass(frozen=True)
class Sgd:
    kind: Literal["sgd"] = "sgd"
    momentum: float = 0.9


@dataclass(frozen=True)
class Adam:
    kind: Literal["adam"] = "adam"
    beta: float = 0.99


@dataclass(frozen=True)
class HP:
    lr: float = 0.01
    model: Conv | MLP = Conv()
    layers: tuple[Conv | MLP, ...] = ()
    optimizer: Sgd | Adam = Sgd()
    size: Size = "1GiB"
    wait: Duration = "1m"
    act: Act | None = None
    path: Path | None = None
    weights: dict[str, float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def __post_init__(self):
        if isinstance(self.lr, float) and self.lr < 0:
            raise ValueError("lr must not be negative")


models = st.builds(Conv, st.integers()) | st.builds(MLP, st.integers(), st.sampled_from(Act))
hps = st.builds(
    HP,
    lr=st.floats(min_value=0, allow_nan=False),
    model=models,
    layers=st.lists(models, max_size=3).map(tuple),
    optimizer=st.builds(Sgd, momentum=st.floats(0, 1)) | st.builds(Adam, beta=st.floats(0, 1)),
    size=st.integers(0, 2**40),
    wait=st.floats(0, 1e6),
    act=st.none() | st.sampled_from(Act),
    path=st.none() | st.just(Path("a/b")),
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    names=st.lists(st.text()),
)


@given(hps)
def test_a_config_comes_back_from_its_tree_as_it_was(hp):
    experiment = Experiment(name="x", command="true", hp=hp)
    back = from_tree(to_tree(experiment), experiment, "here")
    assert back.hp == hp
    assert type(back.hp.model) is type(hp.model)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"lr": "fast"}, "hp.lr must be a float, got 'fast' (here)"),
        ({"lr": True}, "hp.lr must be a float, got True (here)"),
        ({"lr": -1.0}, "hp: lr must not be negative (here)"),
        ({"model": {"type": "Foo"}}, "hp.model must say which it is: type: one of Conv, MLP, got 'Foo' (here)"),
        ({"model": {"type": "MLP", "width": 2.5}}, "hp.model.width must be an int, got 2.5 (here)"),
        ({"layers": [{"type": "MLP", "act": "x"}]}, "hp.layers.0.act must be 'relu' or 'gelu', got 'x' (here)"),
        ({"optimizer": {"kind": "adam", "beta": "b"}}, "hp.optimizer.beta must be a float, got 'b' (here)"),
        ({"size": "2 parsec"}, "hp.size: not a size: '2 parsec' (here)"),
        ({"names": [1]}, "hp.names.0 must be a str, got 1 (here)"),
        ({"lrr": 1}, "hp.lrr: there is no such field (here)"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(data, message):
    with pytest.raises(ConfigError) as caught:
        parse(HP, data, "hp", "here")
    assert caught.value.message == message


def test_the_declaration_of_the_field_is_named():
    with pytest.raises(ConfigError) as caught:
        parse(float, "x", "hp.lr", "here", HP)
    assert caught.value.details[0].startswith("HP.lr: float = 0.01, ")
    assert "test_schema.py:" in caught.value.details[0]


def test_sizes_and_durations_become_numbers_and_enums_are_known_by_name():
    hp = parse(HP, {"size": "2GiB", "wait": "2m", "act": "GELU", "lr": 1}, "hp", "")
    assert (hp.size, hp.wait, hp.act) == (2 << 30, 120.0, Act.GELU)
    assert type(hp.lr) is float


def test_what_is_not_data_is_refused():
    @dataclass
    class Bad:
        function: Any = len

    with pytest.raises(ConfigError, match="function: builtin_function_or_method"):
        to_tree(Bad())


def test_a_class_that_contains_itself_is_refused():
    with pytest.raises(ConfigError, match="contains itself"):
        parse(Tree, {"left": None}, "hp", "")


@dataclass
class Tree:
    left: "Tree | None" = None


def test_the_json_schema_accepts_what_the_types_accept():
    schema = config_schema(Experiment(name="x", command="true", hp=HP()))
    check = jsonschema.Draft202012Validator(schema)
    check.check_schema(schema)
    check.validate({"extends": "base", "hp": {"lr": 0.1, "model": {"type": "MLP", "width": 3}, "size": "2GiB"}})
    check.validate({"extends": "base", "search": {"space": {"hp.lr": {"log": [0.001, 0.1]}}, "trials": 5}})
    for bad in ({"hp": {"lr": "x"}}, {"hpp": 1}, {"hp": {"model": {"type": "Foo"}}}):
        assert not check.is_valid(bad)


def test_flatten_keeps_lists_and_empty_dicts_as_leaves():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


@dataclass(frozen=True)
class Told:
    sizes: Annotated[list[int], {"help": "one for each layer"}] = field(default_factory=list)


def test_marks_of_a_type_that_are_for_others_do_not_matter():
    assert from_tree({"sizes": [1, 2]}, Told(), "x") == Told([1, 2])
    with pytest.raises(ConfigError, match=r"sizes.0 must be an int"):
        from_tree({"sizes": ["a"]}, Told(), "x")
