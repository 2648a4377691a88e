"""`lx resume`."""

from __future__ import annotations

import click

from lightex.cli.options import sync_wait_option
from lightex.cli.work import carry_out
from lightex.core.root import Root
from lightex.core.rundir import SUCCEEDED
from lightex.experiment import reopen


@click.command()
@click.argument("sweep", required=False)
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="How many at once (default: as the resources allow).")
@click.option("--fail-fast", is_flag=True, help="Stop all at the first failure.")
@click.option("--detach", "-d", is_flag=True, help="Return at once; it goes on without this terminal.")
@sync_wait_option
@click.pass_obj
def command(
    root: str | None, sweep: str | None, jobs: int | None, fail_fast: bool, detach: bool, sync_wait: float
) -> int:
    """Run what of a sweep (default: the latest) has not succeeded, whatever ended it, with the code as it is now.

    What still runs, because its lx was killed, is looked after again.
    """
    found = Root.locate(root).find_sweep(sweep)
    work = reopen(found, again=True)
    succeeded = work.left[SUCCEEDED]
    if not work.jobs and not work.adopted:
        click.echo(f"sweep {found.id}: nothing to resume, {succeeded} succeeded. Next: lx compare {found.id}")
        return 0
    running = f", {len(work.adopted)} still run" if work.adopted else ""
    click.echo(f"sweep {found.id}: {succeeded} succeeded before{running}, {len(work.jobs)} to run")
    name = str(found.about.get("config_name"))
    return carry_out(found, work, name=name, slots=jobs, fail_fast=fail_fast, sync_wait=sync_wait, detach=detach)
