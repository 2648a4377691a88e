"""Carrying out the work of a sweep: with this terminal, or detached from it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import click

from lightex import supervision
from lightex.cli.loggers import settle
from lightex.cli.output import heard_or_not, print_error
from lightex.cli.progress import Progress
from lightex.cli.telling import Telling
from lightex.core.errors import LightexError, UnreachableError
from lightex.core.root import SweepDir
from lightex.core.rundir import SUCCEEDED
from lightex.dispatcher.keeper import keep
from lightex.dispatcher.queue import Rules
from lightex.searching import Trials
from lightex.supervision import PRUNED, Work, reopen, supervise

_AGAIN = 1.0  # seconds between two tries to reach what runs the jobs


def carry_out(sweep: SweepDir, work: Work, rules: Rules, *, sync_wait: float, detach: bool, choose: bool = True) -> int:
    """Run the work of a sweep to its end; returns the exit code.

    A keeper stands above the process that does it: where that is killed, another one goes on.

    Args:
        sweep: the sweep, whose dispatcher this process is.
        work: what to do of it.
        rules: how.
        sync_wait: seconds to wait at the end for its loggers.
        detach: whether to return at once.
        choose: whether a search chooses further trials.
    """

    def once(again: bool) -> int:
        return _supervised(sweep, _reopened(sweep) if again else work, rules, sync_wait, choose)

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
    count = len(work.all_jobs) or int(sweep.about["total"])  # of a search, none is there yet
    name = sweep.about.get("config_name")
    with heard_or_not():
        click.echo(f"{name}  {sweep.id}  {count} experiment{'s' * (count != 1)}, detached from this terminal")
        click.echo(f"Next: lx attach {sweep.id} · lx stop {sweep.id} · lx ls {sweep.id}")
    return 0


def stage_again(sweep: SweepDir) -> None:
    """Bring what a sweep that is to go on has elsewhere, and say so.

    Raises:
        LightexError: it cannot be brought; the sweep is left as it is.
    """
    with Telling() as tell:
        supervision.stage_again(sweep, tell)


def _supervised(sweep: SweepDir, work: Work, rules: Rules, sync_wait: float, choose: bool) -> int:
    others = work.left.total() - work.left[SUCCEEDED] - work.left[PRUNED]
    trials = Trials.of(sweep)
    if trials and not choose:
        trials.close()
    total = len(work.all_jobs) + (trials.left if trials else 0)
    if not total:
        return 1 if others else 0
    news = (lambda: trials.news) if trials else str
    with Progress(str(sweep.about.get("config_name")), sweep.id, total, news) as progress:
        watch = trials.watch(progress) if trials else progress
        ended, stopped, left = supervise(sweep, work, replace(rules, source=trials), watch)
    code = progress.conclude(ended, stopped)
    if trials and trials.stuck:
        code = trials.stuck.exit_code
    if left:
        code = code or left.exit_code
    with heard_or_not():
        if trials and trials.silent:
            click.echo(f"warning: {trials.silent} runs succeeded without logging {trials.metric}", err=True)
        if trials and trials.stuck:
            print_error(trials.stuck)
        if left:
            print_error(left)
            click.echo("  what was written is in the cache (docs/storage.md), the next run there sends it", err=True)
    with heard_or_not():
        settle(sweep.runs() if trials else [job.run for job in work.all_jobs], sync_wait, sweep.id)
    return code or (1 if others else 0)


def _reopened(sweep: SweepDir) -> Work:
    """The work of a supervisor that was killed; what runs it may be in trouble too, and is waited for."""
    told = False
    while True:
        try:
            return reopen(sweep)
        except UnreachableError as error:
            if not told:
                print_error(error)
                click.echo("  it is waited for; Ctrl-C gives up", err=True)
            told = True
            time.sleep(_AGAIN)


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
