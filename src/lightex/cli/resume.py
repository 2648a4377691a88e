"""`lx resume`."""

from __future__ import annotations

import click

from lightex.cli.loggers import settle
from lightex.cli.options import sync_wait_option
from lightex.cli.progress import Progress
from lightex.core.naming import label
from lightex.core.root import Root
from lightex.core.rundir import RUNNING, SUCCEEDED
from lightex.experiment import reopen, supervise


@click.command()
@click.argument("sweep", required=False)
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="How many at once (default: as the resources allow).")
@click.option("--fail-fast", is_flag=True, help="Stop all at the first failure.")
@sync_wait_option
@click.pass_obj
def command(root: str | None, sweep: str | None, jobs: int | None, fail_fast: bool, sync_wait: float) -> int:
    """Run what of a sweep (default: the latest) has not succeeded, whatever ended it, with the code as it is now."""
    folder = Root.locate(root)
    found = folder.find_sweep(sweep)
    queue, left = reopen(found)
    if left[RUNNING]:
        click.echo(
            f"{left[RUNNING]} still run without a dispatcher and are left alone; lx resume again when they ended"
        )
    if not queue:
        click.echo(f"sweep {found.id}: nothing to resume, {left[SUCCEEDED]} succeeded. Next: lx compare {found.id}")
        return 0
    click.echo(f"sweep {found.id}: {left[SUCCEEDED]} succeeded before, {len(queue)} to run")
    labels = {job.run.id: label(job.run.identity.get("varied") or {}) for job in queue}
    with Progress(str(found.about.get("config_name")), found.id, len(queue), labels) as progress:
        ended, stopped = supervise(found, queue, slots=jobs, fail_fast=fail_fast, watch=progress)
    code = progress.conclude(ended, stopped)
    settle([job.run for job in queue], sync_wait, found.id)
    return code
