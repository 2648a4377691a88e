"""`lx compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lightex.cli.output import paint, print_json, print_table
from lightex.cli.selecting import select, where_option
from lightex.cli.writing import check_suffix, write_table
from lightex.core.naming import short_names, show
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.core.units import format_duration
from lightex.qviz.compare import Comparison, best_mean_of, best_of, compare

if TYPE_CHECKING:
    from lightex.qviz.groups import Group

_METRICS_SHOWN = 5
_VALUES_SHOWN = 3
_CHARS_SHOWN = 100


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@where_option
@click.option("--by", metavar="METRIC", help="Order by this metric (default: the config's, or that of held-out data).")
@click.option("--min", "mode", flag_value="min", help="Least is best.")
@click.option("--max", "mode", flag_value="max", help="Greatest is best.")
@click.option("--top", type=click.IntRange(min=1), help="Only the best N.")
@click.option("--each", is_flag=True, help="A row for each run, also where runs differ by their seed only.")
@click.option("--importance", is_flag=True, help="Tell how much each parameter matters for the metric.")
@click.option("--output", "-o", metavar="FILE", help="Write the table to a file: .csv, .json, .jsonl or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON.")
@click.pass_obj
def command(
    root: str | None,
    /,
    which: tuple[str, ...],
    where: str | None,
    by: str | None,
    mode: str | None,
    top: int | None,
    each: bool,
    importance: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Compare runs (default: those of the latest sweep): what differs between them, best first.

    Runs that differ by nothing but a parameter named seed are one row, with mean and standard deviation.
    """
    check_suffix(output)
    folder = Root.locate(root)
    result = compare(select(folder, which, where)[:], by, mode)
    shares = _importance(result) if importance else {}
    if output:
        from lightex.qviz.runs import Runs

        write_table(Runs(result.runs[:top]).table(), output)
    elif as_json:
        about = {"by": result.by, "mode": result.mode, "params": result.params, "same": result.same}
        more = {"importance": shares} if importance else {}
        print_json(about | more | {"runs": [summary.as_json() for summary in result.runs[:top]]})
    elif not result.runs:
        click.echo("no runs match")
    else:
        groups = [] if each else result.groups
        if groups:
            _print_groups(result, groups[:top])
        else:
            _print_runs(result, result.runs[:top])
        _print_rest(result, shares)


def _importance(result: Comparison) -> dict[str, float]:
    from lightex.qviz.importance import importance

    return importance(result.runs, result.by or "", result.params)


def _print_runs(result: Comparison, shown: Sequence[Summary]) -> None:
    metrics = result.metrics[:_METRICS_SHOWN]
    best = {name: best_of(result, name) for name in metrics}
    rows = [
        [run.short_id, run.status, *(show(run.params.get(name)) for name in result.params)]
        + [_marked(run.metrics.get(name), best[name]) for name in metrics]
        + [format_duration(run.duration)]
        for run in shown
    ]
    header = ["run", "state", *short_names(result.params).values(), *_headings(result, metrics), "time"]
    print_table(header, [_padded(row, len(result.params) + 2, len(metrics)) for row in rows], range(2, len(header)))


def _print_groups(result: Comparison, shown: Sequence[Group]) -> None:
    metrics = result.metrics[:_METRICS_SHOWN]
    names = list(shown[0].params)
    best = {name: best_mean_of(result, name) for name in metrics}
    rows = []
    for group in shown:
        ids = f"{group.runs[0].short_id}" + (f" +{len(group.runs) - 1}" if len(group.runs) > 1 else "")
        row = [ids, str(len(group.runs)), *(show(group.params.get(name)) for name in names)]
        for name in metrics:
            found = group.spread(name)
            spread = "" if not found or found.std is None else f" ± {show(found.std)}"
            few = f" ({found.n})" if found and found.n < len(group.runs) else ""
            mark = " *" if found and found.mean == best[name] else ""
            row.append(f"{show(found.mean)}{spread}{few}{mark}" if found else "-")
        rows.append(_padded(row, len(names) + 2, len(metrics)))
    header = ["runs", "n", *short_names(names).values(), *_headings(result, metrics)]
    print_table(header, rows, range(1, len(header)))
    over = [name for name in result.params if name not in names]
    click.echo(f"mean ± standard deviation over {', '.join(over) or 'equal runs'}. Each run: lx compare --each")


def _marked(value: float | None, best: float | None) -> str:
    return show(value) + " *" * (value is not None and value == best)


def _headings(result: Comparison, metrics: Sequence[str]) -> list[str]:
    names = short_names(metrics)
    arrow = {"min": "↓", "max": "↑"}[result.mode]  # as in papers: the way in which it is better
    return [f"{names[name]} {arrow}" if name == result.by else names[name] for name in metrics]


def _padded(row: list[str], first: int, count: int) -> list[str]:
    """Room for the mark of the best in all cells of a column of metrics, so that numbers stand below each other."""
    return [
        cell if not first <= place < first + count or cell.endswith(" *") else f"{cell}  "
        for place, cell in enumerate(row)
    ]


def _print_rest(result: Comparison, shares: dict[str, float]) -> None:
    if len(result.metrics) > _METRICS_SHOWN:
        click.echo(f"{len(result.metrics) - _METRICS_SHOWN} more metrics: lx compare --json")
    if result.same and len(result.runs) > 1:
        same = short_names(result.same)
        click.echo("same for all: " + ", ".join(f"{same[name]}={show(value)}" for name, value in result.same.items()))
    _print_differences([RunDir(run.dir) for run in result.runs])
    if shares:
        click.echo(f"importance for {result.by} (share of its variance)")
        for name, share in shares.items():
            click.echo(f"  {share:5.1%}  {'█' * round(share * 30):<30}  {name}")
    failed = [run for run in result.runs if run.status in ("FAILED", "LOST")]
    if failed:
        click.echo(f"{len(failed)} failed, e.g. {failed[0].short_id}: {failed[0].reason or 'lx why tells more'}")
    best = result.runs[0]
    if result.by and result.by in best.metrics and len(result.runs) > 1:
        click.echo(f"best: {paint(best.short_id, bold=True)}.  Run it again: lx clone {best.short_id} [KEY=VALUE]...")


def _print_differences(runs: Sequence[RunDir]) -> None:
    from lightex.qviz.differences import differences

    if len(runs) < 2:
        return
    found = differences(runs)
    _print_values("config", found.config)
    _print_values("environment", found.environment)
    if len(found.code) > 1:
        parts = [f"{len(made)} of {digest or 'unknown code'}" for digest, made in found.code.items()]
        left, right = list(found.code.values())[:2]
        click.echo(f"code differs: {', '.join(parts)}.  See: lx diff {left[0].short_id} {right[0].short_id}")


def _print_values(what: str, found: dict[str, list[Any]]) -> None:
    if not found:
        return
    parts = []
    for name, values in found.items():
        shown = list(dict.fromkeys(show(value) for value in values))
        more = f" and {len(shown) - _VALUES_SHOWN} more" if len(shown) > _VALUES_SHOWN else ""
        parts.append(f"{name} {' | '.join(shown[:_VALUES_SHOWN])}{more}")
    text = ", ".join(parts)
    cut = f"{text[:_CHARS_SHOWN]}..." if len(text) > _CHARS_SHOWN else text
    click.echo(f"{what} differs: {cut}")
