"""`lx top`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from lightex.core.errors import LightexError, needing
from lightex.core.root import Root

if TYPE_CHECKING:
    from lightex.mon.state import Condition


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.pass_obj
def command(root: str | None, /, which: tuple[str, ...]) -> int:
    """Watch what every job is doing, in the terminal: what runs, waits and ended, sweeps, this machine.

    Only some runs or sweeps, if they are named. `?` shows the keys: details, logs, why, stop, retry, clone. `q` leaves,
    and what runs goes on.
    """
    if os.environ.get("TERM") == "dumb":
        raise LightexError("lx top moves the cursor, which this terminal (TERM=dumb) cannot", "lx ls lists runs")
    if not _is_terminal():
        raise LightexError(
            "lx top draws on a terminal, and this is none", "lx ls lists runs (--json), lx attach follows a sweep"
        )
    folder = Root.locate(root)
    within = _within(folder, which)
    with needing("lx top needs", "'lightex[tui]'"):
        from lightex.mon.top.app import Top
    from lightex.dispatcher.why import why
    from lightex.machine import Machines
    from lightex.mon.top.watch import Given

    app = Top(Given(folder, Machines().look, why, within, " ".join(which)))
    app.run(mouse=False)  # the terminal's own selection of text goes on working
    return app.return_code or 0


def _is_terminal() -> bool:
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _within(folder: Root, which: tuple[str, ...]) -> Condition:
    """What holds of the runs that words name; of a sweep, also of those that are still to come.

    Raises:
        NotFoundError: a word names nothing, or several things.
    """
    sweeps, runs = list[str](), list[str]()
    for word in which:
        found = folder.find(word)
        sweep = found[0].identity.get("sweep")
        if sweep and (len(found) > 1 or sweep == word):
            sweeps.append(str(sweep))
        else:
            runs += [run.id for run in found]
    if not which:
        return "1", ()
    marks = ", ".join("?" * len(sweeps)), ", ".join("?" * len(runs))
    return f"sweep IN ({marks[0]}) OR id IN ({marks[1]})", (*sweeps, *runs)
