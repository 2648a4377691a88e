"""`lx clone`."""

from __future__ import annotations

import sys

import click

from lightex.cli.options import load_registry, queue_options
from lightex.cli.telling import Telling
from lightex.cli.work import carry_out
from lightex.core.root import Root
from lightex.dispatcher.queue import Rules
from lightex.experiment import plan_clone
from lightex.recording import record


@click.command()
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@queue_options
@click.pass_obj
def command(
    root: str | None,
    /,
    run: str,
    overrides: tuple[str, ...],
    jobs: int | None,
    max_failures: int | None,
    detach: bool,
    sync_wait: float,
) -> int:
    """Start a new run with the config of another one, changed as you say, and the code as it is now.

    \b
    lx clone 9d10-003                    the same again
    lx clone 9d10-003 hp.lr=0.2          with another value
    lx clone 9d10-003 hp.seed=1,2,3      and some more
    """
    registry = load_registry()
    folder = Root.locate(root, registry.folder)
    plan = plan_clone(registry, folder.find_run(run), overrides)
    with Telling() as tell:
        sweep, work = record(plan, folder, sys.argv, tell)
    return carry_out(sweep, work, Rules(jobs, max_failures), sync_wait=sync_wait, detach=detach)
