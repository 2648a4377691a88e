"""`lx stop`."""

from __future__ import annotations

import time

import click

from lightex.core.errors import LightexError, NotFoundError, StorageError
from lightex.core.liveness import user
from lightex.core.root import Root, SweepDir
from lightex.core.rundir import ENDED, RunDir
from lightex.core.units import parse_duration

_LOOK = 0.1  # seconds between two looks
_QUIET = 2.0  # seconds after which it is said what is waited for
_SILENT = 15.0  # seconds after their grace that runs should have ended within


@click.command()
@click.argument("which", nargs=-1, required=True, metavar="RUN|SWEEP...")
@click.option("--kill", is_flag=True, help="Do not wait for their grace.")
@click.option("--reason", help="Recorded with each; default: who has asked.")
@click.pass_obj
def command(root: str | None, which: tuple[str, ...], kill: bool, reason: str | None) -> None:
    """End runs, or whole sweeps: each gets SIGTERM and its grace; what has not started is cancelled.

    What goes on though its lx was killed is ended too.
    """
    folder = Root.locate(root)
    sweeps, runs = _meant(folder, which)
    singles: dict[str, list[RunDir]] = {}
    for run in runs.values():
        if _open(run) and (sweep_id := str(run.identity.get("sweep"))) not in sweeps:
            singles.setdefault(sweep_id, []).append(run)
    for sweep_id, some in singles.items():
        if not folder.sweep(sweep_id).path.is_dir():
            raise LightexError(f"run {some[0].short_id} was not started by lx", "end its process yourself")
    # A search between two trials has no run that is open, and is at work all the same.
    at_work = [sweep for sweep in sweeps.values() if sweep.supervised or any(map(_open, sweep.runs()))]
    if not at_work and not singles:
        click.echo("they have all ended already")
        return
    waiting = [run for some in singles.values() for run in some]
    waiting += [run for sweep in at_work for run in sweep.runs() if _open(run)]
    reason = reason or f"lx stop by {user()}"
    wanted: list[tuple[SweepDir, list[str] | None]] = [(sweep, None) for sweep in at_work]
    wanted += [(folder.sweep(sweep_id), [run.id for run in some]) for sweep_id, some in singles.items()]
    for sweep, ids in wanted:
        if sweep.supervised:
            sweep.stop(ids, reason, kill)
        else:
            from lightex.supervision import end_unwatched  # it loads engines

            end_unwatched(sweep, ids, reason, kill)
    _wait(waiting, at_work, kill)
    count = len(waiting)
    names = [*(sweep.id for sweep in at_work), *singles]
    click.echo(f"{count} run{'s' * (count != 1)} ended. Next: lx resume {' '.join(names)}")


def _wait(runs: list[RunDir], sweeps: list[SweepDir], kill: bool) -> None:
    """Wait for the ends, and say so where they do not come at once."""
    grace = 0.0 if kill else max((parse_duration(run.config.get("grace") or 0) for run in runs), default=0.0)
    count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    words = {
        _QUIET: f"waiting for the end of {count}, {grace:g} s at most (Ctrl-C leaves it to lx)",
        grace + _SILENT: "the lx that is at work does not answer: is its machine up? If it was stopped: kill -CONT it",
    }
    began = time.monotonic()
    while any(map(_open, runs)) or any(sweep.supervised for sweep in sweeps):
        for after in [after for after in words if time.monotonic() - began > after]:
            click.echo(words.pop(after), err=True)
        time.sleep(_LOOK)


def _meant(folder: Root, which: tuple[str, ...]) -> tuple[dict[str, SweepDir], dict[str, RunDir]]:
    """The whole sweeps and the single runs that words name.

    Raises:
        NotFoundError: a word names nothing, or several things.
    """
    sweeps: dict[str, SweepDir] = {}
    runs: dict[str, RunDir] = {}
    for word in which:
        try:
            sweep = folder.find_sweep(word)
        except NotFoundError:
            runs |= {run.id: run for run in folder.find(word)}
        else:
            sweeps[sweep.id] = sweep
    return sweeps, runs


def _open(run: RunDir) -> bool:
    try:
        return run.last_event.get("state") not in ENDED
    except StorageError:  # somebody has removed it
        return False
