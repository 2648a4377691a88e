"""How far a run is, and how long it will take."""

import dataclasses
import json

import pytest

from lightex.core import journal
from lightex.core.rundir import RunDir
from lightex.core.summary import summarize
from lightex.mon.progress import of_output, progress_of


def seen(run):
    return summarize(run, lambda _: False)


def test_its_own_word_counts_and_the_pace_since_its_first_one_tells_what_is_left(run_dir):
    journal.append(run_dir.records_file(), {"time": 100.0, "progress": {"done": 10, "total": 100}},
                   {"time": 120.0, "progress": {"done": 30, "total": 100}})  # fmt: skip
    found = progress_of(seen(run_dir), now=121.0)
    assert (found.done, found.total, found.left, found.source, found.share) == (30, 100, 69.0, "said", 0.3)


def test_a_further_attempt_begins_anew(run_dir):
    journal.append(run_dir.records_file(), {"time": 1.0, "progress": {"done": 90, "total": 100}}, {"attempt": 2})
    assert progress_of(seen(run_dir), now=2.0) is None
    journal.append(run_dir.records_file(), {"time": 9.0, "progress": {"done": 1, "total": 100}})
    assert progress_of(seen(run_dir), now=10.0).left is None  # one word tells no pace


def test_without_a_total_there_is_no_share(run_dir):
    journal.append(run_dir.records_file(), {"time": 1.0, "progress": {"done": 7}})
    found = progress_of(seen(run_dir), now=2.0)
    assert (found.done, found.total, found.share, found.left) == (7, None, None, None)


@pytest.mark.parametrize(
    ("line", "done", "total", "left"),
    [
        (" 42%|####2     | 42/100 [00:10<00:14,  4.19it/s]", 42, 100, 14.0),
        ("  3%|3         | 3/100 [00:01<?, ?it/s]", 3, 100, None),
        ("train:  50%|#####     | 5/10 [00:10<1:02:03, 2.0s/it]", 5, 10, 3723.0),
    ],
)
def test_a_bar_of_tqdm(line, done, total, left):
    found = of_output(["first", line, "loss 0.3"])
    assert (found.done, found.total, found.left, found.source) == (done, total, left, "bar")


@pytest.mark.parametrize("line", ["reading data/3/10", "2026/11/26 12:00", "ratio 3/10", "5/3 [", "loss 1e-3"])
def test_what_only_looks_like_a_bar_is_none(line):
    assert of_output([line]) is None


def test_steps_and_the_one_parameter_that_names_their_number(run_dir):
    journal.append(run_dir.records_file(), *({"metrics": {"loss": 1.0}, "step": step} for step in range(4)))
    summary = seen(run_dir)
    summary = dataclasses.replace(summary, params={"hp.epochs": 10, "hp.lr": 0.1}, started=100.0)
    found = progress_of(summary, now=140.0)
    assert (found.done, found.total, found.left, found.source) == (4, 10.0, 60.0, "steps")
    assert progress_of(dataclasses.replace(summary, params={"epochs": 10, "max_steps": 500}), now=1.0) is None
    assert progress_of(dataclasses.replace(summary, params={"epochs": 2}), now=1.0) is None


def test_a_bar_that_is_full_says_nothing_of_what_comes_after_it():
    full = "loading: 100%|##########| 10/10 [00:01<00:00]"
    assert of_output([full, "training"]) is None
    found = of_output(["outer:  30%|###       | 3/10 [00:30<01:10]", full])
    assert (found.done, found.total) == (3, 10)


@pytest.mark.parametrize("total", ["Infinity", "NaN", 0])
def test_a_total_without_an_end_is_not_known(run_dir, total):
    journal.append(run_dir.records_file(), {"time": 10.0, "progress": {"done": 1, "total": total}},
                   {"time": 20.0, "progress": {"done": 3, "total": total}})  # fmt: skip
    found = progress_of(seen(run_dir), now=21.0)
    assert (found.done, found.left, found.share) == (3, None, None)


def test_of_steps_of_a_further_attempt_no_time_is_told(run_dir):
    config = run_dir.config | {"hp": {"max_steps": 100}}
    run_dir.config_file.write_text(json.dumps(config))
    run_dir.append_event({"time": 100.0, "state": "RUNNING", "attempt": 2})
    journal.append(run_dir.records_file(), {"time": 1.0, "step": 53, "metrics": {"loss": 1.0}})
    found = progress_of(seen(RunDir(run_dir.path)), now=106.0)
    assert (found.done, found.total, found.left) == (54, 100, None)
