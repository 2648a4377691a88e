"""Searches as configs: what may be searched, and what the command line changes of it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lightex.core.errors import ConfigError
from lightex.namedconf.layers import replace
from lightex.namedconf.registry import Registry
from lightex.namedconf.resolve import expand
from lightex.namedconf.search import search
from lightex.namedconf.space import Choice, Interval, integers, loguniform, uniform


@dataclass(frozen=True)
class HP:
    lr: float = 0.1
    layers: int = 2
    act: str = "relu"


SPACE = {"lr": loguniform(1e-5, 1e-1), "layers": integers(1, 4), "act": ["relu", "gelu"]}


def test_a_search_knows_its_space_and_its_base_can_be_changed():
    tune = search(HP(), SPACE, 20, seed=3)
    assert tune.space == {"lr": Interval(1e-5, 1e-1, log=True), "layers": Interval(1, 4, whole=True),
                          "act": Choice(("relu", "gelu"))}  # fmt: skip
    assert replace(tune, {"layers": 9}).base == HP(layers=9)
    assert tune.config({"lr": 0.5}) == HP(lr=0.5)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"ler": uniform(0, 1)}, "Did you mean 'lr'"),
        ({"layers": uniform(1, 4)}, "layers must be an int"),
        ({"act": [1, 2]}, "act must be"),
        ({"act": []}, "no values"),
        ({"act": "relu"}, "are a list"),
        ({}, "nothing to draw from"),
    ],
)
def test_what_cannot_be_searched_is_refused_where_it_is_written(space, words):
    with pytest.raises(ConfigError) as error:
        search(HP(), space, 5)
    assert words in str(error.value)


@pytest.mark.parametrize("bounds", [(2, 1), (0, 1)])
def test_bounds_that_are_none(bounds):
    with pytest.raises(ConfigError):
        loguniform(*bounds)


PROJECT = """from dataclasses import dataclass
from lightex import Experiment, loguniform, search
@dataclass(frozen=True)
class HP:
    lr: float = 0.1
    seed: int = 0
base = Experiment(name="demo", command="true", hp=HP(), metric="acc")
tune = search(base, {"hp.lr": loguniform(1e-5, 1e-1), "hp.seed": [1, 2]}, trials=20)
"""


@pytest.fixture
def registry(tmp_path):
    from lightex.core.taxonomy import Experiment

    (tmp_path / "lxconfig.py").write_text(PROJECT)
    (tmp_path / "lxconfig.yaml").write_text("""
quick:
  extends: base
  search: {space: {hp.lr: {loguniform: [1e-4, 1e-1]}}, trials: 4, sampler: random}
wrong:
  extends: base
  search: {space: {hp.lr: [1, 2]}, trails: 4}
""")
    return Registry(Path(tmp_path), Experiment)


def test_the_command_line_changes_settings_and_fixes_what_was_searched(registry):
    expansion = expand(registry.get("tune"), ["trials=5", "sampler=random", "hp.seed=7", "tags.a=b"], registry.values())
    found = expansion.search
    assert (found.trials, found.sampler, list(found.space)) == (5, "random", ["hp.lr"])
    assert found.base.hp.seed == 7
    assert found.base.tags == {"a": "b"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trials=0"], "1 or more"),
        (["trials=x"], "trials must be an int"),
        (["hp.seed=1,2"], "one value of each"),
        (["hp.seed=1", "hp.lr=1"], "nothing is left to search"),
    ],
)
def test_overrides_that_no_search_can_have(registry, overrides, words):
    with pytest.raises(ConfigError) as error:
        expand(registry.get("tune"), overrides, registry.values())
    assert words in str(error.value)


def test_samples_are_for_sweeps(registry):
    with pytest.raises(ConfigError, match="trials=3"):
        expand(registry.get("tune"), [], registry.values(), samples=3)


def test_a_file_may_hold_a_search(registry):
    named = registry.get("quick")
    assert (named.kind, named.value.trials, named.value.sampler) == ("search", 4, "random")
    with pytest.raises(ConfigError, match="Did you mean 'trials'"):
        registry.get("wrong")
