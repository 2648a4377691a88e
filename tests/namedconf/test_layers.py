"""Deep changes, and where values come from."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from lightex.core.errors import ConfigError
from lightex.namedconf.layers import Source, change, replace, sources


@dataclass(frozen=True)
class Conv:
    depth: int = 4


@dataclass(frozen=True)
class MLP:
    width: int = 32


@dataclass(frozen=True)
class HP:
    lr: float = 0.01
    seed: int = 0
    model: Conv | MLP = Conv()
    extra: dict[str, float] = field(default_factory=dict)
    layers: tuple[MLP, ...] = (MLP(1), MLP(2))
    maybe: MLP | None = None


@dataclass(frozen=True)
class Config:
    name: str = "x"
    hp: Any = HP()


base = Config()


def test_only_what_is_named_changes_and_the_rest_is_the_same_object():
    new = replace(base, {"hp.lr": 0.5})
    assert new.hp.lr == 0.5
    assert base.hp.lr == 0.01
    assert new.hp.model is base.hp.model


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("hp.model", MLP(3), lambda c: c.hp.model == MLP(3)),
        ("hp.model", {"depth": 9}, lambda c: c.hp.model == Conv(9)),
        ("hp.model", {"type": "MLP", "width": 9}, lambda c: c.hp.model == MLP(9)),
        ("hp.model.depth", 7, lambda c: c.hp.model == Conv(7)),
        ("hp.extra.new", 1, lambda c: c.hp.extra == {"new": 1.0}),
        ("hp.layers.1.width", 5, lambda c: c.hp.layers == (MLP(1), MLP(5))),
        ("hp.maybe.width", 5, lambda c: c.hp.maybe == MLP(5)),
        ("hp", {"lr": 1, "seed": 2}, lambda c: (c.hp.lr, c.hp.seed) == (1.0, 2)),
    ],
)
def test_paths_lead_anywhere(path, value, read):
    assert read(replace(base, {path: value}))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hp.lrr", "hp has no field 'lrr'. Did you mean 'hp.lr'?"),
        ("seed", "Config has no field 'seed'. Did you mean 'hp.seed'?"),
        ("hp.lr.x", "hp.lr is a float and has no field 'x'"),
        ("hp.layers.7.width", "hp.layers has no item '7': it has 2, counted from 0"),
        ("hp.model.width", "hp.model has no field 'width'. Did you mean 'hp.model.depth'?"),
    ],
)
def test_a_path_that_leads_nowhere_names_the_nearest(path, message):
    with pytest.raises(ConfigError) as caught:
        change(base, {path: 1}, Source("command line", f"{path}=1"))
    assert caught.value.message == message
    assert caught.value.details[0] == f"given on the command line: {path}=1"


def test_a_field_of_another_member_says_how_to_switch():
    with pytest.raises(ConfigError, match="MLP has 'width', but hp.model is a Conv: set hp.model=MLP before it"):
        replace(base, {"hp.model.width": 1})


def test_every_value_knows_its_source():
    config = replace(replace(base, {"hp.model": MLP(8), "hp.lr": 1.0}), {"hp.lr": 2.0})
    config = change(config, {"hp.seed": 3}, Source("command line", "hp.seed=3"))
    found = sources(Config("y", config.hp), Source("config", "lxconfig.py:9"))
    assert str(found["name"]) == "lxconfig.py:9"
    found = sources(config, Source("config", "lxconfig.py:9"))
    assert str(found["hp.seed"]) == "command line"
    assert "test_layers.py:" in str(found["hp.lr"])
    assert "test_layers.py:" in str(found["hp.model.width"])
    assert str(found["hp.layers"]).startswith("default ")


def test_a_mapping_within_a_mapping_need_not_be_there_before():
    from lightex.core.taxonomy import Experiment

    base = Experiment("x", command="true")
    new = replace(base, {"engine_options.kubernetes.namespace": "team", "engine_options.kubernetes.most_open": 5})
    assert new.engine_options == {"kubernetes": {"namespace": "team", "most_open": 5}}
