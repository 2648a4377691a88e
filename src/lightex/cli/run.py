"""`lx run`."""

from __future__ import annotations

import sys

import click

from lightex.cli.options import config_arguments, load_registry, plan_from, queue_options
from lightex.cli.output import heard_or_not
from lightex.cli.telling import Telling
from lightex.cli.work import carry_out
from lightex.core.naming import label
from lightex.core.root import Root, SweepDir
from lightex.dispatcher.queue import Rules
from lightex.experiment import succeeded_before
from lightex.jobs import load_engine
from lightex.recording import record
from lightex.supervision import Work


@click.command()
@config_arguments
@queue_options
@click.option("--needed", is_flag=True, help="Leave out what has succeeded before with the same config.")
@click.option(
    "--print-manifest",
    is_flag=True,
    help="Start nothing; print what runs each experiment without lx (shell, YAML, ...).",
)
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
    print_manifest: bool,
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
    if plan.search and print_manifest:
        raise click.UsageError("--print-manifest is for sweeps: a search chooses its experiments as it goes")
    before = succeeded_before(plan, folder) if not plan.search and (needed or not print_manifest) else set()
    if before and needed:
        plan = plan.without(before)
        with heard_or_not():
            click.echo(f"{len(before)} succeeded before with the same config and are left out")
        if not plan.experiments:
            click.echo("nothing is left to run. Next: lx compare")
            return 0
    elif before:
        told = f"{len(before)} of {len(plan.experiments)} succeeded before with this config (--needed leaves them out)"
        with heard_or_not():
            click.echo(told)
    with Telling() as tell:
        sweep, work = record(plan, folder, sys.argv, tell)
    if print_manifest:
        return _print_manifests(sweep, work)
    return carry_out(sweep, work, Rules(jobs, max_failures), sync_wait=sync_wait, detach=detach)


def _print_manifests(sweep: SweepDir, work: Work) -> int:
    """Each run is recorded and waits, so that what is printed finds its directory."""
    sweep.release()
    engine = load_engine(str(sweep.about["engine"]))
    for job in work.jobs:
        click.echo(f"# {job.run.short_id}  {label(job.run.identity.get('varied') or {})}".rstrip())
        click.echo(engine.manifest(job))
    many = len(work.jobs) != 1
    click.echo(
        f"{len(work.jobs)} run{'s are' if many else ' is'} recorded and not started. "
        f"Next: what is above, by hand · lx resume {sweep.id} · lx rm {sweep.id}",
        err=True,
    )
    return 0
