"""What each kind of rule sees in a run: a sign of what it looks for, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from lightex.core.naming import show
from lightex.core.rundir import ENDED, FAILED, LOST, RUNNING, RunDir
from lightex.core.summary import Summary
from lightex.core.units import format_duration
from lightex.mon.alerts.rules import Rule
from lightex.mon.alerts.tails import Tails

_STALE = 120.0  # seconds after which a sample of a GPU says nothing of now


@dataclass(frozen=True)
class Sign:
    """What was seen.

    Attributes:
        thing: what tells it from others of the same kind: it is told once.
        word: what a title begins with.
        text: what it is, in a line.
        kind: as of a notice.
    """

    thing: str
    word: str
    text: str
    kind: str = "warning"


@dataclass(frozen=True)
class Seen:
    """A run, as it is looked at.

    Attributes:
        run: the run.
        tails: what it and others wrote.
        now: UTC seconds since the epoch.
        since: when the rule was looked for first.
        first: whether this process looks for the first time: thousands may have ended, whose records are not read.
    """

    run: Summary
    tails: Tails
    now: float
    since: float
    first: bool

    @property
    def attempt(self) -> str:
        """Names the attempt."""
        return f"{self.run.id}/{self.run.attempt}"

    @property
    def files(self) -> RunDir:
        """Its directory."""
        return RunDir(self.run.dir)


def sign(rule: Rule, seen: Seen) -> Sign | None:
    """What a rule sees in a run whose `where` holds."""
    if rule.when in _OF_ENDS:
        return _end(seen) if seen.run.status in _OF_ENDS[rule.when] else None
    if rule.when in _OF_METRICS or seen.run.status == RUNNING:
        return _SIGNS[rule.when](rule, seen)
    return None


_OF_ENDS = {"failed": {FAILED}, "lost": {LOST}, "ended": ENDED}
_OF_METRICS = ("nan", "metric")
"""What is also said of a run that has ended meanwhile."""


def is_past(rule: Rule, run: Summary) -> bool:
    """Whether what a rule sees is something that has happened, not something that is so now."""
    return rule.when in _OF_ENDS or run.status in ENDED


def _end(seen: Seen) -> Sign:
    run = seen.run
    kind = "failure" if run.status in (FAILED, LOST) else "success" if run.status == "SUCCEEDED" else "info"
    took = f"after {format_duration(run.duration)}" if run.duration is not None else ""
    words = " ".join((run.reason or "").split())
    return Sign(f"end/{seen.attempt}/{run.status}", run.status, ", ".join(each for each in (words, took) if each), kind)


def _stalled(rule: Rule, seen: Seen) -> Sign | None:
    # A directory that is copied keeps no times: it cannot have written before it was started.
    last = max((each for each in (seen.files.written_at(), seen.run.started) if each is not None), default=seen.now)
    if seen.now - last < rule.minutes * 60:
        return None
    words = f"neither output nor records for {format_duration(seen.now - last)}"
    return Sign(f"stalled/{seen.attempt}/{last:.0f}", "STALLED", words)


def _nan(rule: Rule, seen: Seen) -> Sign | None:
    now = {name: value for name, value in seen.run.metrics.items() if not isfinite(value)}
    since = {}
    if seen.run.status == RUNNING or not seen.first:
        logged = seen.tails.logged(seen.files, seen.now)
        since = {name: value for name, (value, at) in logged.bad.items() if at >= seen.since}
    bad = {name: value for name, value in (since | now).items() if re.search(rule.metric, name)}
    if not bad:
        return None
    some = ", ".join(f"{name} is {value}" for name, value in list(bad.items())[:5])
    return Sign(f"nan/{seen.attempt}", "NAN", some + (", ..." if len(bad) > 5 else ""), "failure")


def _metric(rule: Rule, seen: Seen) -> Sign:
    return Sign(f"metric/{seen.attempt}", "METRIC", rule.where)


def _no_improvement(rule: Rule, seen: Seen) -> Sign | None:
    run = seen.run
    objective, mode = run.objective or ("", "min")
    logged = seen.tails.logged(seen.files, seen.now)
    if not logged.whole or not (rule.metric or objective):
        return None
    found = []
    for name, best in logged.best.items():
        if not (re.search(rule.metric, name) if rule.metric else name == objective):
            continue
        wanted = rule.mode or (mode if name == objective else "min")
        value, at = best.least if wanted == "min" else best.greatest
        since = max(at, run.started or 0.0)
        if seen.now - since >= rule.minutes * 60:
            found.append((f"{name}@{at:.3f}", f"{name} has not got better than {show(value)}", seen.now - since))
    if not found:
        return None
    words = f"{', '.join(words for _, words, _ in found[:5])} for {format_duration(min(each[2] for each in found))}"
    return Sign(f"no-improvement/{seen.attempt}/{','.join(each[0] for each in found)}", "NO IMPROVEMENT", words)


def _gpu_idle(rule: Rule, seen: Seen) -> Sign | None:
    used = seen.tails.used(seen.files)
    busy = max(used.busy.get(rule.below, seen.now), seen.run.started or 0.0)
    if seen.now - used.last > _STALE or used.last - busy < rule.minutes * 60:
        return None
    gpus = f"GPU{'s' * (len(seen.run.gpus) != 1)} {', '.join(seen.run.gpus)}".strip()
    words = f"{gpus} below {rule.below:.0%} for {format_duration(used.last - busy)}"
    return Sign(f"gpu-idle/{seen.attempt}/{busy:.0f}", "GPU IDLE", words)


_SIGNS: dict[str, Callable[[Rule, Seen], Sign | None]] = {
    "stalled": _stalled,
    "nan": _nan,
    "metric": _metric,
    "no-improvement": _no_improvement,
    "gpu-idle": _gpu_idle,
}
