"""Asking now and then what jobs use."""

from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines.gathering import Gathering
from tests.helpers import wait_for


def test_an_answer_is_told_once_and_one_that_fails_is_none():
    gathering = Gathering()
    used = Usage(cpu_seconds=1.0)
    answers = iter([{"a": used, "b": used}])
    found = wait_for(lambda: gathering.news(lambda: next(answers), 0.0, ["a"]))
    assert found["a"].cpu_seconds == 1.0
    for _ in range(20):
        assert gathering.news(lambda: next(answers), 0.0, ["a"]) == {}
    gathering.close()
