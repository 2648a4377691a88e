"""The history of metrics, as records have it and a summary sums it up."""

import math
import os
import threading

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lightex.core import journal
from lightex.core.logged import read_logged
from lightex.core.rundir import RunDir
from lightex.qviz import series as module
from lightex.qviz.series import Histories
from tests.helpers import make_run


def point(value, step=None, time=None, name="a"):
    said = {"metrics": {name: value}, "step": step, "time": time}
    return {key: value for key, value in said.items() if value is not None}


def run_of(folder, *records, name="s-0"):
    return make_run(folder, name, {}, *records)


def history(run, name):
    return Histories(run, (name,)).update().get(name)


def steps(run, name="a"):
    found = history(run, name)
    return list(zip(found.step, found.value, strict=True))


def test_points_keep_their_steps_times_and_values(tmp_path):
    run = run_of(tmp_path, point(1.0, 0, 5.5), point(float("inf"), 1, "late"), point(2.0, 10, 6.5), point(3, 7))
    found = history(run, "a")
    assert list(found.step) == [0, 1, 10, 7]
    assert list(found.value) == [1.0, math.inf, 2.0, 3.0]
    assert repr(list(found.time)) == "[5.5, nan, 6.5, nan]"
    assert len(history(run, "other")) == 0


def test_where_no_steps_are_given_points_are_counted(tmp_path):
    assert steps(run_of(tmp_path, point(5.0), point(6.0, "x"), point(7.0))) == [(0, 5.0), (1, 6.0), (2, 7.0)]


def test_an_attempt_that_goes_back_takes_the_place_of_what_was_there(tmp_path):
    run = run_of(tmp_path, *(point(float(n), n) for n in range(5)), point(9.0, 1, name="b"), {"attempt": 2},
                 point(20.0, 2), point(30.0, 3))  # fmt: skip
    assert steps(run) == [(0, 0.0), (1, 1.0), (2, 20.0), (3, 30.0)]
    assert steps(run, "b") == [(1, 9.0)]


def test_an_attempt_that_goes_back_over_steps_out_of_order_keeps_the_lower_ones(tmp_path):
    run = run_of(tmp_path, point(1.0, 1), point(5.0, 5), point(3.0, 3), {"attempt": 2}, point(4.0, 4))
    assert steps(run) == [(1, 1.0), (3, 3.0), (4, 4.0)]


def test_several_writers_are_one_curve_by_step(tmp_path):
    run = run_of(tmp_path, point(1.0, 1), point(3.0, 3))
    journal.append(run.records_file(1), point(2.0, 2), point(33.0, 3), point(1.0, 1, name="b"))
    assert steps(run) == [(1, 1.0), (2, 2.0), (3, 3.0), (3, 33.0)]
    assert Histories(run).update().names == ["a", "b"]


def test_lines_that_are_broken_or_of_other_shapes_hide_no_other(tmp_path):
    run = run_of(tmp_path, point(1.0, 0))
    with run.records_file().open("ab") as file:
        file.write(b'\n{"metrics":\n\xff\xfe\n[1]\nnull\n{"metrics":[1]}\n{"metrics":{"a":"high"}}\n')
        file.write(b'{"metrics":{"a":[1\n2]}}\n{"metrics":{"a":2.0},"step":1}\n{"metrics":{"a":3')
    assert steps(run) == [(0, 1.0), (1, 2.0)]


def test_two_broken_lines_are_not_taken_for_one_that_is_whole(tmp_path):
    run = run_of(tmp_path, point(1.0, 0))
    with run.records_file().open("ab") as file:
        file.write(b'{"metrics":{"a":9.0}\n"step":1}\n')
    assert steps(run) == [(0, 1.0)]


def test_what_is_appended_while_it_is_read_comes_with_the_next_look(tmp_path):
    run = run_of(tmp_path)
    histories = Histories(run, ("a",))
    assert histories.update().names == []

    def write():
        for place in range(3000):
            journal.append(run.records_file(), point(float(place), place), point(0.0, place, name="b"))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        found = histories.update().get("a")
        assert list(found.value) == list(map(float, range(len(found))))
    writer.join()
    assert len(histories.update().get("a")) == 3000
    assert histories.names == ["a"]
    assert histories.size > 3000 * 24


def test_a_torn_line_counts_when_it_is_whole_and_a_new_writer_is_seen(tmp_path):
    run = run_of(tmp_path, point(1.0, 0))
    histories = Histories(run)
    with run.records_file().open("ab") as file:
        file.write(b'{"metrics":{"a":2')
        file.flush()
        assert len(histories.update().get("a")) == 1
        file.write(b".0}}\n")
    journal.append(run.records_file(2), point(7.0, 7))
    assert list(histories.update().get("a").value) == [1.0, 2.0, 7.0]


def test_records_that_are_written_anew_are_read_anew(tmp_path):
    run = run_of(tmp_path, *(point(float(n), n) for n in range(9)))
    histories = Histories(run).update()
    run.records_file().write_bytes(b'{"metrics":{"a":5.0},"step":2}\n')
    assert list(histories.update().get("a").step) == [2]


def test_large_files_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 100)
    run = run_of(tmp_path, *(point(float(n), n, name="a" * (n % 90 + 1)) for n in range(300)))
    found = Histories(run).update()
    assert sum(len(found.get(name)) for name in found.names) == 300


def test_a_run_that_is_gone_is_an_error(tmp_path):
    try:
        history(RunDir(tmp_path / "gone"), "a")
    except OSError as error:
        assert "gone" in str(error)
    else:
        raise AssertionError


values = st.sampled_from([0.0, 1.5, -3.0, "NaN", "Infinity", "-Infinity", 7, "high"])
stepped = st.builds(point, values, st.integers(0, 8))
unstepped = st.builds(point, values)
attempts = st.just({"attempt": 2})


@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(stepped | attempts, max_size=25) | st.lists(unstepped | attempts, max_size=25))
def test_the_history_ends_as_the_summary_says(tmp_path, records):
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    run = RunDir(folder)
    journal.append(run.records_file(), *records)
    found, summed = history(run, "a"), read_logged(run).metrics.get("a")
    if summed is None:
        assert len(found) == 0
        return
    highest = max(range(len(found)), key=lambda place: (found.step[place], place))
    assert repr(found.value[highest]) == repr(summed.last)
    finite = [value for value in found.value if not math.isnan(value)]
    if finite:  # of an attempt that went on from a checkpoint the extremes may be of what it did again
        assert summed.min <= min(finite)
        assert summed.max >= max(finite)
    if {"attempt": 2} not in records:
        assert (summed.min, summed.max) == (min(finite, default=None), max(finite, default=None))
