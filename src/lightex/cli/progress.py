"""What `lx run` shows while it runs: a live picture on a terminal, one line per ended run elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lightex.cli.output import COLOURS, heard_or_not, paint
from lightex.core.escapes import plain
from lightex.core.naming import in_line, label
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, QUEUED, RUNNING, SUCCEEDED
from lightex.core.summary import latest_metrics
from lightex.core.units import format_duration
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue

if TYPE_CHECKING:
    from rich.live import Live

_REDRAW = 0.5  # seconds
_FAILURES_SHOWN = 3
_RUNNING_SHOWN = 12


class Progress:
    """Watches a queue. Use as a context manager; `conclude` says how it ended.

    Args:
        name: of the config.
        sweep: its id.
        total: how many experiments there will be.
        news: more to tell, such as what is best so far.
    """

    def __init__(self, name: str, sweep: str, total: int, news: Callable[[], str] = str) -> None:
        self.name, self.sweep, self.total, self.news = name, sweep, total, news
        self.pruned = 0
        self.began = time.time()
        self.failures: deque[tuple[Job, JobState]] = deque(maxlen=_FAILURES_SHOWN)
        self._stopping = self._hindered = False
        self._drawn = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(auto_refresh=False, transient=True)
            self._live.start()
        else:
            with heard_or_not():
                click.echo(f"{self.name}  {self.sweep}  {self.total} experiment{'s' * (self.total != 1)}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with heard_or_not():
                self._live.stop()

    def __call__(self, queue: Queue, job: Job | None, state: JobState | None) -> None:
        """Take note of a change (see `dispatcher.queue.Watcher`)."""
        if job and state and state.state in ENDED:
            self.pruned += state.cause == "pruned"
            if state.state in (FAILED, LOST):
                self.failures.append((job, state))
        with heard_or_not():
            self._tell(queue, job, state)

    def _tell(self, queue: Queue, job: Job | None, state: JobState | None) -> None:
        if queue.stopping and not self._stopping:
            self._stopping = True
            grace = max((entry.job.grace for entry in queue.running.values()), default=0)
            again = " (Ctrl-C again kills them)" if queue.stopping == "Ctrl-C" else ""
            self._say(f"stopping ({queue.stopping}): running experiments get {grace:g} s to end{again}", err=True)
        if queue.hindrance and not self._hindered:
            self._say(f"{queue.hindrance}\n  until then it waits: what runs goes on, nothing new starts", err=True)
        self._hindered = queue.hindrance is not None
        if job and state and state.state == QUEUED:
            self._say(f"{'':>9}  {paint('QUEUED   ')}  {job.run.short_id}  {state.reason}")
        if job and state and state.state in ENDED and not (state.state == CANCELLED and self._stopping):
            self._ended(queue, job, state)
        if self._live and time.time() - self._drawn > _REDRAW:
            self._drawn = time.time()
            self._live.update(self._picture(queue), refresh=True)

    def conclude(self, ended: Counter[str], stopped: str | None) -> int:
        """Say how it ended and what to do next; returns the exit code."""
        failed = ended[FAILED] + ended[LOST]
        parts = [paint(f"{ended[SUCCEEDED]} succeeded", "green" if ended[SUCCEEDED] else None)]
        parts += [paint(f"{failed} failed", "red")] if failed else []
        parts += [f"{self.pruned} given up"] if self.pruned else []
        cancelled = ended[CANCELLED] - self.pruned
        parts += [paint(f"{cancelled} cancelled", "yellow")] if cancelled else []
        steps = [f"lx compare {self.sweep}"] if ended[SUCCEEDED] else []
        there = [job.run for job, _ in self.failures if job.run.path.exists()]
        steps += [f"lx why {there[-1].short_id}"] if there else []
        steps += [f"lx resume {self.sweep}"] if failed or cancelled else []
        took = format_duration(time.time() - self.began)
        with heard_or_not():
            if news := self.news():
                click.echo(news)
            click.echo(f"{', '.join(parts)} in {took}. Next: {' · '.join(steps)}")
        if stopped == "Ctrl-C":
            return 130
        return 0 if ended[SUCCEEDED] + self.pruned == self.total else 1

    def _ended(self, queue: Queue, job: Job, state: JobState) -> None:
        count = f"{sum(queue.ended.values())}/{self.total}"
        reason = f"  {plain(state.reason)}" if state.reason else ""
        reason += f"  (lx why {job.run.short_id})" if state.state in (FAILED, LOST) else ""
        if self._live and state.state == SUCCEEDED:
            return
        name = paint(f"{state.state:<9}", COLOURS.get(state.state))
        self._say(f"{count:>9}  {name}  {job.run.short_id}  {_label(job)}{reason}")

    def _say(self, text: str, err: bool = False) -> None:
        if self._live:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(text))
        else:
            click.echo(text, err=err)

    def _picture(self, queue: Queue) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = [self._headline(queue)]
        entries = list(queue.running.values())
        for entry in entries[:_RUNNING_SHOWN]:
            run = entry.job.run
            since = format_duration(time.monotonic() - entry.since)
            doing = paint(f"{'ENDING' if entry.ending else entry.state:<9}", COLOURS.get(entry.state))
            shown = entry.waits_for or in_line(latest_metrics(run))
            lines.append(f"  {doing}  {run.short_id}  {_label(entry.job)}  {since}  {shown}")
        if len(entries) > _RUNNING_SHOWN:
            lines.append(f"             and {len(entries) - _RUNNING_SHOWN} more")
        if queue.waiting:
            why = f"the next waits for {queue.waits_for}" if queue.waits_for else ""
            lines.append(f"  QUEUED     {queue.waiting}  {why}")
        return Group(*(Text.from_ansi(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def _headline(self, queue: Queue) -> str:
        done, width = sum(queue.ended.values()), 20
        filled = width * done // self.total
        bar = "█" * filled + "░" * (width - filled)
        parts = [f"{self.name}  {self.sweep}  {bar}  {done}/{self.total}"]
        failed = queue.ended[FAILED] + queue.ended[LOST]
        parts += [paint(f"{failed} failed", "red")] if failed else []
        at_work = [entry for entry in queue.running.values() if entry.state == RUNNING]
        submitted = len(queue.running) - len(at_work)
        parts += [f"{len(at_work)} running"] if at_work else []
        parts += [f"{submitted} submitted"] if submitted else []
        if done and (queue.running or queue.waiting):
            each = queue.seconds_worked / done
            worked = sum(min(each, time.monotonic() - entry.since) for entry in at_work)
            left = (each * (self.total - done) - worked) / max(1, len(at_work))
            parts.append(f"left {format_duration(left)}")
        parts += [news] if (news := self.news()) else []
        return "   ".join(parts)


def _label(job: Job) -> str:
    return label(job.run.identity.get("varied") or {})
