"""The table of runs as the address asks for it: filtered, sorted, paged, grouped, with chosen columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any

from starlette.datastructures import QueryParams

from lightex.core.index import Index
from lightex.core.naming import short_names
from lightex.core.summary import Summary
from lightex.qviz.compare import best_value, guess_mode, metrics_of
from lightex.qviz.filters import Query, order_by, parse
from lightex.qviz.groups import varying
from lightex.qviz.names import Name, Names
from lightex.qviz.runs import column_names, condition, limited, value_of

SIZES = (25, 50, 100, 250)
_PARAMS_SHOWN, _METRICS_SHOWN = 6, 5
_GROUPS_SHOWN = 250
_LETTER = 7  # pixels
_ALWAYS = ("id", "experiment", "status", "created", "duration")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: what it holds.
        heading: what it is called here.
        sorted: "ascending", "descending" or None.
        best: the best value on the page, of metrics.
        numeric: whether it holds numbers.
        frozen: whether it stays in sight when the table is scrolled sideways.
    """

    name: Name
    heading: str
    sorted: str | None = None
    best: float | None = None
    numeric: bool = False
    frozen: bool = False


@dataclass(frozen=True)
class GroupRow:
    """Runs that have the same value of something.

    Attributes:
        value: the value.
        count: how many.
        filter: selects them.
        cells: per metric column mean, standard deviation (None of a single one) and how many are finite.
    """

    value: Any
    count: int
    filter: str
    cells: dict[str, tuple[float, float | None, int]]


