"""What Slurm and a run's own notes say, as states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.rundir import RunDir
from lightex.dispatcher.engines.batch import look, notes, outcome
from lightex.dispatcher.engines.batch.notes import Notes
from lightex.dispatcher.engines.batch.outcome import Row

RUN = RunDir("/nowhere/demo/261123-101010-abcd-000")


@pytest.mark.parametrize(
    ("state", "status", "noted", "expected"),
    [
        ("COMPLETED", 0, 0, ("SUCCEEDED", None, 0, None)),
        ("FAILED", 3 << 8, None, ("FAILED", None, 3, None)),
        ("FAILED", 137 << 8, None, ("FAILED", None, None, 9)),
        ("FAILED", 9, None, ("FAILED", None, None, 9)),
        ("FAILED", 3 << 8, 3, ("FAILED", None, 3, None)),
        ("OUT_OF_MEMORY", 253, 137, ("FAILED", "oom", None, 9)),
        ("TIMEOUT", 0, 0, ("FAILED", "timeout", 0, None)),
        ("DEADLINE", None, None, ("FAILED", "timeout", None, None)),
        ("NODE_FAIL", 0, None, ("LOST", "lost", None, None)),
        ("BOOT_FAIL", 0, None, ("LOST", "lost", None, None)),
        ("PREEMPTED", 0, 143, ("LOST", "lost", None, None)),
        ("CANCELLED", 9, None, ("CANCELLED", "cancelled", None, 9)),
        ("PENDING", 0, None, ("SUBMITTED", None, None, None)),
        ("REQUEUED", 0, 143, ("SUBMITTED", None, None, None)),
        ("COMPLETING", 0, 0, ("RUNNING", None, None, None)),
        ("SUSPENDED", 0, None, ("RUNNING", None, None, None)),
    ],
)
def test_each_state_of_slurm(state, status, noted, expected):
    said = None if noted is None else Notes("9_1", "c1", "lx/1", exit_code=noted)
    found = outcome.state_of(Row("9_1", state, status, host="c1"), said, RUN)
    assert (found.state, found.cause, found.exit_code, found.signal) == expected
    if expected[0] in ("RUNNING", "SUCCEEDED"):
        assert found.process == {"host": "c1", "job": "9_1", "bounds": ["slurm"]}


def test_reasons_are_slurms_with_a_gloss_where_many_ask():
    reasons = {"(Priority)": "Priority: jobs with a higher priority are before it",
               "(ReqNodeNotAvail, UnavailableNodes:c1)": "ReqNodeNotAvail, UnavailableNodes:c1", "(None)": None, "": None}  # fmt: skip
    for said, expected in reasons.items():
        assert outcome.state_of(Row("9_1", "PENDING", reason=said), None, RUN).reason == expected


def test_a_node_that_does_not_see_the_run_says_so():
    found = outcome.state_of(Row("9_1", "FAILED", 66 << 8, host="c1"), None, RUN)
    assert found.cause == "launch"
    assert found.reason.startswith("node c1 does not see /nowhere")


def test_what_slurm_has_forgotten_counts_by_its_notes():
    ended = Notes("9_1", "c1", "lx/1", exit_code=0, duration=2.5, peak_memory=7)
    assert outcome.forgotten(ended, RUN, waited=False).state == "SUCCEEDED"
    assert outcome.forgotten(ended, RUN, waited=False).duration == 2.5
    assert outcome.forgotten(Notes("9_1", "c1", "lx/1"), RUN, waited=False).state == "LOST"
    assert outcome.forgotten(None, RUN, waited=False).state == "LOST"
    assert outcome.forgotten(None, RUN, waited=True).state == "CANCELLED"


NOTED = """begun 1795582551.7 9_7 c1 lx-a-1/7
0m0.003s 0m0.000s
1m3,356s 0m0.946s
ended 1795582571.9 0 - 309796864
"""


def read_text(tmp_path, text):
    (tmp_path / "slurm.1.notes").write_text(text)
    return notes.read(RunDir(tmp_path), 1, "lx-a-1/7")


def test_notes_are_read_as_bash_writes_them(tmp_path):
    found = read_text(tmp_path, NOTED)
    assert found == Notes("9_7", "c1", "lx-a-1/7", 0, None, False, 20.2, 64.302, 309796864)


def test_of_a_job_that_was_started_again_the_last_start_counts(tmp_path):
    found = read_text(tmp_path, NOTED + "begun 1795582600.1 9_7 c2 lx-a-1/7\n")
    assert (found.host, found.exit_code) == ("c2", None)


@given(cut=st.integers(0, len(NOTED)))
def test_notes_that_are_half_written_tell_no_wrong_end(tmp_path_factory, cut):
    found = read_text(tmp_path_factory.mktemp("notes"), NOTED[:cut])
    assert found is None or found.exit_code in (None, 0)
    if cut < len(NOTED):
        assert found is None or found.exit_code is None


@given(st.sets(st.integers(0, 500), min_size=1, max_size=60))
def test_tasks_are_named_together_and_each_once(tasks):
    (text,) = look.ids(Row(f"9_{task}", "RUNNING") for task in tasks)
    named = []
    for part in text.removeprefix("9_[").removesuffix("]").split(","):
        first, _, last = part.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert sorted(named) == sorted(tasks)
    assert len(text) <= 4 + 4 * len(tasks)
