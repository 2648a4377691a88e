"""What the keys do to runs and sweeps, on every screen that shows some."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.screen import Screen

from lightex.core.errors import LightexError
from lightex.core.escapes import plain
from lightex.core.liveness import user
from lightex.core.naming import label
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, QUEUED
from lightex.core.summary import Summary
from lightex.mon import actions
from lightex.mon.top.aside import aside
from lightex.mon.top.clone import CloneForm
from lightex.mon.top.dialogs import Keys, Question, WhyBox
from lightex.mon.top.log import LogScreen
from lightex.mon.top.sections import Row
from lightex.mon.top.told import Saying, Told, bad, good

if TYPE_CHECKING:
    from lightex.mon.top.app import Top

_HEEDED = 3.0  # seconds within which a dispatcher has done what it was asked for, and that is seen


class RunScreen(Screen[None]):
    """A screen on which a run or a sweep is chosen."""

    BINDINGS = [
        Binding("l", "log", show=False),
        Binding("w", "why", show=False),
        Binding("s", "stop(False)", show=False),
        Binding("K", "stop(True)", show=False),
        Binding("r", "retry", show=False),
        Binding("c", "clone", show=False),
        Binding("p", "pause", show=False),
        Binding("plus,equals_sign", "priority(1)", show=False),
        Binding("minus", "priority(-1)", show=False),
        Binding("question_mark", "keys", show=False),
    ]

    def chosen(self) -> Row | None:
        """What the keys are for."""
        raise NotImplementedError

    @property
    def top(self) -> Top:
        """The app."""
        from lightex.mon.top.app import Top

        assert isinstance(self.app, Top)  # noqa: S101  for mypy
        return self.app

    def on_screen_resume(self) -> None:
        """Show what was told while another screen was in front."""
        self.tell(self.top.saying)

    def tell(self, saying: Saying | None) -> None:
        """Show what came of an action."""
        for told in self.query(Told):  # none before the screen is made, and none after it is left
            told.tell(saying)

    # ------------------------------------------------------------------ looking

    def action_keys(self) -> None:
        """The keys."""
        self.app.push_screen(Keys())

    def action_log(self) -> None:
        """Its log."""
        if run := self._run("a log"):
            self.app.push_screen(LogScreen(run))

    def action_why(self) -> None:
        """Why it is as it is."""
        if run := self._run("a reason"):
            self.app.push_screen(WhyBox(self.top.given, run))

    def _run(self, what: str) -> Summary | None:
        """The run that is chosen; of a sweep it is said that it has no such thing."""
        row = self.chosen()
        if row and row.run is None:
            self.top.tell(bad(LightexError(f"a sweep has not {what} of its own", "enter shows its runs")))
        return row.run if row else None

    # ------------------------------------------------------------------ acting

    def _do(self, work: Callable[[], str]) -> None:
        self.app.run_worker(self._done(work))

    async def _done(self, work: Callable[[], str]) -> None:
        try:
            self.top.tell(good(await aside(work)))
        except LightexError as error:
            self.top.tell(bad(error))
        self.top.look_soon()

    def action_stop(self, kill: bool) -> None:
        """Stop or kill it, if that is meant."""
        row, root = self.chosen(), self.top.given.root
        who, verb = f"{user()} in lx top", "Kill" if kill else "Stop"
        fate = "ends at once" if kill else "is asked to end, and gets its grace"
        if row is None:
            return
        work: Callable[[], str]
        if row.sweep:
            sweep = row.sweep.id
            what, then = f"the whole sweep {sweep} ({row.sweep.name})", f"what runs {fate}; what waits is cancelled"
            work = lambda: actions.stop_sweep(root, sweep, who, kill)  # noqa: E731  one line for each case
        else:
            run = row.run
            assert run is not None  # noqa: S101  for mypy
            if run.status in ENDED:
                self.top.tell(bad(LightexError(f"{run.short_id} has ended already: {run.status}")))
                return
            what, then = f"{run.short_id} ({run.experiment} {label(run.varied)})".replace(" )", ")"), f"it {fate}"
            work = lambda: actions.stop(root, [run], who, kill)  # noqa: E731
        self.app.push_screen(Question(f"{verb} {plain(what)}?", then), lambda yes: self._do(work) if yes else None)

    def action_retry(self) -> None:
        """Run it once more; of a sweep, what failed."""
        if row := self.chosen():
            self.app.run_worker(self._retry(row))

    async def _retry(self, row: Row) -> None:
        root = self.top.given.root
        runs = [row.run] if row.run else await self._of(row, FAILED, LOST, CANCELLED)
        self.top.tell(good("starting ..."))
        await self._done(lambda: actions.retry(root, runs))

    async def _of(self, row: Row, *states: str) -> list[Summary]:
        """The runs of a sweep that are in some states."""
        assert row.sweep is not None  # noqa: S101  for mypy
        marks, sweep = ", ".join("?" * len(states)), row.sweep.id
        condition = f"sweep = ? AND status IN ({marks})"
        return await self.top.watching.ask(lambda index: index.select(condition, (sweep, *states)))

    def action_clone(self) -> None:
        """Start another one like it."""
        if run := self._run("a config"):
            self.app.push_screen(CloneForm(self.top.given.root, run), self._cloned)

    def _cloned(self, told: str | None) -> None:
        if told:
            self.top.tell(good(told))
            self.top.look_soon()

    def action_pause(self) -> None:
        """Pause its sweep, or let it go on."""
        row, root = self.chosen(), self.top.given.root
        sweep = row and (row.sweep.id if row.sweep else row.run and row.run.sweep)
        if not row or not sweep:
            if row:
                self.top.tell(bad(LightexError("this run belongs to no sweep")))
            return
        found = root.sweep(sweep)
        if found.supervised:
            self._do(lambda: (actions.resume if found.paused else actions.pause)(root, sweep))
            return
        question = Question(f"Resume sweep {sweep}?", "nothing is at work on it; what has not succeeded will run")
        self.app.push_screen(question, lambda yes: self._do(lambda: actions.resume(root, sweep)) if yes else None)

    def action_priority(self, by: int) -> None:
        """Have it start sooner, or later."""
        if row := self.chosen():
            self.app.run_worker(self._prioritize(row, by))

    async def _prioritize(self, row: Row, by: int) -> None:
        root, wished = self.top.given.root, self.top.wished
        async with self.top.in_turn:  # of two quick keys the second counts from what the first asked for
            runs = [row.run] if row.run else await self._of(row, QUEUED)
            if not runs:
                self.top.tell(bad(LightexError("none of its runs waits to be started")))
                return
            asked, when = wished.get(row.key, (0, 0.0))
            fresh = time.monotonic() - when < _HEEDED
            wanted = (asked if fresh else int(runs[0].wants.get("priority") or 0)) + by
            wished[row.key] = (wanted, time.monotonic())
            await self._done(lambda: actions.prioritize(root, runs, wanted))
