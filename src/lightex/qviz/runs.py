"""Runs that a filter selects, as objects and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

from lightex.core import jsonlib
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.core.summary import Summary
from lightex.qviz.filters import Query, parse
from lightex.qviz.names import FIELDS, Name, Names
from lightex.qviz.table import Table

_OWN = ("id", "experiment", "status", "created", "duration")


class Runs(Sequence[Summary]):
    """Some runs, in the order that was asked for."""

    def __init__(self, runs: Sequence[Summary], named: Sequence[Name] = ()) -> None:
        """Keep them; the columns of what the filter speaks of (`named`) come first."""
        self._runs, self.named = list(runs), list(named)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Summary: ...
    @overload
    def __getitem__(self, index: slice) -> list[Summary]: ...
    def __getitem__(self, index: int | slice) -> Summary | list[Summary]:
        return self._runs[index]

    def __repr__(self) -> str:
        return f"<Runs: {len(self)}>"

    def table(self, names: Sequence[Name] | None = None) -> Table:
        """As a table: id, experiment, status, what the filter names, then all parameters, metrics and tags.

        Args:
            names: the columns; default: all.
        """
        chosen = list(names) if names is not None else self._names()
        return Table(column_names(chosen), [[value_of(run, name) for name in chosen] for run in self])

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`."""
        return self.table().to_pandas()

    def to_polars(self) -> Any:
        """The table as a `polars.DataFrame`."""
        return self.table().to_polars()

    def _names(self) -> list[Name]:
        own = [Name("field", name, type=FIELDS[name]) for name in _OWN]
        more = [
            Name(kind, name)
            for kind in ("params", "metrics", "tags")
            for name in dict.fromkeys(name for run in self for name in getattr(run, kind))
        ]
        return list(dict.fromkeys([*own, *self.named, *more]))


def select(
    index: Index,
    text: str = "",
    order: str = "id",
    limit: int | None = None,
    within: Sequence[str] | None = None,
    states: Sequence[str] = (),
    archived: bool = True,
) -> Runs:
    """The runs that a filter selects.

    Args:
        index: of the root.
        text: the filter (see `lightex.qviz.filters`); empty: all runs.
        order: columns of the index to order by where the filter does not say.
        limit: at most so many; the filter's own limit holds as well.
        within: only of the runs with these ids; None: of all.
        states: only runs of these; empty: of all.
        archived: also those that were put away; where the filter speaks of `archived`, it alone decides.

    Raises:
        FilterError: the filter is not understood.
    """
    query = condition(Names(index), text, archived)
    parts, values = [query.where], list(query.values)
    for column, chosen in (("id", within), ("status", states or None)):
        if chosen is not None:
            parts.append(f"{column} IN (SELECT value FROM json_each(?))")  # noqa: S608  two of our own
            values.append(jsonlib.dumps(list(chosen)).decode())
    where = limited(query, " AND ".join(parts))
    found = index.select(where, values, f"{query.order or order}, id DESC", -1 if limit is None else limit)
    return Runs(found, query.names)


def condition(names: Names, text: str, archived: bool) -> Query:
    """What a filter says; without the runs that were put away, unless they are asked for, or it speaks of them.

    Raises:
        FilterError: the filter is not understood.
    """
    query = parse(text, names)
    if archived or any(name.name == "archived" and name.kind == "field" for name in query.names):
        return replace(query, where=f"({query.where})")
    return replace(query, where=f"({query.where}) AND NOT archived")


def limited(query: Query, where: str) -> str:
    """A condition, of as many runs as a filter says: the first ones in its order, or else the latest."""
    if query.limit is None:
        return where
    order = f"{query.order or 'id DESC'}, id DESC"
    return f"key IN (SELECT key FROM runs WHERE {where} ORDER BY {order} LIMIT {query.limit})"  # noqa: S608  filters' own


def runs(filter: str = "", root: str | None = None) -> Runs:
    """The runs of a root that a filter selects, the oldest first unless it says otherwise.

    >>> runs("hp.lr > 0.01 and status = succeeded order by val.acc desc").to_pandas()  # doctest: +SKIP

    Args:
        filter: e.g. `experiment = digits and val.acc > 0.9`; empty: all runs.
        root: the folder of runs; default: LX_ROOT, or `runs/` beside the nearest lxconfig file.

    Raises:
        FilterError: the filter is not understood, and where.
    """
    with Index(Root.locate(root)) as index:
        return select(index, filter)


def value_of(run: Summary, name: Name) -> Any:
    """What a run has under a name; None: nothing."""
    if name.kind == "field":
        return getattr(run, {"config": "config_name"}.get(name.name, name.name))
    if name.kind == "metrics" and name.part != "last":
        return run.best.get(name.name, {}).get(name.part)
    return getattr(run, name.kind).get(name.name)


def column_names(names: Sequence[Name]) -> list[str]:
    """Headings: names as runs have them, led by their kind where two would be the same."""
    plain = [name.name + (f".{name.part}" if name.part != "last" else "") for name in names]
    doubled = {each for each in plain if plain.count(each) > 1}
    return [name.text if text in doubled else text for name, text in zip(names, plain, strict=True)]
