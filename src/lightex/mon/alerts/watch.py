"""The watcher: looks at what has changed, finds what the rules are about, has it told once, and acts where it is to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from lightex.core import jsonlib
from lightex.core.errors import LightexError
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.core.rundir import ENDED, RUNNING, RunDir
from lightex.core.summary import Summary
from lightex.core.units import format_size
from lightex.mon import actions
from lightex.mon.alerts import words
from lightex.mon.alerts.courier import Courier
from lightex.mon.alerts.notice import KINDS, Notice
from lightex.mon.alerts.rules import Alerts, Rule, least_free
from lightex.mon.alerts.services import Send
from lightex.mon.alerts.signs import Seen, Sign, is_past, sign
from lightex.mon.alerts.sweeps import Finished, best_of, finished
from lightex.mon.alerts.tails import Tails
from lightex.mon.alerts.targets import Target
from lightex.mon.alerts.told import Told

LOOK = 5.0
"""Seconds between two looks."""

Holds = Callable[[Index, str, Sequence[str]], set[str]]
"""Of which runs (ids) a filter holds; raises a LightexError where a name in it means nothing yet."""

_LATELY = 86400.0  # seconds: what ended longer ago, while nobody watched, is not told any more
_SKEW = 3600.0  # seconds by which clocks of machines may differ
_RETRIED = 1.0  # seconds after an end in which it may turn out that the run is tried again
_DOUBT = 5.0  # seconds for which a run must seem lost: a new supervisor may take it up
_WHOLE = 600.0  # seconds between two looks at everything that ended lately, should the index have been made anew
_CLOSING = 10.0  # seconds to send in at the end
_RISEN = 1.1  # times what a disk must have free before it may be told of again


@dataclass(frozen=True)
class Found:
    """Something that is to be told.

    Attributes:
        title, body, kind: as of a notice.
        keys: of what it tells, led by the key of a rule and "|".
        rules: whose they are.
    """

    title: str
    body: str
    kind: str
    keys: tuple[str, ...]
    rules: tuple[Rule, ...]


class Watcher:
    """Watches one folder of runs, unless another one does. It is called by one thread, the index's."""

    def __init__(
        self,
        root: Root,
        alerts: Alerts,
        targets: Mapping[str, Target],
        services: Mapping[str, Send],
        holds: Holds,
        say: Callable[[str], None],
    ) -> None:
        """Nothing happens before `look`.

        Args:
            root: the folder of runs.
            alerts: the rules.
            targets: who is told, by what is written in the rules.
            services: what sends to them, by their names.
            holds: decides about `where`.
            say: told in words what happens.
        """
        self.address = alerts.address
        self._root, self._alerts, self._holds, self._say = root, alerts, holds, say
        self._names = {written: target.name for written, target in targets.items()}
        self._services = services
        self._couriers: dict[str, Courier] = {}
        self._told = Told(root, say)
        self._tails = Tails({rule.below for rule in alerts.rules if rule.when == "gpu-idle"})
        self._version, self._generation, self._whole = -1, 0, 0.0
        self._ends: dict[str, tuple[float, str]] = {}  # runs that have ended: since when that is known, directory
        self._over: set[tuple[str, int, str]] = set()  # ends that were looked at
        self._sweeps: set[str] = set()
        self._said: set[str] = set()
        self._watching = False

    @property
    def holder(self) -> str:
        """Who watches instead."""
        return self._told.holder

    def claim(self) -> bool:
        """Become the one watcher; False: another process watches.

        Raises:
            StorageError: the folder of runs cannot be written.
        """
        if not self._watching and self._told.claim():
            self._watching = True
            for notice, name in self._told.pending():
                self._put(notice, name)
        return self._watching

    def look(self, index: Index, now: float | None = None) -> list[Notice]:
        """Look once, tell, act; returns what is new. Does nothing while another process watches.

        Args:
            index: of the same root, brought up to date.
            now: UTC seconds since the epoch; default: the clock.
        """
        if not self.claim():
            return []
        at = time.time() if now is None else now
        try:
            return self._look(index, at)
        except BaseException:
            self._version = -1  # what was not got to is found again
            self._over.clear()
            raise

    def _look(self, index: Index, at: float) -> list[Notice]:
        notices = []
        for found in self.find(index, at, act=True):
            to = [self._names[each] for rule in found.rules for each in rule.to or self._alerts.to]
            notice = self._told.note(found.title, found.body, found.kind, found.keys, list(dict.fromkeys(to)), at)
            for name in notice.to:
                self._put(notice, name)
            notices.append(notice)
        return notices

    def preview(self, index: Index) -> list[Found]:
        """What would be told now; nothing is, and nothing is noted down."""
        self._told.read()
        return self.find(index, time.time(), act=False)

    def close(self) -> None:
        """Send what waits, and let another one watch."""
        until = time.monotonic() + _CLOSING
        for courier in self._couriers.values():
            courier.close(until)
        self._couriers.clear()
        self._told.release()
        self._watching = False

    def _put(self, notice: Notice, name: str) -> None:
        if name not in self._services:  # of a journal: the rules have changed since
            return
        if name not in self._couriers:
            send = self._services[name]
            self._couriers[name] = Courier(
                name, send, lambda all_, to: self._told.sent(all_, to, time.time()), self._say
            )
        self._couriers[name].put(notice)

    # ------------------------------------------------------------------ finding

    def find(self, index: Index, now: float, act: bool) -> list[Found]:
        """What is new to be told.

        Args:
            index: of the same root.
            now: UTC seconds since the epoch.
            act: note down what rules begin with, and do what they are to do.
        """
        new = {rule.key for rule in self._alerts.rules if self._told.begun(rule.key) is None}
        first = self._version < 0
        running, ended = index.select("status = ?", (RUNNING,)), self._ended(index, now, bool(new))
        done = finished(index, self._sweeps, now) if any(r.when == "sweep-finished" for r in self._alerts.rules) else []
        found: dict[str, tuple[Summary, list[tuple[Rule, Sign]]]] = {}
        others: list[Found] = []
        for rule in self._alerts.rules:
            since = now if rule.key in new else self._told.begun(rule.key) or now
            signs = self._signs(index, rule, [*running, *ended], now, since, first)
            sweeps = done if rule.when == "sweep-finished" else []
            past = {f"{rule.key}|{seen.thing}" for run, seen in signs if is_past(rule, run)}
            past = past | {f"{rule.key}|{one.thing}" for one in sweeps} if rule.key in new else set()
            if rule.key in new and act:
                self._told.begin(rule.key, sorted(past), now)
            for run, seen in signs:
                if not self._knows(f"{rule.key}|{seen.thing}", past):
                    found.setdefault(run.id, (run, []))[1].append((rule, seen))
            fresh = [one for one in sweeps if not self._knows(f"{rule.key}|{one.thing}", past)]
            others += [self._of_sweep(index, rule, one) for one in fresh]
            others += self._of_disk(rule, now, act) if rule.when == "disk" else []
        self._sweeps -= {one.id for one in done}
        self._tails.forget({run.dir for run in (*running, *ended)} | {folder for _, folder in self._ends.values()})
        return [self._of_run(run, signs, act) for run, signs in found.values()] + _merged(others)

    def _knows(self, key: str, more: Collection[str]) -> bool:
        return key in more or self._told.knows(key)

    def _ended(self, index: Index, now: float, ripe: bool) -> list[Summary]:
        """Runs of which it was seen since the last look that they have ended, for good, or (`ripe`) perhaps."""
        version, anew = index.version, index.generation != self._generation
        if anew or version < self._version or self._version < 0 or now - self._whole > _WHOLE:
            states = ", ".join("?" * len(ENDED))
            new = index.select(f"status IN ({states}) AND coalesce(ended, ?) > ?", (*ENDED, now, now - _LATELY))
            self._over &= {_end(run) for run in new}
            self._whole = now
        else:
            new = [run for run in index.since(self._version) if run.status in ENDED]
        self._version, self._generation = version, index.generation
        for run in new:
            if _end(run) not in self._over:
                self._ends.setdefault(run.id, (now, run.dir))
        found = []
        ids = jsonlib.dumps(list(self._ends)).decode()
        known = index.select("id IN (SELECT value FROM json_each(?))", (ids,)) if self._ends else []
        for run in known:
            if run.status in ENDED and not (ripe or self._is_ripe(run, now)):
                continue
            if run.status in ENDED:
                self._over.add(_end(run))
                found.append(run)
                self._sweeps |= {run.sweep} if run.sweep else set()
            del self._ends[run.id]
        for gone in self._ends.keys() - {run.id for run in known}:
            del self._ends[gone]
        return found

    def _is_ripe(self, run: Summary, now: float) -> bool:
        if run.ended is not None:
            return not 0 <= now - run.ended < _RETRIED
        return not self._watching or now - self._ends[run.id][0] >= _DOUBT

    def _signs(
        self, index: Index, rule: Rule, runs: Sequence[Summary], now: float, since: float, first: bool
    ) -> list[tuple[Summary, Sign]]:
        """What a rule sees in runs."""
        if rule.when in ("sweep-finished", "disk"):
            return []
        oldest = max(since - _SKEW, now - _LATELY)
        runs = [run for run in runs if run.status not in ENDED or _ended_at(run, now) > oldest]
        if rule.where and runs:
            try:
                held = self._holds(index, rule.where, [run.id for run in runs])
            except LightexError as error:
                self._say_once(f"{rule.place}: {error.message}")
                held = set()
            runs = [run for run in runs if run.id in held]
        seen = [(run, sign(rule, Seen(run, self._tails, now, since, first))) for run in runs]
        return [(run, each) for run, each in seen if each]

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    # ------------------------------------------------------------------ telling, acting

    def _of_run(self, run: Summary, signs: Sequence[tuple[Rule, Sign]], act: bool) -> Found:
        done = []
        stops = [rule for rule, _ in signs if rule.act == "stop"]
        if stops and run.status == RUNNING:
            done.append(self._stop(run, stops[0]) if act else f"it is asked to end, by {stops[0].place}")
        seen = [each for _, each in signs]
        title, body = words.of_run(run, seen, done, self._alerts.lines, self.address)
        kind = max((each.kind for each in seen), key=KINDS.index)
        keys = tuple(f"{rule.key}|{each.thing}" for rule, each in signs)
        return Found(title, body, kind, keys, tuple(rule for rule, _ in signs))

    def _stop(self, run: Summary, rule: Rule) -> str:
        try:
            actions.stop(self._root, [run], f"an alert: {rule.sought}")
        except LightexError as error:
            return f"it could not be asked to end: {error.message}"
        return f"it was asked to end, by {rule.place}"

    def _of_sweep(self, index: Index, rule: Rule, one: Finished) -> Found:
        title, body, kind = words.of_sweep(one, best_of(index, one.id), self.address)
        return Found(title, body, kind, (f"{rule.key}|{one.thing}",), (rule,))

    def _of_disk(self, rule: Rule, now: float, act: bool) -> list[Found]:
        folder = rule.path or str(self._root.path)
        while not rule.path and not os.path.isdir(folder) and folder != os.path.dirname(folder):  # noqa: PTH112, PTH120
            folder = os.path.dirname(folder)  # noqa: PTH120  runs/ may not be there yet
        try:
            disk = shutil.disk_usage(folder)
        except OSError as error:
            self._say_once(f"{rule.place}: {folder}: {error.strerror}")
            return []
        key, least = f"{rule.key}|disk", least_free(rule.free, disk.total)
        if disk.free >= least:
            if act and self._told.knows(key) and disk.free >= min(least * _RISEN, disk.total):
                self._told.clear(key, now)
            return []
        if self._told.knows(key):
            return []
        left = f"{format_size(disk.free)} of {format_size(disk.total)} is left"
        body = "lx rm removes runs\nlogs and records wait in memory when it is full, then are lost"
        return [Found(f"DISK NEARLY FULL  {folder}: {left}", body, "failure", (key,), (rule,))]


def _end(run: Summary) -> tuple[str, int, str]:
    return run.id, run.attempt, run.status


def _merged(found: Sequence[Found]) -> list[Found]:
    """One of those that several rules have found."""
    by_title: dict[str, Found] = {}
    for one in found:
        if other := by_title.get(one.title):
            by_title[one.title] = replace(one, keys=(*other.keys, *one.keys), rules=(*other.rules, *one.rules))
        else:
            by_title[one.title] = one
    return list(by_title.values())


def _ended_at(run: Summary, now: float) -> float:
    """When a run has ended, as far as that can be known."""
    if run.ended is not None:
        return run.ended
    return RunDir(run.dir).written_at() or run.started or run.created or now
