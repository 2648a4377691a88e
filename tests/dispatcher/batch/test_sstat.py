"""What `sstat` prints, read."""

import pytest

from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines.batch.sstat import read, seconds_of, size_of

SAID = """12.batch|1|00:00:03.500|2048K|0.5M|0
12.0|2|1-00:00:01|1M||
13.extern|||||
junk
"""


def test_steps_of_a_job_are_summed_by_their_tasks():
    assert read(SAID) == {
        "12": Usage(cpu_seconds=3.5 + 2 * 86401, memory=(2 << 20) + 2 * (1 << 20), read=512 << 10, written=0)
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:01", 1), ("01:02:03", 3723), ("2-00:00:00", 172800), ("00:00.25", 0.25), ("", 0), ("?", 0)],
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("2K", 2048), ("1.5M", 1572864), ("7", 7), ("", 0), ("K", 0), ("?", 0)])
def test_sizes(text, size):
    assert size_of(text) == size