@dataclass
class View:
    """What the page shows; `selected` is the condition, its values and the order of all its pages."""

    q: str
    sort: str
    page: int
    size: int
    group: str
    cols: list[str]
    archived: bool
    widths: dict[str, int]
    runs: list[Summary] = field(default_factory=list)
    named: Sequence[Name] = ()
    selected: tuple[str, Sequence[object], str] = ("0", (), "id")
    columns: list[Column] = field(default_factory=list)
    groups: list[GroupRow] = field(default_factory=list)
    more_groups: bool = False
    total: int = 0
    all: int = 0
    by: Name | None = None
    error: Any = None

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // self.size))

    def letters(self, column: str, usual: int) -> int:
        """How many letters of a text a column shows: more than usual where the reader has made it wider."""
        return max(usual, (self.widths.get(column, 0) - 16) // _LETTER)  # less the cell's padding

    @property
    def metrics(self) -> list[str]:
        """The metrics of the runs that are shown."""
        return metrics_of(self.runs)


def make_view(index: Index, given: QueryParams) -> View:
    """Fill a view from the parts of an address.

    Args:
        index: of the root.
        given: q (a filter), within (a further one), sort (NAME or -NAME), page, size, group (NAME), archived ("1"),
            width (lines of "PIXELS NAME"); several times: col (NAME), freeze (NAME of a column that stays in sight).

    Raises:
        FilterError: the filter is not understood.
        NotFoundError: a column has no such name.
    """
    view = View(
        q=given.get("q", "").strip(),
        sort=given.get("sort", ""),
        page=_whole(given.get("page"), 1),
        size=_whole(given.get("size"), 50, SIZES[-1]),
        group=given.get("group", ""),
        cols=[each for each in given.getlist("col") if each],
        archived=given.get("archived") == "1",
        widths=_widths(given.get("width", "")),
    )
    names = Names(index)
    query = condition(names, view.q, view.archived)
    view.named = query.names
    where, values = limited(query, query.where), list(query.values)
    if given.get("within"):
        further = parse(given["within"], names)
        where, values = f"({where}) AND ({further.where})", [*values, *further.values]
    view.all = index.count()
    view.total = index.count(where, values)
    view.page = min(view.page, view.pages)
    order = f"{_order(view.sort, names) or query.order or 'id DESC'}, id DESC"
    view.selected = where, values, order
    view.runs = index.select(*view.selected, view.size, (view.page - 1) * view.size)
    view.columns = _columns(view, names, query, given.getlist("freeze"))
    if view.group:
        view.by = names.find(view.group)
        found = _groups(index, view, view.by, names, where, values)
        view.groups, view.more_groups = found[:_GROUPS_SHOWN], len(found) > _GROUPS_SHOWN
    return view


def _whole(text: str | None, default: int, most: int = 10**9) -> int:
    return min(max(1, int(text)), most) if text and text.isdecimal() and len(text) < 10 else default


def _widths(given: str) -> dict[str, int]:
    parts = [line.partition(" ") for line in given.split("\n")]
    return {name: _whole(pixels, 0, 2000) for pixels, _, name in parts}


def _order(sort: str, names: Names) -> str:
    if not sort:
        return ""
    down = sort.startswith("-")
    return order_by(names.column(names.find(sort.removeprefix("-"))), down)


def _columns(view: View, names: Names, query: Query, frozen: Sequence[str]) -> list[Column]:
    if view.cols:
        chosen = [names.find(each) for each in view.cols]
    else:
        chosen = [name for name in query.names if name.kind != "field" or name.name not in _ALWAYS]
        chosen += [Name("params", each) for each in differing(view.runs)[:_PARAMS_SHOWN]]
        chosen += [Name("metrics", each) for each in _main_first(view.runs)[:_METRICS_SHOWN]]
    chosen = list(dict.fromkeys(chosen))
    way = "descending" if view.sort.startswith("-") else "ascending"
    sorted_by = names.find(view.sort.removeprefix("-")) if view.sort else None
    return [
        Column(
            name,
            heading,
            way if name == sorted_by else None,
            _best(view.runs, name),
            numeric([value_of(run, name) for run in view.runs]),
            name.text in frozen,
        )
        for name, heading in zip(chosen, _headings(chosen), strict=True)
    ]


def _headings(chosen: Sequence[Name]) -> list[str]:
    """Names without what all parameters have before theirs; whole where two would be the same."""
    params = short_names([name.name for name in chosen if name.kind == "params"])
    whole = column_names(chosen)
    short = [params[name.name] if name.kind == "params" else text for name, text in zip(chosen, whole, strict=True)]
    return [text if short.count(text) == 1 else whole[place] for place, text in enumerate(short)]


def differing(runs: Sequence[Summary]) -> list[str]:
    """The parameters that are not the same for all runs; of a single run all."""
    return list(runs[0].params) if len(runs) == 1 else varying([run.params for run in runs])


def _main_first(runs: Sequence[Summary]) -> list[str]:
    wanted = {run.objective[0] for run in runs if run.objective}
    return sorted(metrics_of(runs), key=lambda name: name not in wanted)


def _best(runs: Sequence[Summary], name: Name) -> float | None:
    """The best value of a metric, where runs differ in it; by the config's word on it, else by its name."""
    if name.kind != "metrics" or name.part == "step":
        return None
    values = [value for run in runs if isinstance(value := value_of(run, name), (int, float)) and isfinite(value)]
    objective = next((run.objective for run in runs if run.objective and run.objective[0] == name.name), None)
    return best_value(values, objective[1] if objective else guess_mode(name.name))


def numeric(values: Sequence[Any]) -> bool:
    """Whether all that is known of a column is numbers: these are set flush right."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _groups(index: Index, view: View, by: Name, names: Names, where: str, values: Sequence[object]) -> list[GroupRow]:
    """Runs by the value of one name, as the view is sorted, else the largest groups first; one more than is shown.

    Metrics are told by mean, deviation and number.
    """
    column = names.column(by)
    metrics = [each for each in view.columns if each.name.kind == "metrics"]
    inner, outer = "", ""
    for place, each in enumerate(metrics):
        cell = names.column(each.name)
        inner += f", CASE WHEN typeof({cell}) = 'text' OR abs({cell}) > 1e300 THEN NULL ELSE {cell} END AS y{place}"
        outer += f", count(y{place}), avg(y{place}), sum((y{place} - mean{place}) * (y{place} - mean{place}))"
    means = "".join(f", avg(y{place}) OVER same AS mean{place}" for place in range(len(metrics)))
    rows = index.rows(
        f"SELECT x, count(*){outer} FROM (SELECT *{means} FROM (SELECT {column} AS x{inner} FROM runs WHERE {where}) "  # noqa: S608  columns of the index's own
        f"WINDOW same AS (PARTITION BY x)) GROUP BY x ORDER BY {_order_of_groups(view, by, metrics)} "
        f"LIMIT {_GROUPS_SHOWN + 1}",
        values,
    )
    found = []
    for value, count, *more in rows:
        cells = {}
        for place, each in enumerate(metrics):
            n, mean, squares = (float(part) if part is not None else None for part in more[place * 3 : place * 3 + 3])  # type: ignore[arg-type]
            if n and mean is not None and squares is not None:
                cells[each.name.text] = (mean, sqrt(squares / (n - 1)) if n > 1 else None, int(n))
        found.append(GroupRow(value, int(str(count)), _selects(by, value), cells))
    return found


def _order_of_groups(view: View, by: Name, metrics: Sequence[Column]) -> str:
    way = " DESC" if view.sort.startswith("-") else ""
    for place, each in enumerate(metrics):
        if each.sorted:
            return f"avg(y{place}) IS NULL, avg(y{place}){way}, x"
    if view.sort.removeprefix("-") == by.text:
        return f"x IS NULL, x{way}"
    return "count(*) DESC, x"


def _selects(name: Name, value: Any) -> str:
    """A filter for the runs that have a value."""
    if value is None:
        return f"`{name.text}` is missing"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'`{name.text}` = "{escaped}"'
    return f"`{name.text}` = {value!r}"
