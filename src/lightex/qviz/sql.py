"""SQL over runs, parameters, metrics and events, by DuckDB in memory: read-only, and without a view of the disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.index import Index
from lightex.core.journal import number
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.qviz.names import FIELDS, Name
from lightex.qviz.runs import Runs, value_of
from lightex.qviz.series import Histories
from lightex.qviz.table import Table

TABLES = {
    "runs": "a row a run: id, experiment, status, created, ..., and every parameter, metric (its last value) and tag",
    "params": "run, name, value (text), number",
    "metrics": "run, name, step, time, value: every point that was logged",
    "events": "run, time, state, attempt, reason, cause, exit_code, duration, peak_memory, host",
}
"""What can be asked, and what it holds. Times are UTC seconds since the epoch, durations seconds, sizes bytes."""

_EVENT = ("time", "state", "attempt", "reason", "cause", "exit_code", "duration", "peak_memory")


def query(index: Index, statement: str) -> Table:
    """What a SELECT yields.

    Args:
        index: of the root.
        statement: one, in DuckDB's SQL, over TABLES. Names with dots go in quotes: "hp.lr".

    Raises:
        LightexError: it is no SELECT, DuckDB does not understand it, or is missing.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise LightexError("SQL needs DuckDB", "pip install 'lightex[sql]'") from None

    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})
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
                connection.register(f"_{name}", fill(found).to_arrow())
                connection.execute(f"CREATE TABLE {name} AS SELECT * FROM _{name}")  # noqa: S608  one of TABLES
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        answer = connection.execute(statements[0])
        columns = [str(column[0]) for column in answer.description or ()]
        return Table(columns, [list(row) for row in answer.fetchall()])
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
    return Table([*(name.name for name in fields), *headings], rows)


def _params(found: Iterable[Summary]) -> Table:
    rows = []
    for run in found:
        for name, value in run.params.items():
            plain = float(value) if isinstance(value, bool) else number(value)
            rows.append([run.id, name, None if value is None else str(value), plain])
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
        for event in RunDir(run.dir).events():
            host = (event.get("process") or {}).get("host")
            rows.append([run.id, *(event.get(key) for key in _EVENT), host])
    return Table(["run", *_EVENT, "host"], rows)


_FILL: dict[str, Callable[[Iterable[Summary]], Table]] = {
    "runs": _runs,
    "params": _params,
    "metrics": _metrics,
    "events": _events,
}
