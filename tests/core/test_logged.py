"""What records are summed up to, at once and piece by piece."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lightex.core import jsonlib
from lightex.core.journal import jsonable
from lightex.core.logged import Logged, merged

names = st.sampled_from(["a", "b"])
values = st.sampled_from([0.0, 1.5, -3, "NaN", "Infinity", "-Infinity", "high", None, True])
records = st.lists(
    st.fixed_dictionaries({"metrics": st.dictionaries(names, values)},
                          optional={"step": st.none() | st.integers(0, 6) | st.just("x")})
    | st.fixed_dictionaries({"params": st.dictionaries(names, values)})
    | st.fixed_dictionaries({"tags": st.dictionaries(names, values)})
    | st.just({"attempt": 2}) | st.just({"finish": {"status": "FAILED"}}) | st.just({"artifact": {"path": "p"}}),
    max_size=20,
)  # fmt: skip


def logged(given):
    result = Logged()
    for record in given:
        result.add(record)
    return result


@given(records, records)
def test_going_on_from_a_dump_is_as_if_nothing_had_come_between(before, after):
    half = Logged.load(jsonlib.loads(jsonlib.dumps(jsonable(logged(before).dump()))))
    for record in after:
        half.add(record)
    whole = logged([*before, *after])
    for each in (half, whole):
        each.params = jsonable(each.params)
    assert half._stale == whole._stale
    half._stale = whole._stale  # equal sets may be shown in another order
    assert repr(half) == repr(whole)


def test_an_attempt_that_starts_over_forgets_the_extremes_of_the_one_before():
    points = [{"metrics": {"a": float(n)}, "step": n} for n in range(5)]
    again = logged([*points, {"attempt": 2}, {"metrics": {"a": 1.0}, "step": 0}]).metrics["a"]
    assert (again.last, again.step, again.min, again.max) == (1.0, 0, 1.0, 1.0)
    onward = logged([*points, {"attempt": 2}, {"metrics": {"a": 1.0}, "step": 3}]).metrics["a"]
    assert (onward.last, onward.step, onward.min, onward.max) == (1.0, 3, 0.0, 4.0)


def test_of_several_writers_the_first_ones_parameters_and_the_highest_step_decide():
    one = logged([{"params": {"p": 1}}, {"tags": {"t": "1"}}, {"metrics": {"a": 1.0, "b": math.nan}, "step": 9}])
    two = logged([{"params": {"p": 2, "q": 2}}, {"tags": {"t": "2"}}, {"metrics": {"a": 5.0, "b": 2.0}, "step": 3},
                  {"finish": {"status": "FAILED"}}])  # fmt: skip
    both = merged([one, two])
    assert (both.params, both.tags, both.finish) == ({"p": 1, "q": 2}, {"t": "2"}, None)
    assert (both.metrics["a"].last, both.metrics["a"].min, both.metrics["a"].max) == (1.0, 1.0, 5.0)
    assert (both.metrics["b"].min, both.metrics["b"].max) == (2.0, 2.0)
    assert merged([]) == Logged()
