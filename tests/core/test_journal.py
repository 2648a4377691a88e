"""Journals: whole records or none, whatever kills the writer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core import journal
from lightex.core.errors import StorageError

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values)
def test_every_value_becomes_valid_json_without_loss_of_non_finite_numbers(value):
    tree = journal.jsonable(value)
    assert json.loads(journal.encode({"value": tree})) == {"value": tree}


def test_non_finite_numbers_are_texts_that_float_reads():
    assert journal.jsonable([float("nan"), float("inf"), float("-inf")]) == ["NaN", "Infinity", "-Infinity"]


@given(st.lists(st.dictionaries(st.text(), st.integers(0, 9)), max_size=5), st.binary(max_size=20))
def test_a_torn_tail_is_left_out_by_readers_and_cut_by_the_next_writer(tmp_path_factory, records, torn):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    path.write_bytes(b"".join(map(journal.encode, records)) + torn.replace(b"\n", b""))
    assert list(journal.read(path)) == records
    descriptor = journal.open_for_append(path)
    journal.cut_torn_line(descriptor)
    journal.write_whole(descriptor, journal.encode({"next": 1}))
    os.close(descriptor)
    assert list(journal.read(path)) == [*records, {"next": 1}]


def test_a_line_that_is_not_json_does_not_hide_the_others(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"a":1}\nnot json\n[1]\n{"b":2}\n')
    assert list(journal.read(path)) == [{"a": 1}, {"b": 2}]


def test_a_reader_goes_on_from_where_it_was(tmp_path):
    path = tmp_path / "j.jsonl"
    journal.append(path, {"a": 1}, {"b": 2})
    offsets = [journal.read_from(path, 0, size)[1] for size in (1, 12, 20, 1000)]
    journal.append(path, {"c": 3})
    assert list(journal.read(path, offsets[-1])) == [{"c": 3}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_says_what_to_do():
    with pytest.raises(StorageError, match=r"No space left(.|\n)*free some space"):
        journal.append("/dev/full", {"a": 1})


def test_after_sigkill_every_record_whose_call_returned_is_read_back(tmp_path):
    """The writer tells by a pipe how many calls have returned; it is killed in the middle of writing."""
    program = (
        "import os, sys\nfrom lightex.core import journal\n"
        "fd = journal.open_for_append(sys.argv[1])\njournal.cut_torn_line(fd)\nn = int(sys.argv[2])\n"
        "while True:\n"
        "    journal.write_whole(fd, journal.encode({'n': n, 'pad': 'x' * 500}))\n"
        "    n += 1\n    os.pwrite(1, b'%12d' % n, 0)\n"
    )
    path, told = tmp_path / "j.jsonl", tmp_path / "told"
    done = 0
    for round_number in range(5):
        with told.open("w+b") as out:
            writer = subprocess.Popen([sys.executable, "-c", program, str(path), str(done)], stdout=out)
            while told.stat().st_size == 0:
                time.sleep(0.002)
            time.sleep(0.003 * round_number)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        returned = int(told.read_bytes())
        written = [record["n"] for record in journal.read(path)]
        assert written == list(range(len(written)))
        assert returned <= len(written) <= returned + 1
        done = len(written)
