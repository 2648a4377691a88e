"""What is drawn of a metric."""

import math
import random

import pytest

from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.summary import read_all
from lightex.qviz.curves import curves, smooth
from lightex.qviz.plots import MOST, to_file, to_text
from tests.helpers import make_run


@pytest.fixture
def runs(tmp_path):
    for place in range(3):
        points = [{"metrics": {"loss": value}, "step": step * 10, "time": 100.0 + step} for step, value in
                  enumerate([4.0 + place, 2.0, float("nan"), float("inf"), 1.0])]  # fmt: skip
        make_run(tmp_path, f"s-{place}", {"lr": place}, *(points if place < 2 else []), varied={"hp.lr": place})
    return read_all(Root(tmp_path), Root(tmp_path).runs())


def test_curves_are_of_the_runs_that_have_the_metric_without_what_is_not_finite(runs):
    one, two = curves(runs, "loss")
    assert (one.label, two.label) == ("s-0  lr=0", "s-1  lr=1")
    assert (one.x, one.y, one.left_out) == ([0, 10, 40], [4.0, 2.0, 1.0], 2)
    assert curves(runs, "nothing") == []


def test_the_axis_is_the_step_the_time_of_the_run_or_the_clock(runs):
    assert curves(runs, "loss", "time")[0].x == [0.0, 1.0, 4.0]
    assert curves(runs, "loss", "wall")[0].x == [100.0, 101.0, 104.0]


def test_a_metric_may_be_the_axis_by_its_value_at_the_step_or_the_last_one_before(tmp_path):
    logged = [
        (0, {"loss": 4.0, "n": 30.0}),
        (5, {"loss": 3.0}),
        (7, {"n": 10.0}),
        (8, {"loss": 2.0}),
        (9, {"loss": 1.0, "n": 20.0}),
    ]
    make_run(tmp_path / "r", "t-0", {}, *({"step": step, "metrics": metrics} for step, metrics in logged))
    make_run(tmp_path / "r", "t-1", {}, {"step": 3, "metrics": {"loss": 1.0}}, {"step": 4, "metrics": {"n": 1.0}})
    runs = read_all(Root(tmp_path / "r"), Root(tmp_path / "r").runs())
    one, two = curves(runs, "loss", "n")
    assert (one.x, one.y) == ([10.0, 20.0, 30.0, 30.0], [2.0, 1.0, 4.0, 3.0])
    assert (two.x, two.left_out) == ([], 1)
    together = curves(runs[:1], "n", "n")[0]
    assert together.x == together.y == [10.0, 20.0, 30.0]


def test_points_whose_time_is_not_known_are_not_drawn_against_time(tmp_path):
    make_run(tmp_path / "r", "t-0", {}, {"metrics": {"a": 1.0}}, {"metrics": {"a": 2.0}, "time": 50.0})
    runs = read_all(Root(tmp_path / "r"), Root(tmp_path / "r").runs())
    (curve,) = curves(runs, "a", "time")
    assert (curve.x, curve.y, curve.left_out) == ([0.0], [2.0], 1)


def test_smoothing_is_free_of_the_bias_to_its_start():
    assert smooth([5.0] * 10, 0.9) == pytest.approx([5.0] * 10)
    assert smooth([1.0, 2.0], 0.0) == [1.0, 2.0]
    assert smooth([1.0, 3.0], 0.5) == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])
    assert smooth([], 0.9) == []
    chosen = random.Random(0)
    values = [chosen.random() for _ in range(1000)]
    assert all(min(values) <= each <= max(values) for each in smooth(values, 0.999999))


def test_a_drawing_fits_the_terminal_and_names_its_curves(runs, monkeypatch):
    drawn = to_text(curves(runs, "loss"), "loss", "step", False, 80, 10, False)
    assert max(map(len, drawn.splitlines())) <= 80
    assert "s-0  lr=0" in drawn
    assert "(step)" in drawn
    assert "\x1b" not in drawn
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" in to_text(curves(runs, "loss"), "loss", "step", False, 80, 10, True)


@pytest.mark.parametrize(
    "points", [[(0, 1.0)], [(0, 5.0), (1, 5.0)], [(0, 0.0)], [(0, 1e300), (1, -1e300)], [(3, 1e-300)]]
)
def test_a_single_point_and_a_constant_can_be_drawn(tmp_path, points):
    make_run(tmp_path / "r", "t-0", {}, *({"metrics": {"a": value}, "step": step} for step, value in points))
    found = curves(read_all(Root(tmp_path / "r"), Root(tmp_path / "r").runs()), "a")
    assert to_text(found, "a", "step", False, 80, 10, False)
    to_file(tmp_path / "x.svg", found, "a", "step", False)


@pytest.mark.parametrize("axis", ["step", "time", "wall"])
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_files_are_written_for_all_axes(runs, tmp_path, axis, suffix):
    path = tmp_path / f"a $x$.{suffix}"
    to_file(path, curves(runs, "loss", axis), "loss $_{", axis, True)
    assert path.stat().st_size > 1000


def test_a_logarithm_of_what_is_not_positive_is_an_error_that_says_so(tmp_path):
    make_run(tmp_path / "r", "t-0", {}, {"metrics": {"a": -1.0}}, {"metrics": {"a": 0.0}})
    found = curves(read_all(Root(tmp_path / "r"), Root(tmp_path / "r").runs()), "a")
    for draw in (lambda: to_text(found, "a", "step", True, 80, 10, False),
                 lambda: to_file(tmp_path / "x.png", found, "a", "step", True)):  # fmt: skip
        with pytest.raises(LightexError, match=r"^'a' has no positive value to draw with a logarithmic axis$"):
            draw()
    assert not (tmp_path / "x.png").exists()


def test_many_curves_are_drawn_to_a_file_without_a_legend(runs, tmp_path):
    many = curves(runs, "loss")[:1] * (MOST + 5)
    to_file(tmp_path / "x.svg", many, "loss", "step", False)
    assert "lr=0" not in (tmp_path / "x.svg").read_text()
    assert not math.isnan(many[0].y[0])
