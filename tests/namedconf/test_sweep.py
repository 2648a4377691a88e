"""Sweeps: product, zip, list, samples and their compositions."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.namedconf.layers import replace
from lightex.namedconf.space import integers, loguniform, uniform
from lightex.namedconf.sweep import grid, points, sample, sweep, zipped


@dataclass(frozen=True)
class HP:
    a: float = 0.0
    b: int = 0
    c: int = 0


base = HP()
lists = st.lists(st.integers(0, 9), min_size=1, max_size=4)


@given(lists, lists)
def test_a_product_has_every_combination_once_in_order(a, b):
    found = [(p["a"], p["b"]) for p in grid({"a": a, "b": b})]
    assert found == [(x, y) for x in a for y in b]


@given(lists, lists, lists)
def test_multiplication_distributes_over_addition(a, b, c):
    one, two, three = grid({"a": a}), grid({"b": b}), grid({"b": c})
    assert list(one * (two + three)) == list(one * two + one * three)
    assert len(one * (two + three)) == len(list(one * (two + three)))


def test_zip_and_list_and_a_sweep_of_a_sweep():
    assert [(p.config.a, p.config.b) for p in sweep(base, zipped({"a": [1, 2], "b": [3, 4]}))] == [(1, 3), (2, 4)]
    assert [p.varied for p in sweep(base, [{"a": 1}, {"b": 2}])] == [{"a": 1}, {"b": 2}]
    twice = sweep(sweep(base, {"a": [1, 2]}), {"c": [5, 6]})
    assert [(p.config.a, p.config.c) for p in twice] == [(1, 5), (1, 6), (2, 5), (2, 6)]
    assert len(twice + twice) == 8
    assert {p.config.b for p in replace(twice, {"b": 7})} == {7}


def test_samples_are_the_same_for_the_same_seed_on_every_python():
    space = {"a": loguniform(1e-5, 1e-1), "b": integers(1, 6), "c": [7, 8], "d": uniform(0, 1)}
    first, again = list(sample(space, 3, seed=1)), list(sample(space, 3, seed=1))
    assert first == again != list(sample(space, 3, seed=2))
    assert first[0]["b"] == 6
    assert first[0]["a"] == pytest.approx(3.4469e-05, rel=1e-3)
    assert all(1e-5 <= p["a"] <= 1e-1 and p["c"] in (7, 8) for p in first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid({"a": []}), "a: there are no values to choose from"),
        (lambda: grid({"a": "abc"}), "a: the values of a sweep are a list, got 'abc'"),
        (lambda: grid({"a": 3}), "a: the values of a sweep are a list, got 3"),
        (lambda: grid({"a": uniform(0, 1)}), "a: uniform(0, 1) is drawn from"),
        (lambda: zipped({"a": [1], "b": [1, 2]}), "zipped values must be of one length: a has 1, b has 2"),
        (lambda: points([]), "a sweep over a list of points needs at least one point"),
        (lambda: loguniform(0, 1), "loguniform(0, 1): both bounds must be positive"),
        (lambda: sweep(3, {"a": [1]}), "sweep starts from a config or a sweep, got int"),
    ],
)
def test_what_makes_no_sweep_is_refused_where_it_is_written(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.message == message
