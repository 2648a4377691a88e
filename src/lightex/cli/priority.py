"""`lx priority`."""

from __future__ import annotations

import click

from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.rundir import QUEUED


@click.command()
@click.argument("priority", type=int)
@click.argument("which", nargs=-1, required=True, metavar="RUN|SWEEP...")
@click.pass_obj
def command(root: str | None, /, priority: int, which: tuple[str, ...]) -> None:
    """Give runs that have not started another priority: the higher, the sooner; 0 is usual. It holds among all sweeps.

    \b
    lx priority 10 3f9a          a whole sweep before others
    lx priority -- -5 3f9a-007   one run behind them
    """
    folder = Root.locate(root)
    by_sweep: dict[str, list[str]] = {}
    for run in {run.id: run for word in which for run in folder.find(word)}.values():
        if run.last_event.get("state") == QUEUED:
            by_sweep.setdefault(str(run.identity.get("sweep")), []).append(run.id)
    if not by_sweep:
        raise LightexError("none of these runs waits to be started", "lx ls shows their states")
    for sweep_id, runs in by_sweep.items():
        folder.sweep(sweep_id).prioritize(runs, priority)
    count = sum(map(len, by_sweep.values()))
    click.echo(f"priority {priority} for {count} run{'s' * (count != 1)} that wait{'s' * (count == 1)}")
