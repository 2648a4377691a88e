"""`lx ls`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lightex.cli.output import print_json, print_table
from lightex.cli.selecting import select, where_option
from lightex.cli.writing import check_suffix, write_table
from lightex.core.naming import in_line, label, show
from lightex.core.root import Root
from lightex.core.rundir import QUEUED, STATES, RunDir
from lightex.core.summary import Summary, read_all
from lightex.core.units import format_age

if TYPE_CHECKING:
    from lightex.qviz.names import Name

_SHOWN = 20


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@where_option
@click.option(
    "--status",
    "-s",
    "statuses",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only runs of this state, e.g. failed; may be repeated.",
)
@click.option("--all", "-a", "everything", is_flag=True, help=f"All runs, not only the latest {_SHOWN}.")
@click.option("--archived", is_flag=True, help="Also those that were put away (lx note --archive).")
@click.option("--json", "as_json", is_flag=True, help="All runs as a JSON array.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV: a column per parameter, metric and tag.")
@click.option("--output", "-o", metavar="FILE", help="Write that table to a file: .csv, .json, .jsonl or .parquet.")
@click.pass_obj
def command(
    root: str | None,
    /,
    which: tuple[str, ...],
    where: str | None,
    statuses: tuple[str, ...],
    everything: bool,
    archived: bool,
    as_json: bool,
    as_csv: bool,
    output: str | None,
) -> None:
    """List runs, the latest last.

    \b
    lx ls -w 'hp.lr > 0.01 and val.acc > 0.9 order by val.acc desc'
    lx ls -w 'failed and created > 7d ago'        lx ls -w 'tags.team = "a"' -o runs.parquet
    """
    check_suffix(output)
    folder = Root.locate(root)
    named: Sequence[Name] = ()
    cut = 0
    if which or where is not None or statuses or everything or as_json or as_csv or output:
        runs = select(folder, which, where, everything=True, states=statuses, archived=archived)
        named, found = runs.named, runs[:]
        total = len(found)
    else:
        directories = list(folder.runs())
        cut, total = max(0, len(directories) - _SHOWN), len(directories)
        found = [one for one in read_all(folder, directories[cut:]) if archived or not one.archived]
    if as_csv or output:
        from lightex.qviz.runs import Runs

        table = Runs(found, named).table()
        if output:
            write_table(table, output)
        else:
            click.echo(table.to_csv(), nl=False)
    elif as_json:
        print_json([summary.as_json() | {"loggers": _lags(summary)} for summary in found])
    elif not found:
        something = which or where or statuses or total
        if root and not folder.path.is_dir():
            click.echo(f"no runs: there is no folder {folder.path}")
        else:
            click.echo(f"no runs in {folder.path}" + (" match" if something else " yet. Start some with: lx run NAME"))
    else:
        _print(folder, found, [name for name in named if name.kind != "field" or name.name not in _TOLD], cut)


_TOLD = ("id", "experiment", "status", "created", "archived", "reason")


def _print(folder: Root, found: Sequence[Summary], named: Sequence[Name], cut: int) -> None:
    if cut > 0:
        click.echo(f"{cut} earlier runs are not shown (lx ls --all)")
    now = time.time()
    waiting = [s for s in found if s.status == QUEUED and not s.reason]
    waiting.sort(key=lambda s: (-int(s.wants.get("priority") or 0), s.id))
    first = {s.sweep: s.id for s in reversed(waiting)}
    waits = {run: folder.sweep(str(sweep)).waits_for for sweep, run in first.items()}
    cells, headings = [list[str]() for _ in found], list[str]()
    if named:
        from lightex.qviz.runs import column_names, value_of

        cells = [[show(value_of(one, name)) for name in named] for one in found]
        headings = column_names(named)
    rows = [
        [s.short_id, s.experiment, s.status, _when(s, now), *mine, _about(s, waits.get(s.id))]
        for s, mine in zip(found, cells, strict=True)
    ]
    right = range(4, 4 + len(headings))
    print_table(["run", "experiment", "state", "when", *headings, ""], rows, right=right)


def _when(summary: Summary, now: float) -> str:
    since = summary.ended or summary.started or summary.created
    return format_age(now - since) if since else "-"


def _about(summary: Summary, waits: str | None) -> str:
    if waits:
        return f"{label(summary.varied)}  waits for {waits}".strip()
    lags = "".join(
        f"  {lag['sink']} behind" + (f": {lag['error']}" if lag["error"] else "")
        for lag in _lags(summary)
        if lag["behind"] or lag["error"]
    )
    note = f"  # {' '.join(summary.note.split())}" if summary.note else ""
    if summary.status not in ("SUCCEEDED", "RUNNING") and summary.reason:
        return f"{label(summary.varied)}  {' '.join(summary.reason.split())}{lags}{note}".strip()
    lags = f"{lags}  {summary.reason}" if summary.reason else lags  # of one that runs, and nobody looks after it
    return f"{label(summary.varied)}  {in_line(summary.metrics)}{lags}{note}".strip()


def _lags(summary: Summary) -> list[dict[str, Any]]:
    """How far the run's loggers have got."""
    run = RunDir(summary.dir)
    if not run.sinks.is_dir():
        return []
    from lightex.mulogger.delivery import chosen, progress

    return [vars(progress(run, name)) for name in chosen(run)]
