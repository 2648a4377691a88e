"""`lx plot`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from lightex.cli.output import colourful, print_json, terminal_width
from lightex.cli.selecting import select, where_option
from lightex.cli.writing import write_file
from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.qviz.compare import find_metric
from lightex.qviz.curves import AXES, Curve, curves
from lightex.qviz.plots import FILES, MOST, to_file, to_text


@click.command()
@click.argument("metric")
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@where_option
@click.option(
    "-x",
    "axis",
    metavar="AXIS",
    default="step",
    help="What it is drawn against: step (default), time, wall, or a metric.",
)
@click.option("--log", is_flag=True, help="A logarithmic y axis.")
@click.option("--smooth", type=click.FloatRange(0, 1, max_open=True), default=0.0, help="0 (none) to 0.99, by EMA.")
@click.option("--output", "-o", metavar="FILE", help="Write a .png, .svg, .pdf or (self-contained) .html file.")
@click.option("--json", "as_json", is_flag=True, help="The points, as a JSON object per run.")
@click.pass_obj
def command(
    root: str | None,
    /,
    metric: str,
    which: tuple[str, ...],
    where: str | None,
    axis: str,
    log: bool,
    smooth: float,
    output: str | None,
    as_json: bool,
) -> None:
    """Draw a metric of runs (default: those of the latest sweep), a curve each.

    \b
    lx plot loss                      lx plot loss 3f9a -o loss.png
    lx plot val.acc -w 'order by val.acc desc limit 5' --smooth 0.6
    lx plot val.acc -x tokens         against the value that another metric has at the same step
    """
    suffix = Path(output).suffix.lower() if output else ""
    if output and suffix not in (*FILES, ".html"):
        raise LightexError(f"cannot tell the format of {output}", f"end its name in {', '.join(FILES)} or .html")
    runs = select(Root.locate(root), which, where)[:]
    if not runs:
        click.echo("no runs match")
        return
    name = find_metric(metric, runs)
    axis = axis if axis in AXES else find_metric(axis, runs, "an axis is step, time, wall or a metric; ")
    if suffix == ".html":
        from lightex.web.export import chart_page

        page = chart_page(runs, [name], axis, log, smooth)
        what = f"{name} of {len(runs)} run{'s' * (len(runs) != 1)}"
        write_file(Path(str(output)), lambda path: path.write_text(page, encoding="utf-8"), what)
        return
    found = [curve for curve in curves(runs, name, axis, smooth) if curve.x]
    if as_json:
        print_json([vars(curve) for curve in found])
    elif not found:
        where = "" if axis in AXES else f" at a step at which, or before which, there is one of '{axis}'"
        raise LightexError(f"'{name}' has no finite value in these runs{where}")
    elif output:
        curves_of = f"{len(found)} curve{'s' * (len(found) != 1)} of {name}"
        write_file(Path(output), lambda path: to_file(path, found, name, axis, log), curves_of)
        if len(found) > MOST:
            click.echo("too many for a legend: name some, or -o FILE.html, where each is told at the pointer")
        _tell_left_out(found, axis)
    else:
        _draw(found, name, axis, log)
        _tell_left_out(found, axis)


def _draw(found: Sequence[Curve], metric: str, axis: str, log: bool) -> None:
    width = terminal_width()
    height = max(8, min(24, shutil.get_terminal_size((80, 24)).lines - len(found[:MOST]) - 8))
    if not sys.stdout.isatty():
        height = 18
    click.echo(to_text(found[:MOST], metric, axis, log, width, height, colourful()), color=True)
    if len(found) > MOST:
        click.echo(f"{len(found) - MOST} more runs are not drawn: name some, or --where; -o FILE draws them all")


def _tell_left_out(found: Sequence[Curve], axis: str) -> None:
    if left_out := sum(curve.left_out for curve in found):
        more = "" if axis == "step" else f", or their {axis} is not known"
        click.echo(f"{left_out} points are not finite{more}: they are left out")
