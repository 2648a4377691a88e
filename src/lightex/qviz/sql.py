"""SQL over runs, parameters, metrics and events, by DuckDB in memory: read-only, and without a view of the disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from datetime import time as clock
from decimal import Decimal
from typing import Any

from lightex.core.errors import LightexError, needing
from lightex.core.index import Index
from lightex.core.journal import number
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.qviz.names import FIELDS, Name
from lightex.qviz.runs import Runs, value_of
from lightex.qviz.series import Histories
from lightex.qviz.table import Table, text_of

TABLES = {
    "runs": "a row a run: id, experiment, status, created, ..., and every parameter, metric (its last value) and tag",
    "params": "run, name, value (text), number",
    "metrics": "run, name, step, time, value: every point that was logged",
    "events": "run, time, state, attempt, reason, cause, exit_code, duration, peak_memory, host",
}
"""What can be asked, and what it holds. Times are UTC seconds since the epoch, durations seconds, sizes bytes."""

_TEXTS = {
    "runs": {name for name, kind in FIELDS.items() if kind in ("text", "state")},
    "params": {"run", "name", "value"},
    "metrics": {"run", "name"},
    "events": {"run", "state", "reason", "cause", "host"},
}
_EVENT = ("time", "state", "attempt", "reason", "cause", "exit_code", "duration", "peak_memory")


def query(index: Index, statement: str) -> Table:
    """What a SELECT yields.

    Args:
        index: of the root.
        statement: one, in DuckDB's SQL, over TABLES. Names with dots go in quotes: "hp.lr".

    Raises:
        LightexError: it is no SELECT, DuckDB does not understand it, or is missing.
    """
    with needing("SQL needs", "'lightex[sql]'"):
        import duckdb

    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})
    connection.execute("SET python_enable_replacements = false")  # names of tables are no variables of ours
    try:
        statements = connection.extract_statements(statement)
        if len(statements) != 1 or statements[0].type not in (
            duckdb.StatementType.SELECT,
            duckdb.StatementType.EXPLAIN,
        ):
            raise LightexError("only one SELECT is taken: runs are not changed by SQL", *_about())
        words = set(re.findall(r"\w+", statement.lower()))
        found = index.select()
        for name, fill in _FILL.items():
            if name in words:
                connection.register(f"_{name}", _typed(name, fill(found).to_arrow()))
                connection.execute(f"CREATE TABLE {name} AS SELECT * FROM _{name}")  # noqa: S608  one of TABLES
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        answer = connection.execute(statements[0])
        columns = _distinct([str(column[0]) for column in answer.description or ()])
        return Table(columns, [[_plain(value) for value in row] for row in answer.fetchall()])
    except duckdb.Error as error:
        raise LightexError(_words(error), *_about()) from None
    finally:
        connection.close()


def sql(statement: str, root: str | None = None) -> Table:
    """What a SELECT over the runs of a root yields: a table with `to_pandas`, `to_polars`, `to_csv`, ...

    >>> sql('select "hp.lr", avg("val.acc") from runs group by 1').to_pandas()  # doctest: +SKIP

    Args:
        statement: one SELECT in DuckDB's SQL, over TABLES.
        root: the folder of runs; default: LX_ROOT, or `runs/` beside the nearest lxconfig file.

    Raises:
        LightexError: it is no SELECT, DuckDB does not understand it, or is missing.
    """
    with Index(Root.locate(root)) as index:
        return query(index, statement)


def _typed(table: str, arrow: Any) -> Any:
    """Kinds for columns in which nothing is, else DuckDB takes them for integers."""
    import pyarrow as pa

    for place, column in enumerate(arrow.schema):
        known = table != "runs" or column.name in FIELDS
        if known and pa.types.is_null(column.type):
            kind = pa.string() if column.name in _TEXTS[table] else pa.float64()
            arrow = arrow.set_column(place, column.name, arrow.column(place).cast(kind))
    return arrow


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that can be told apart whatever their case, as tables in files want them: id, id_1."""
    found: dict[str, str] = {}
    for name in names:
        numbered = (f"{name}_{count}" if count else name for count in range(len(names)))
        free = next(each for each in numbered if each.lower() not in found)
        found[free.lower()] = free
    return list(found.values())


def _plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it; dates and times stay such."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if value is None or isinstance(value, (str, int, float, date, clock)) else str(value)


def _about() -> list[str]:
    return [f"{name}: {what}" for name, what in TABLES.items()]


def _words(error: Exception) -> str:
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    return "\n  ".join(lines) or type(error).__name__


def _runs(found: Iterable[Summary]) -> Table:
    table = Runs(list(found))
    fields = [Name("field", name, type=kind) for name, kind in FIELDS.items()]
    more = [name for name in table._names() if name.kind != "field"]
    taken = {name.name.lower() for name in fields}
    headings = []
    for name in more:  # DuckDB does not tell upper from lower case
        heading = name.name if name.name.lower() not in taken else name.text
        taken.add(heading.lower())
        headings.append(heading)
    rows = [[value_of(run, name) for name in (*fields, *more)] for run in table]
    return Table(_distinct([*(name.name for name in fields), *headings]), rows)


def _params(found: Iterable[Summary]) -> Table:
    rows = []
    for run in found:
        for name, value in run.params.items():
            plain = float(value) if isinstance(value, bool) else number(value)
            rows.append([run.id, name, None if value is None else text_of(value), plain])
    return Table(["run", "name", "value", "number"], rows)


def _metrics(found: Iterable[Summary]) -> Table:
    rows: list[list[Any]] = []
    for run in found:
        try:
            histories = Histories(RunDir(run.dir)).update()
        except OSError:  # it is broken, which `runs` shows, or was removed meanwhile
            continue
        for name in histories.names:
            series = histories.get(name)
            rows += ([run.id, name, *point] for point in zip(series.step, series.time, series.value, strict=True))
    return Table(["run", "name", "step", "time", "value"], rows)


def _events(found: Iterable[Summary]) -> Table:
    rows = []
    for run in found:
        try:
            events = RunDir(run.dir).events()
        except OSError:  # as above
            continue
        for event in events:
            process = event.get("process")
            host = process.get("host") if isinstance(process, dict) else None
            rows.append([run.id, *(event.get(key) for key in _EVENT), host])
    return Table(["run", *_EVENT, "host"], rows)


_FILL: dict[str, Callable[[Iterable[Summary]], Table]] = {
    "runs": _runs,
    "params": _params,
    "metrics": _metrics,
    "events": _events,
}
