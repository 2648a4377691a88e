"""`lx run`."""

from __future__ import annotations

import sys

import click

from lightex.cli.options import config_arguments, load_registry, plan_from, queue_options
from lightex.cli.work import carry_out
from lightex.core.root import Root
from lightex.dispatcher.queue import Rules
from lightex.experiment import succeeded_before
from lightex.recording import record


@click.command()
@config_arguments
@queue_options
@click.option("--needed", is_flag=True, help="Leave out what has succeeded before with the same config.")
@click.option("--priority", type=int, help="What is higher starts first (overrides the config's priority).")
@click.pass_obj
def command(
    root: str | None,
    /,
    name: str | None,
    overrides: tuple[str, ...],
    jobs: int | None,
    max_failures: int | None,
    needed: bool,
    detach: bool,
    sync_wait: float,
    **choices: object,
) -> int:
    """Run a config, a sweep or a search, as many at once as this machine's resources allow, and record everything.

    \b
    lx run grid -j 2                 a named sweep, two at once
    lx run base hp.lr=0.1,0.01       a sweep made here
    lx run base 'hp.lr=interval(1e-4,1e-1)' --samples 20
    """
    registry = load_registry()
    plan = plan_from(registry, name, overrides, choices)
    folder = Root.locate(root, registry.folder)
    if plan.search and needed:
        raise click.UsageError("--needed is for sweeps: a search chooses by what came out, lx resume goes on with one")
    before = succeeded_before(plan, folder) if not plan.search else set()
    if before and needed:
        plan = plan.without(before)
        click.echo(f"{len(before)} succeeded before with the same config and are left out")
        if not plan.experiments:
            click.echo("nothing is left to run. Next: lx compare")
            return 0
    elif before:
        click.echo(
            f"{len(before)} of {len(plan.experiments)} succeeded before with this config (--needed leaves them out)"
        )
    sweep, work = record(plan, folder, sys.argv)
    return carry_out(sweep, work, Rules(jobs, max_failures), sync_wait=sync_wait, detach=detach)
