"""`lx why`."""

from __future__ import annotations

import click

from lightex.cli.output import COLOURS, paint, print_json
from lightex.core.escapes import plain
from lightex.core.naming import label
from lightex.core.root import Root
from lightex.core.rundir import QUEUED
from lightex.core.summary import Why
from lightex.dispatcher.why import why

_SHOWN = 10  # lines of output


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@click.pass_obj
def command(root: str | None, /, run: str, as_json: bool) -> None:
    """Say why a run ended as it did, or what it waits for and who holds that; and what to do about it."""
    found = why(Root.locate(root).find_run(run))
    if as_json:
        print_json(found.summary.as_json() | {key: value for key, value in vars(found).items() if key != "summary"})
        return
    summary = found.summary
    state = paint(summary.status, COLOURS.get(summary.status))
    reason = f": {plain(summary.reason)}" if summary.reason and summary.status != QUEUED else ""
    click.echo(f"{paint(summary.short_id, bold=True)}  {summary.experiment}  {label(summary.varied)}  {state}{reason}")
    for fact in found.facts:
        click.echo(f"  {plain(fact)}")
    _lines(found)
    for number, step in enumerate(found.steps):
        click.echo(f"  {'try' if number == 0 else '':<10}  {step}")


def _lines(found: Why) -> None:
    for number, line in enumerate(found.last_lines[-_SHOWN:]):
        click.echo(f"  {'last lines' if number == 0 else '':<10}  {plain(line)}")
