"""`lx resume`."""

from __future__ import annotations

import click

from lightex.cli.options import queue_options
from lightex.cli.output import heard_or_not
from lightex.cli.work import carry_out, stage_again
from lightex.core.root import Root, SweepDir
from lightex.core.rundir import FAILED, LOST, SUCCEEDED
from lightex.dispatcher.queue import Rules
from lightex.searching import Trials, trials_left
from lightex.supervision import PRUNED, reopen


@click.command()
@click.argument("sweep", required=False)
@click.option("--failed", is_flag=True, help="Only what has failed or was lost, not what was cancelled.")
@click.option("--only", metavar="N,N-M...", help="Only these experiments of the sweep, by their numbers.")
@queue_options
@click.pass_obj
def command(
    root: str | None,
    /,
    sweep: str | None,
    failed: bool,
    only: str | None,
    jobs: int | None,
    max_failures: int | None,
    detach: bool,
    sync_wait: float,
) -> int:
    """Run what of a sweep (default: the latest) has not succeeded, whatever ended it, with the code as it is now.

    What still runs, because its lx was killed, is looked after again. A sweep that was paused goes on.
    """
    found = Root.locate(root).find_sweep(sweep)
    if found.supervised and found.paused:
        found.paused = False
        click.echo(f"sweep {found.id} goes on. Next: lx attach {found.id}")
        return 0
    numbers = _numbers(only, found) if only is not None else None

    def again(number: int, state: str) -> bool:
        wanted = state in (FAILED, LOST) if failed else state != SUCCEEDED
        return wanted and (numbers is None or number in numbers)

    choose = not failed and numbers is None
    trials = trials_left(found) if choose else 0  # first: lxconfig may not be valid any more
    stage_again(found)
    work = reopen(found, again)
    found.paused = False
    succeeded, pruned = work.left[SUCCEEDED], work.left[PRUNED]
    others = work.left.total() - succeeded - pruned
    left = (f", {pruned} were given up" if pruned else "") + (f", {others} are left as they are" if others else "")
    if not work.all_jobs and not trials:
        Trials.of(found)  # runs may have ended while nothing watched them: its study is told
        found.release()
        click.echo(f"sweep {found.id}: nothing to resume, {succeeded} succeeded{left}. Next: lx compare {found.id}")
        return 0
    running = f", {len(work.adopted)} still run" if work.adopted else ""
    more = f", {trials} trials to choose" if trials else ""
    with heard_or_not():
        click.echo(f"sweep {found.id}: {succeeded} succeeded before{running}, {len(work.jobs)} to run{more}{left}")
    return carry_out(found, work, Rules(jobs, max_failures), sync_wait=sync_wait, detach=detach, choose=choose)


def _numbers(text: str, sweep: SweepDir) -> set[int]:
    """3,7-9 as {3, 7, 8, 9}: the numbers that end the runs' ids."""
    last = len(sweep.runs()) - 1
    numbers: set[int] = set()
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if not low.isdigit() or not (high or low).isdigit():
            raise click.UsageError(f"--only {text}: '{part}' is not a number; write e.g. --only 3,7-9")
        numbers |= set(range(int(low), int(high or low) + 1))
    if beyond := sorted(number for number in numbers if number > last):
        raise click.UsageError(f"--only {text}: sweep {sweep.id} has experiments 0 to {last}, not {beyond[0]}")
    return numbers
