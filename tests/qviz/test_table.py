"""Tables, and what they are turned into."""

import csv
import io
import json
import math

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.qviz.table import Table

MIXED = {
    "ints": [1, None, 3],
    "floats": [0.1, float("nan"), None],
    "both": [1, 0.5, None],
    "infinite": [float("inf"), 1, None],
    "bools": [True, None, False],
    "texts": ["a", None, "ü\n\"'"],
    "mixed": [1, "a", True],
    "lists": [[1, 2], None, []],
    "structs": [{"a": 1}, {"b": None}, {}],
    "empty": [{}, {}, {}],
    "nested": [[{}], [{"a": {}}], None],
    "huge": [2**64 - 1, 2**63, 1],
    "low": [-(2**63), 0, 1],
    "bool and int": [True, 1, 0],
    "nothing": [None, None, None],
    "list or text": [[1], "a", None],
    "": ["x", "y", "z"],
}


@pytest.fixture
def mixed():
    return Table(list(MIXED), [list(row) for row in zip(*MIXED.values(), strict=True)])


def test_csv_is_read_back_as_it_was(mixed):
    rows = list(csv.DictReader(io.StringIO(mixed.to_csv())))
    assert [row["texts"] for row in rows] == ["a", "", "ü\n\"'"]
    assert [row["lists"] for row in rows] == ["[1,2]", "", "[]"]
    assert [row["structs"] for row in rows] == ['{"a":1}', '{"b":null}', "{}"]
    assert [row["floats"] for row in rows] == ["0.1", "nan", ""]
    assert [row["huge"] for row in rows] == [str(2**64 - 1), str(2**63), "1"]
    found = pd.read_csv(io.StringIO(mixed.to_csv()))
    assert found["floats"].isna().tolist() == [False, True, True]
    assert found["bools"].tolist()[::2] == [True, False]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "=cmd|' /C calc'!A0"])
def test_a_text_that_a_spreadsheet_would_run_is_led_by_an_apostrophe(text):
    (header, row) = csv.reader(io.StringIO(Table([text], [[text]]).to_csv(), newline=""))
    assert (header, row) == ([f"'{text}"], [f"'{text}"])


def test_a_negative_number_is_no_formula():
    assert Table(["a", "b"], [[-1, -0.5]]).to_csv() == "a,b\r\n-1,-0.5\r\n"


def test_json_and_lines_of_json_say_the_same(mixed):
    rows = json.loads(mixed.to_json())
    assert rows == [json.loads(line) for line in mixed.to_jsonl().splitlines()]
    assert rows[0]["infinite"] == "Infinity"
    assert rows[1]["floats"] == "NaN"
    assert rows[0]["huge"] == 2**64 - 1
    assert rows[2]["nested"] is None


def test_parquet_is_read_back_as_it_was(mixed, tmp_path):
    mixed.to_parquet(tmp_path / "x.parquet")
    found = pq.read_table(tmp_path / "x.parquet").to_pydict()
    assert list(found) == mixed.columns
    for name in ("ints", "bools", "texts", "low", "nothing", ""):
        assert found[name] == MIXED[name], name
    assert found["both"] == [1.0, 0.5, None]
    assert found["infinite"] == [math.inf, 1.0, None]
    assert found["mixed"] == ["1", "a", "true"]
    assert found["list or text"] == ["[1]", "a", None]
    assert found["lists"] == MIXED["lists"]
    assert found["empty"] == ["{}", "{}", "{}"]
    assert found["huge"] == pytest.approx([2.0**64, 2.0**63, 1.0])


def test_pandas_and_polars_have_the_same_rows(mixed):
    for found in (mixed.to_pandas(), mixed.to_polars()):
        assert found.shape == (3, len(MIXED))
        assert list(found.columns) == mixed.columns
    assert mixed.to_polars()["mixed"].to_list() == ["1", "a", "true"]
    assert mixed.to_polars()["ints"].dtype == pl.Int64
    assert mixed.to_pandas()["texts"].tolist()[0] == "a"


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    empty = Table(["a", "b"], [])
    assert empty.to_csv() == "a,b\r\n"
    assert (empty.to_json(), empty.to_jsonl()) == ("[]", "")
    empty.to_parquet(tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").column_names == ["a", "b"]
    assert list(empty.to_pandas().columns) == list(empty.to_polars().columns) == ["a", "b"]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.lists(values, min_size=3, max_size=3), max_size=5))
def test_every_table_of_json_values_can_be_written_as_everything(rows):
    table = Table(["a", "b", "c"], rows)
    assert len(list(csv.reader(io.StringIO(table.to_csv(), newline="")))) == len(rows) + 1
    assert len(json.loads(table.to_json())) == table.to_jsonl().count("\n") == len(rows)
    pq.write_table(table.to_arrow(), io.BytesIO())
    assert table.to_pandas().shape == table.to_polars().shape == (len(rows), 3)
