"""Runs side by side."""

import pytest

from lightex.core.errors import NotFoundError
from lightex.core.summary import Summary
from lightex.qviz.compare import compare, guess_mode


def run(name, metrics, objective=None, **params):
    return Summary(
        id=f"260101-000000-{name}", sweep="s", experiment="e", status="SUCCEEDED", dir="", params=params, metrics=metrics,
        attempt=1, created=1.0, started=1.0, ended=2.0, exit_code=0, objective=objective,
    )  # fmt: skip


def test_only_what_differs_best_first_and_nan_and_nothing_last():
    runs = [run("a", {"val.acc": 0.5}, lr=1, n=1), run("b", {"val.acc": float("nan")}, lr=2, n=1),
            run("c", {}, lr=3, n=1), run("d", {"val.acc": 0.9}, lr=4, n=1)]  # fmt: skip
    found = compare(runs)
    assert [r.short_id for r in found.runs] == ["d", "a", "b", "c"]
    assert (found.params, found.same, found.by, found.mode) == (["lr"], {"n": 1}, "val.acc", "max")


def test_the_objective_of_the_config_decides_unless_asked_otherwise():
    runs = [run("a", {"acc": 0.1, "size": 1.0}, ("size", "min")), run("b", {"acc": 0.9, "size": 2.0}, ("size", "min"))]
    assert [r.short_id for r in compare(runs).runs] == ["a", "b"]
    assert [r.short_id for r in compare(runs, "acc").runs] == ["b", "a"]
    assert [r.short_id for r in compare(runs, "ac", "min").runs] == ["a", "b"]
    with pytest.raises(NotFoundError, match=r"no metric 'acx' in these runs. Did you mean 'acc'\?"):
        compare(runs, "acx")
    with pytest.raises(NotFoundError, match=r"'c' may be acc, cost"):
        compare([*runs, run("c", {"cost": 1.0})], "c")


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("loss", "min"),
        ("val.mse", "min"),
        ("test/error", "min"),
        ("val_loss", "min"),
        ("accuracy", "max"),
        ("r2", "max"),
    ],
)
def test_modes_are_guessed_by_name(name, mode):
    assert guess_mode(name) == mode


def test_a_parameter_that_is_none_in_one_and_not_there_in_another_is_no_difference():
    found = compare([run("a", {"acc": 1.0}, depth=None, kind="tree"), run("b", {"acc": 2.0}, kind="line")])
    assert (found.params, found.same) == (["kind"], {"depth": None})
