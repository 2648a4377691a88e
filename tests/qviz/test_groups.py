"""Runs that differ by their seed only, and which parameter matters."""

import math
import random

import pytest

from lightex.core.errors import LightexError
from lightex.qviz.compare import best_of, compare
from lightex.qviz.groups import Spread, group, is_seed, spread
from lightex.qviz.importance import importance
from tests.qviz.test_compare import run


def seeded(name, lr, seed, acc, **more):
    return run(name, {"acc": acc} if acc is not None else {}, **{"hp.lr": lr, "hp.seed": seed, **more})


@pytest.mark.parametrize(
    ("name", "found"),
    [("seed", True), ("hp.seed", True), ("hp.data.random_state", True), ("hp.randomState", True), ("SEED", True),
     ("hp.train_seed", True), ("hp.seeds", False), ("hp.seedling", False), ("hp.seed.value", False), ("lr", False)],
)  # fmt: skip
def test_seeds_are_known_by_their_names(name, found):
    assert is_seed(name) is found


def test_runs_that_differ_by_their_seed_are_one_group_with_mean_and_spread():
    runs = [seeded("a", 1, 1, 0.1), seeded("b", 2, 1, 0.5), seeded("c", 1, 2, 0.3), seeded("d", 2, 2, float("nan")),
            seeded("e", 2, 3, None)]  # fmt: skip
    first, second = compare(runs).groups
    assert ([r.short_id for r in first.runs], first.params) == (["b", "d", "e"], {"hp.lr": 2})
    assert first.spread("acc") == Spread(0.5, None, 1)
    assert [r.short_id for r in second.runs] == ["c", "a"]
    assert second.spread("acc") == Spread(pytest.approx(0.2), pytest.approx(math.sqrt(0.02)), 2)
    assert second.spread("other") is None
    assert spread([]) is spread([math.inf]) is None


def test_where_no_two_belong_together_there_are_no_groups():
    assert compare([seeded("a", 1, 1, 0.1), seeded("b", 2, 1, 0.5)]).groups == []
    assert compare([]).groups == []


def test_groups_are_of_one_experiment_and_tell_missing_from_equal():
    runs = [
        seeded("a", 1, 1, 0.1),
        seeded("b", 1, 2, 0.1, extra=None),
        seeded("c", 1, 3, 0.1),
        seeded("d", True, 4, 0.1),
    ]
    runs[2].experiment = "other"
    assert [len(each.runs) for each in group(runs)] == [1, 1, 1, 1]


def test_the_best_is_marked_only_where_there_is_one():
    runs = [run("a", {"acc": 0.5, "loss": 1.0, "same": 1.0, "one": 1.0}), run("b", {"acc": 0.9, "loss": 2.0, "same": 1.0}),
            run("c", {"acc": float("nan")})]  # fmt: skip
    found = compare(runs, "acc")
    assert [best_of(found, name) for name in ("acc", "loss", "same", "one")] == [0.9, 1.0, None, None]


def test_importance_ranks_the_parameter_that_matters_first():
    chosen = random.Random(0)
    runs = []
    for number in range(40):
        lr, width, kind = (
            chosen.choice([0.001, 0.01, 0.1, 1.0]),
            chosen.randrange(64),
            chosen.choice(["a", None, [1], True]),
        )
        acc = math.log10(lr) + 0.01 * width
        runs.append(run(str(number), {"acc": acc}, lr=lr, width=width, kind=kind, same=1))
    runs.append(run("nan", {"acc": float("nan")}, lr=5.0, width=1, kind="a", same=1))
    runs.append(run("none", {}, lr=5.0, width=1, kind="a", same=1))
    found = importance(runs, "acc", ["kind", "width", "lr", "same"])
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.7
    assert "same" not in found
    assert sum(found.values()) == pytest.approx(1.0)
    assert importance(runs, "acc", ["kind", "width", "lr", "same"]) == found


def test_where_nothing_varies_no_parameter_matters():
    runs = [run(str(n), {"acc": 1.0}, lr=n) for n in range(8)]
    assert importance(runs, "acc", ["lr"]) == {"lr": 0.0}


def test_too_few_runs_are_told():
    runs = [run(str(n), {"acc": float(n)}, lr=n) for n in range(3)]
    message = "importance needs 4 runs or more with 'acc', there are 3"
    with pytest.raises(LightexError, match=f"^{message}$"):
        importance(runs, "acc", ["lr"])
    with pytest.raises(LightexError, match="^importance needs a metric, and these runs have none$"):
        importance(runs, "", ["lr"])
    runs = [run(str(n), {"acc": float(n)}, lr=1) for n in range(5)]
    with pytest.raises(LightexError, match="^the 5 runs with 'acc' differ in no parameter$"):
        importance(runs, "acc", ["lr"])
