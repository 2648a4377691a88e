"""A picture as sections of lines: sweeps, what runs, what waits, what ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lightex.core.escapes import plain
from lightex.core.naming import label
from lightex.core.rundir import ENDED, QUEUED, RUNNING, SUBMITTED, SUCCEEDED
from lightex.core.summary import Summary
from lightex.core.units import format_age, format_duration
from lightex.mon.state import Live, Picture, SweepRow
from lightex.mon.top import words
from lightex.mon.top.columns import Column

_WIDE = 110  # columns from which bars are long, and the experiment is told in each line
_SWEEPS = 5  # that are shown, of those that have runs beside the one that is shown anyway


@dataclass(frozen=True)
class Row:
    """A line that the cursor can be on.

    Attributes:
        key: what tells it from others, wherever it is.
        cells: a text for each column.
        run: the run that it is about.
        sweep: or the sweep.
    """

    key: str
    cells: tuple[str, ...]
    run: Summary | None = None
    sweep: SweepRow | None = None


@dataclass(frozen=True)
class Section:
    """Lines under one heading.

    Attributes:
        name: its heading.
        total: how many there are, shown or not.
        columns: of its lines.
        rows: the lines.
        note: said below them.
    """

    name: str
    total: int
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    note: str = ""


_SWEEP = (
    Column("sweep"),
    Column("config", 8, inside=True),
    Column("ended"),
    Column("left", right=True),
    Column("", 16),
)
_RUNNING = (
    Column("run"),
    Column("experiment", 6, inside=True),
    Column("varies", 12, inside=True),
    Column("progress"),
    Column("left", right=True),
    Column("cpu", right=True),
    Column("mem", right=True),
    Column("gpu", 5),
    Column("metrics", 14),
)
_WAITING = (
    Column("run"),
    Column("experiment", 6, inside=True),
    Column("varies", 12, inside=True),
    Column("state", state=True),
    Column("needs", 16),
    Column("waits for", 18),
)
_ENDED = (
    Column("run"),
    Column("experiment", 6, inside=True),
    Column("varies", 12, inside=True),
    Column("state", state=True),
    Column("when", right=True),
    Column("took", right=True),
    Column("why, or metrics", 16),
)


def sections(seen: Picture, width: int, word: str = "") -> list[Section]:
    """What is shown of a picture.

    Args:
        seen: the picture.
        width: columns that there are.
        word: what its runs were filtered by.
    """
    long = width >= _WIDE
    made = [_sweeps(seen, 16 if long else 10, word), _running(seen, long, word), _waiting(seen, long, word)]
    return [each for each in (*made, _ended(seen, long, word)) if each.total or each.name == "Running"]


def _sweeps(seen: Picture, width: int, word: str) -> Section:
    matching = [each for each in seen.sweeps if word.lower() in f"{each.id} {each.name}".lower()]
    found = [each for each in matching if each.total > 1]  # a sweep of one run says what its run says
    shown = found if word else found[:_SWEEPS]
    more = len(found) - len(shown)
    rows = [Row(f"sweep {each.id}", _of_sweep(each, width), sweep=each) for each in shown]
    return Section("Sweeps", len(found), _SWEEP, rows, f"{more} more of this day: / finds them" if more else "")


def _of_sweep(each: SweepRow, width: int) -> tuple[str, ...]:
    done = f"{words.bar(each.ended / each.total if each.total else 1.0, width)} {each.ended}/{each.total}"
    said = [f"{count} {state.lower()}" for state, count in each.counts.items() if count]
    if each.paused and each.at_work:
        said.insert(0, "PAUSED")
    elif not each.at_work and each.ended < each.total:
        said.insert(0, "nothing is at work on it")
    return (each.id, plain(each.name), done, format_duration(each.left), ", ".join(said))


def _common(runs: Sequence[Summary], columns: Sequence[Column], rows: list[Row], long: bool) -> Sequence[Column]:
    """Columns that name in a heading the one experiment that all lines are of, where room is short."""
    names = {run.experiment for run in runs}
    if long or len(names) != 1 or not all(run.varied for run in runs):
        return columns
    rows[:] = [replace(row, cells=(row.cells[0], "", *row.cells[2:])) for row in rows]
    named = replace(columns[2], title=plain(names.pop()))
    return (*columns[:2], named, *columns[3:])


def _what(run: Summary) -> tuple[str, str]:
    return plain(run.experiment), plain(label(run.varied))


def _running(seen: Picture, long: bool, word: str) -> Section:
    rows = [Row(each.run.id, _of_running(each, 12 if long else 6), run=each.run) for each in seen.running]
    total = len(rows) if word else max(len(rows), seen.counts.get(RUNNING, 0))
    if not rows:
        note = "nothing that runs shows it" if word else "nothing runs: lx run NAME starts something"
    else:
        note = _more(total - len(rows))
    columns = _common([each.run for each in seen.running], _RUNNING, rows, long)
    return Section("Running", total, columns, rows, note)


def _of_running(each: Live, width: int) -> tuple[str, ...]:
    usage = each.usage
    loads = usage.get("gpus") or {}
    gpus = []
    for gpu in each.run.gpus:
        use = (loads.get(gpu) or {}).get("use")
        gpus.append(gpu if use is None else f"{gpu} {use * 100:.0f}%")
    return (
        each.run.short_id,
        *_what(each.run),
        words.far(each.progress, width),
        format_duration(each.progress.left) if each.progress else "-",
        f"{usage['cpu'] * 100:.0f}%" if usage.get("cpu") is not None else "-",
        words.size(usage["memory"]) if usage.get("memory") is not None else "-",
        plain(" ".join(gpus)),
        "? not watched  " * bool(each.run.reason) + words.metrics(each.run),
    )


def _waiting(seen: Picture, long: bool, word: str) -> Section:
    waits = {each.id: each.waits for each in seen.sweeps}
    rows = []
    for run in seen.waiting:
        reason = run.reason or waits.get(run.sweep or "") or "its turn"
        cells = (run.short_id, *_what(run), run.status, words.needs(run), plain(reason))
        rows.append(Row(run.id, cells, run=run))
    total = len(rows) if word else max(len(rows), sum(seen.counts.get(state, 0) for state in (QUEUED, SUBMITTED)))
    return Section("Waiting", total, _common(seen.waiting, _WAITING, rows, long), rows, _more(total - len(rows)))


def _ended(seen: Picture, long: bool, word: str) -> Section:
    rows = []
    for run in seen.ended:
        good = run.status == SUCCEEDED
        said = words.metrics(run) if good else plain(run.reason or "")
        when = format_age(seen.at - run.ended) if run.ended else "-"
        rows.append(
            Row(run.id, (run.short_id, *_what(run), run.status, when, format_duration(run.duration), said), run)
        )
    total = len(rows) if word else max(len(rows), sum(seen.counts.get(state, 0) for state in ENDED))
    note = f"{total - len(rows):,} before: lx ls" if total > len(rows) else ""
    return Section("Ended", total, _common(seen.ended, _ENDED, rows, long), rows, note)


def _more(count: int) -> str:
    return f"{count:,} more: / finds one, lx ls lists all" if count > 0 else ""
