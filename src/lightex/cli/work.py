"""Carrying out the work of a sweep: with this terminal, or detached from it."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from lightex.cli.loggers import settle
from lightex.cli.output import print_error
from lightex.cli.progress import Progress
from lightex.core.errors import LightexError
from lightex.core.naming import label
from lightex.core.root import SweepDir
from lightex.core.rundir import SUCCEEDED
from lightex.dispatcher.keeper import keep
from lightex.dispatcher.queue import Rules
from lightex.supervision import Work, reopen, supervise


def carry_out(sweep: SweepDir, work: Work, rules: Rules, *, sync_wait: float, detach: bool) -> int:
    """Run the work of a sweep to its end; returns the exit code.

    A keeper stands above the process that does it: where that is killed, another one goes on.
    """

    def once(again: bool) -> int:
        return _supervised(sweep, reopen(sweep) if again else work, rules, sync_wait)

    def all_of_it() -> int:
        try:
            return keep(lambda again: _guarded(lambda: once(again)), sweep.ledger)
        finally:
            sweep.release()

    if not detach:
        return all_of_it()
    if os.fork() == 0:
        code = 1
        try:
            _leave_terminal(sweep)
            code = all_of_it()
        finally:
            os._exit(code)
    sweep.release()
    count = len(work.all_jobs)
    name = sweep.about.get("config_name")
    click.echo(f"{name}  {sweep.id}  {count} experiment{'s' * (count != 1)}, detached from this terminal")
    click.echo(f"Next: lx attach {sweep.id} · lx stop {sweep.id} · lx ls {sweep.id}")
    return 0


def _supervised(sweep: SweepDir, work: Work, rules: Rules, sync_wait: float) -> int:
    jobs = work.all_jobs
    others = sum(work.left.values()) - work.left[SUCCEEDED]
    if not jobs:
        return 1 if others else 0
    labels = {job.run.id: label(job.run.identity.get("varied") or {}) for job in jobs}
    with Progress(str(sweep.about.get("config_name")), sweep.id, len(jobs), labels) as progress:
        ended, stopped = supervise(sweep, work, rules, progress)
    code = progress.conclude(ended, stopped)
    settle([job.run for job in jobs], sync_wait, sweep.id)
    return code or (1 if others else 0)


def _guarded(function: Callable[[], int]) -> int:
    try:
        return function()
    except LightexError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _leave_terminal(sweep: SweepDir) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(sweep.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(null, 0)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(null)
    os.close(log)
