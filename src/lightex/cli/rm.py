"""`lx rm`."""

from __future__ import annotations

import shutil

import click

from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.rundir import ENDED
from lightex.core.summary import read_all


@click.command()
@click.argument("which", nargs=-1, required=True, metavar="RUN|SWEEP...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(root: str | None, which: tuple[str, ...], yes: bool) -> None:
    """Remove runs, or whole sweeps, with all that they kept. Runs that have not ended are refused."""
    folder = Root.locate(root)
    runs = list({run.id: run for prefix in which for run in folder.find(prefix)}.values())
    for summary in read_all(folder, runs):
        if summary.status not in ENDED and folder.sweep(summary.sweep or "-").supervised:
            raise LightexError(
                f"run {summary.short_id} is {summary.status}", f"stop it first: lx stop {summary.short_id}"
            )
        if summary.status == "RUNNING":
            raise LightexError(f"run {summary.short_id} is RUNNING", "end its process first")
    names = ", ".join(run.short_id for run in runs[:5]) + (", ..." if len(runs) > 5 else "")
    if not yes:
        click.confirm(f"Remove {len(runs)} run{'s' * (len(runs) != 1)} ({names}) for good?", abort=True)
    for run in runs:
        run.remove()
    for sweep in folder.sweeps():
        if not sweep.supervised and not sweep.runs():
            shutil.rmtree(sweep.path)
    click.echo(f"removed {len(runs)} run{'s' * (len(runs) != 1)}")
