"""`lx stop`."""

from __future__ import annotations

import time

import click

from lightex.core.errors import LightexError
from lightex.core.liveness import user
from lightex.core.root import Root
from lightex.core.rundir import ENDED, RunDir

_LOOK = 0.1  # seconds between two looks


@click.command()
@click.argument("which", nargs=-1, required=True, metavar="RUN|SWEEP...")
@click.option("--kill", is_flag=True, help="Do not wait for their grace.")
@click.pass_obj
def command(root: str | None, which: tuple[str, ...], kill: bool) -> None:
    """End runs, or whole sweeps: each gets SIGTERM and its grace; what has not started is cancelled."""
    folder = Root.locate(root)
    by_sweep: dict[str, list[RunDir]] = {}
    for run in {run.id: run for prefix in which for run in folder.find(prefix)}.values():
        if run.events()[-1].get("state") not in ENDED:
            by_sweep.setdefault(str(run.identity.get("sweep")), []).append(run)
    if not by_sweep:
        click.echo("they have all ended already")
        return
    for sweep_id, runs in by_sweep.items():
        sweep = folder.sweep(sweep_id)
        if not sweep.path.is_dir():
            raise LightexError(f"run {runs[0].short_id} was not started by lx", "end its process yourself")
        if not sweep.supervised:
            raise LightexError(f"nothing is at work on sweep {sweep_id}", f"lx resume {sweep_id} takes it up again")
        open_runs = [run.id for run in sweep.runs() if run.events()[-1].get("state") not in ENDED]
        named = any(sweep_id.startswith(prefix) for prefix in which)
        everything = named and {run.id for run in runs} == set(open_runs)  # more trials of a search may yet come
        ids = None if everything else [run.id for run in runs]
        sweep.request({"do": "stop", "runs": ids, "reason": f"lx stop by {user()}", "kill": kill})
    waiting = [run for runs in by_sweep.values() for run in runs]
    count = len(waiting)
    while waiting:
        time.sleep(_LOOK)
        waiting = [run for run in waiting if run.events()[-1].get("state") not in ENDED]
    click.echo(f"{count} run{'s' * (count != 1)} ended. Next: lx resume {' '.join(by_sweep)}")
