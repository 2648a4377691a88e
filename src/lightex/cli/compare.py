"""`lx compare`."""

from __future__ import annotations

from typing import Any

import click

from lightex.cli.output import print_json, print_table
from lightex.core.naming import short_names, show
from lightex.core.root import Root
from lightex.core.summary import Summary, read_all
from lightex.core.units import format_duration
from lightex.qviz.compare import Comparison, compare

_METRICS_SHOWN = 5


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.option("--by", metavar="METRIC", help="Order by this metric (default: the config's, or that of held-out data).")
@click.option("--min", "mode", flag_value="min", help="Least is best.")
@click.option("--max", "mode", flag_value="max", help="Greatest is best.")
@click.option("--top", type=click.IntRange(min=1), help="Only the best N.")
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON.")
@click.pass_obj
def command(
    root: str | None, /, which: tuple[str, ...], by: str | None, mode: str | None, top: int | None, as_json: bool
) -> None:
    """Compare runs (default: those of the latest sweep): what differs between them, best first."""
    folder = Root.locate(root)
    runs = [run for prefix in which for run in folder.find(prefix)] or folder.latest()
    result = compare(read_all(folder, {run.id: run for run in runs}.values()), by, mode)
    shown = result.runs[:top]
    if as_json:
        about = {"by": result.by, "mode": result.mode, "params": result.params, "same": result.same}
        print_json(about | {"runs": [summary.as_json() for summary in shown]})
        return
    _print(result, shown)


def _print(result: Comparison, shown: list[Summary]) -> None:
    metrics = result.metrics[:_METRICS_SHOWN]
    params, names = short_names(result.params), short_names(metrics)
    arrow = {"min": "↑", "max": "↓"}[result.mode]  # the way in which it grows down the table is the way of the arrow
    header = [
        "run",
        "state",
        *params.values(),
        *(f"{names[m]} {arrow}" if m == result.by else names[m] for m in metrics),
    ]
    rows = [
        [run.short_id, run.status, *(_cell(run.params, name) for name in params)]
        + [_cell(run.metrics, name) for name in metrics]
        + [format_duration(run.duration) if run.duration is not None else "-"]
        for run in shown
    ]
    print_table([*header, "time"], rows, right=range(2, len(header) + 1))
    if len(result.metrics) > len(metrics):
        click.echo(f"{len(result.metrics) - len(metrics)} more metrics: lx compare --json")
    if result.same and len(result.runs) > 1:
        same = short_names(result.same)
        click.echo("same for all: " + ", ".join(f"{same[name]}={show(value)}" for name, value in result.same.items()))
    failed = [run for run in shown if run.status in ("FAILED", "LOST")]
    if failed:
        click.echo(f"{len(failed)} failed, e.g. {failed[0].short_id}: {failed[0].reason}")


def _cell(values: dict[str, Any], name: str) -> str:
    return show(values[name]) if name in values else "-"
