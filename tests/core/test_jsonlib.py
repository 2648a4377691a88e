"""The standard library's JSON does what orjson does, where that is missing."""

import importlib
import math
import sys

import numpy
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core import jsonlib


@pytest.fixture(scope="module")
def plain():
    """The module as it is where there is no orjson."""
    sys.modules["orjson"] = None
    try:
        spec = importlib.util.spec_from_file_location("jsonlib_without", jsonlib.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.modules["orjson"] = orjson
    assert module.loads is not jsonlib.loads
    return module


TEXTS = st.text(st.characters(blacklist_categories=("Cs",)))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=True, allow_infinity=True)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.booleans())
def test_what_it_writes_is_what_orjson_reads(plain, value, indent, newline):
    option = jsonlib.OPT_INDENT_2 * indent | jsonlib.OPT_APPEND_NEWLINE * newline | jsonlib.OPT_SORT_KEYS
    written = plain.dumps(value, option=option)
    assert orjson.loads(written) == orjson.loads(orjson.dumps(value, option=option))
    assert plain.loads(written) == orjson.loads(written)
    assert written.endswith(b"\n") == newline


def test_numpy_is_written_as_numbers(plain):
    value = {"a": numpy.array([1.5, math.nan]), "b": numpy.float32(2.5), "c": numpy.int64(3)}
    assert plain.dumps(value, option=plain.OPT_SERIALIZE_NUMPY) == b'{"a":[1.5,null],"b":2.5,"c":3}'


@pytest.mark.parametrize("text", [b"{", b"\xff", b'{"a": \xe9}', b""])
def test_what_is_no_json_is_told_alike(plain, text):
    with pytest.raises(plain.JSONDecodeError) as error:
        plain.loads(text)
    assert error.value.lineno == 1
    with pytest.raises(jsonlib.JSONDecodeError):
        jsonlib.loads(text)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, "\ud800"])
def test_what_cannot_be_json_is_refused_alike(plain, value):
    for module in (plain, jsonlib):
        with pytest.raises(TypeError):
            module.dumps(value)
