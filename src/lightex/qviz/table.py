"""Rows with named columns, and what they can be turned into."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import needing
from lightex.core.journal import jsonable


@dataclass(frozen=True)
class Table:
    """Named columns of values: numbers, texts, booleans, None; of parameters also lists and mappings."""

    columns: list[str]
    rows: list[list[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def to_csv(self) -> str:
        """As CSV (RFC 4180) with a header.

        A text that a spreadsheet would take for a formula is led by an apostrophe, as OWASP has it
        (https://owasp.org/www-community/attacks/CSV_Injection).
        """
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([_harmless(name) for name in self.columns])
        writer.writerows([[_csv(value) for value in row] for row in self.rows])
        return text.getvalue()

    def to_json(self) -> str:
        """As a JSON array of objects; non-finite numbers are "NaN", "Infinity", "-Infinity"."""
        return jsonlib.dumps(jsonable(list(self)), str, jsonlib.OPT_INDENT_2).decode()

    def to_jsonl(self) -> str:
        """As JSON objects, one a line."""
        lines = (jsonlib.dumps(jsonable(row), str, jsonlib.OPT_APPEND_NEWLINE).decode() for row in self)
        return "".join(lines)

    def to_arrow(self) -> Any:
        """As a `pyarrow.Table`; a column of mixed kinds becomes one of texts.

        Raises:
            LightexError: pyarrow is missing.
        """
        with needing("this needs", "'lightex[sql]'"):
            import pyarrow as pa

        return pa.table({name: _arrow(pa, self.column(name)) for name in self.columns})

    def to_parquet(self, path: Path) -> None:
        """Write a Parquet file.

        Raises:
            LightexError: pyarrow is missing.
            OSError: it cannot be written.
        """
        table = self.to_arrow()
        import pyarrow.parquet as pq

        with path.open("wb") as file:
            pq.write_table(table, file)

    def to_pandas(self) -> Any:
        """As a `pandas.DataFrame`.

        Raises:
            LightexError: pandas is missing.
        """
        with needing("this needs", "pandas"):
            import pandas as pd
        return pd.DataFrame(self.rows, columns=self.columns)

    def to_polars(self) -> Any:
        """As a `polars.DataFrame`; a column of mixed kinds becomes one of texts.

        Raises:
            LightexError: polars is missing.
        """
        with needing("this needs", "polars"):
            import polars as pl
        return pl.DataFrame({name: _of_one_kind(self.column(name)) for name in self.columns}, strict=False)


def _arrow(pa: Any, values: list[Any]) -> Any:
    try:
        column = pa.array(values)
        return column if not _is_hollow(pa, column.type) else pa.array(_of_one_kind(values))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(_of_one_kind(values))


def _is_hollow(pa: Any, kind: Any) -> bool:
    """Whether there are mappings without a key in it, which Parquet cannot say."""
    if pa.types.is_list(kind):
        return _is_hollow(pa, kind.value_type)
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_is_hollow(pa, kind.field(place).type) for place in range(kind.num_fields))
    return False


def _of_one_kind(values: Sequence[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        whole = len(kinds) < 2 and all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int))
        return list(values) if whole else [None if value is None else float(value) for value in values]
    if len(kinds) == 1 and kinds <= {str, bool}:
        return list(values)
    return [value if value is None or isinstance(value, str) else text_of(value) for value in values]


def _csv(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return "" if value is None else value
    return _harmless(text_of(value))


def text_of(value: Any) -> str:
    """A value as text: dates as ISO 8601 has them, what is no text as JSON."""
    if isinstance(value, (date, time)):
        return value.isoformat()
    return value if isinstance(value, str) else jsonlib.dumps(jsonable(value), str).decode()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
