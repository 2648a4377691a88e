"""What is parsed without pydantic is parsed as pydantic would."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Duration, Size
from lightex.namedconf.quick import MISS, quick
from lightex.namedconf.schema import _adapter

kinds = st.sampled_from([
    int, float, str, bool, int | None, str | None, float | str, str | Sequence[str] | None, Literal["a", 1], Size, Duration,
    Size | None, list[int], tuple[float, ...], dict[str, float], Mapping[str, str], Sequence[str], list[list[int]], Any,
    typing.List, typing.Dict,  # noqa: UP006  as users write them
])  # fmt: skip
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.sampled_from(["a", "1", "2GiB", "1m"])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
)


@given(kinds, values)
def test_quick_agrees_with_pydantic_or_leaves_it_to_it(kind, value):
    found = quick(kind, value)
    if found is not MISS:
        try:
            expected = _adapter(kind).validate_python(value)
        except (ValueError, ConfigError) as error:
            raise AssertionError(f"quick took what pydantic refuses: {kind} {value!r}") from error
        assert found == expected
        assert type(found) is type(expected)
