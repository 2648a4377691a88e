"""`lx attach`."""

from __future__ import annotations

from collections import Counter

import click

from lightex.cli.output import COLOURS, paint
from lightex.core.follow import follow, line
from lightex.core.root import Root, SweepDir


@click.command()
@click.argument("sweep", required=False)
@click.pass_obj
def command(root: str | None, sweep: str | None) -> int:
    """Follow a sweep (default: the latest) that runs elsewhere, until it ends. Ctrl-C leaves it running."""
    found = Root.locate(root).find_sweep(sweep)
    try:
        return _follow(found)
    except KeyboardInterrupt:
        click.echo(f"\nsweep {found.id} goes on. Next: lx attach {found.id} · lx stop {found.id}")
        return 0


def _follow(sweep: SweepDir) -> int:
    total = int(sweep.about["total"])
    about = f"{sweep.about.get('config_name')}  {sweep.id}  {total} experiment{'s' * (total != 1)}"
    click.echo(f"{about}; each is told as it ends (Ctrl-C leaves them at work; lx top shows what runs)")
    ended: Counter[str] = Counter()
    for run, last in follow(sweep):
        ended["given up" if last.get("cause") == "pruned" else str(last["state"]).lower()] += 1
        click.echo(line(run, last, ended.total(), total, lambda state: paint(state, COLOURS.get(state))))
    runs = len(sweep.runs())
    counts = ", ".join(f"{count} {state}" for state, count in ended.items()) or "nothing has ended"
    click.echo(f"{counts}. Next: lx compare {sweep.id}" + _rest(sweep, runs - ended.total(), ended))
    return 0 if _well(ended) == runs else 1


def _rest(sweep: SweepDir, open_runs: int, ended: Counter[str]) -> str:
    if open_runs:
        return f" · lx resume {sweep.id}  (nothing is at work on {open_runs} of its runs)"
    return f" · lx resume {sweep.id}" if ended.total() != _well(ended) else ""


def _well(ended: Counter[str]) -> int:
    return ended["succeeded"] + ended["given up"]
