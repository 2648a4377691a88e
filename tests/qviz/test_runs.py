"""Runs from Python: a filter, objects, tables."""

import pytest

from lightex.core.errors import ConfigError
from lightex.core.root import Root
from lightex.qviz.names import Name
from lightex.qviz.runs import Runs, column_names, runs
from tests.helpers import make_run


@pytest.fixture
def root(tmp_path):
    for place in range(3):
        make_run(tmp_path / "runs", f"s-{place}", {"lr": 0.1 * place, "only": None} | ({"b": 1} if place == 1 else {}),
                 {"metrics": {"val.acc": place / 2}, "step": 3}, {"tags": {"team": "a"}})  # fmt: skip
    return tmp_path / "runs"


def test_runs_are_a_sequence_in_the_order_that_was_asked_for(root):
    found = runs("hp.lr > 0 order by val.acc desc", root)
    assert [run.metrics["val.acc"] for run in found] == [1.0, 0.5]
    assert len(found) == 2
    assert found[0] in found
    assert found[-1].params == {"hp.lr": 0.1, "hp.only": None, "hp.b": 1}
    assert [run.short_id for run in found[:1]] == ["s-2"]
    assert repr(found) == "<Runs: 2>"
    assert [run.short_id for run in runs(root=root)] == ["s-0", "s-1", "s-2"]


def test_the_root_is_that_of_the_environment_unless_it_is_given(root, monkeypatch, tmp_path):
    monkeypatch.setenv("LX_ROOT", str(root))
    assert len(runs()) == 3
    assert len(runs(root=str(tmp_path / "nowhere"))) == 0


def test_a_filter_that_is_not_understood_is_an_error_of_lightex(root):
    for given, nearest in (
        ("val.ac", "val.acc"),
        ("hp.lrr", "hp.lr"),
        ("lrr", "lr"),
        ("stats", "status"),
        ("teem", "team"),
    ):
        with pytest.raises(
            ConfigError, match=rf"^no run has '{given}'\. Did you mean '{nearest}'\?\n  {given} > 1\n  \^\n"
        ):
            runs(f"{given} > 1", root)


def test_the_table_begins_with_what_the_filter_names(root):
    found = runs("val.acc.step = 3 and tags.team = a order by id limit 1", root).table()
    assert found.columns == ["id", "experiment", "status", "created", "duration", "val.acc.step", "team", "hp.lr", "hp.only",
                             "val.acc"]  # fmt: skip
    assert found.rows == [["260101-000000-s-0", "demo", "SUCCEEDED", 1000.0, 60.0, 3, "a", 0.0, None, 0.0]]


def test_what_a_run_does_not_have_is_missing_in_all_tables(root):
    found = runs(root=root)
    assert found.table().column("hp.b") == [None, 1, None]
    assert found.to_pandas()["hp.b"].isna().tolist() == [True, False, True]
    assert found.to_polars()["hp.b"].to_list() == [None, 1, None]
    assert found.table([Name("params", "hp.b"), Name("metrics", "val.acc", "max")]).columns == ["hp.b", "val.acc.max"]


def test_headings_tell_a_parameter_from_a_metric_of_the_same_name():
    names = [Name("field", "id"), Name("params", "id"), Name("metrics", "id"), Name("tags", "x"), Name("params", "x")]
    assert column_names(names) == ["id", "params.id", "metrics.id", "tags.x", "params.x"]
    assert Runs([]).table().columns == ["id", "experiment", "status", "created", "duration"]


def test_a_run_that_is_removed_between_two_questions_is_gone(root):
    assert len(runs(root=root)) == 3
    next(Root(root).runs()).remove()
    assert [run.short_id for run in runs(root=root)] == ["s-1", "s-2"]
