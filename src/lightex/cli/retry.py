"""`lx retry`."""

from __future__ import annotations

import click

from lightex.cli.options import queue_options
from lightex.cli.work import carry_out, stage_again
from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.rundir import ENDED, SUCCEEDED, RunDir
from lightex.core.summary import status_of
from lightex.dispatcher.queue import Rules
from lightex.jobs import changes_for
from lightex.supervision import reopen


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="RUN... [KEY=VALUE]...")
@queue_options
@click.pass_obj
def command(
    root: str | None,
    /,
    what: tuple[str, ...],
    jobs: int | None,
    max_failures: int | None,
    detach: bool,
    sync_wait: float,
) -> int:
    """Run runs that have ended once more, under the same ids, with the code as it is now.

    \b
    lx retry 9d10-003                            as it was
    lx retry 9d10-003 resources.memory=2GiB      with other resources, timeout, stall, grace, retries or priority

    What changes the result makes another run: lx clone.
    """
    folder = Root.locate(root)
    prefixes = [word for word in what if "=" not in word]
    runs = {run.id: run for prefix in prefixes for run in folder.find(prefix)}
    if not runs:
        raise click.UsageError("name the runs to retry, e.g. lx retry 9d10-003  (lx ls shows them)")
    by_sweep: dict[str, list[RunDir]] = {}
    for run in runs.values():
        state, _ = status_of(run)
        if run.id in prefixes or run.short_id in prefixes or len(runs) == 1:
            _check(run, state)
        if state in ENDED and state != SUCCEEDED:
            by_sweep.setdefault(str(run.identity.get("sweep")), []).append(run)
    if not by_sweep:
        click.echo("none of them has ended without success: lx ls")
        return 0
    changes = {run.id: changes_for(run, [word for word in what if "=" in word]) for run in runs.values()}
    codes = [
        _retry(folder, sweep, chosen, changes, (jobs, max_failures, detach, sync_wait))
        for sweep, chosen in by_sweep.items()
    ]
    return max(codes)


def _check(run: RunDir, state: str) -> None:
    if state == SUCCEEDED:
        raise LightexError(
            f"run {run.short_id} has succeeded", f"lx clone {run.short_id} makes another one with the same config"
        )
    if state not in ENDED:
        raise LightexError(f"run {run.short_id} has not ended: it is {state}", f"lx why {run.short_id}")


def _retry(
    folder: Root, sweep_id: str, runs: list[RunDir], changes: dict[str, dict[str, object]], how: tuple[object, ...]
) -> int:
    sweep = folder.sweep(sweep_id)
    ids = {run.id for run in runs}
    if not sweep.path.is_dir():
        raise LightexError(f"run {runs[0].short_id} was not started by lx", "start it as it was started before")
    if sweep.supervised:
        sweep.request({"do": "retry", "runs": sorted(ids), "changes": changes})
        click.echo(f"{len(ids)} queued again in sweep {sweep.id}, which is at work. Next: lx attach {sweep.id}")
        return 0
    numbers = {number for number, run in enumerate(sweep.runs()) if run.id in ids}
    stage_again(sweep)
    work = reopen(sweep, lambda number, _: number in numbers, changes, pruned_too=True)
    jobs, max_failures, detach, sync_wait = how
    return carry_out(sweep, work, Rules(jobs, max_failures), sync_wait=sync_wait, detach=detach, choose=False)  # type: ignore[arg-type]
