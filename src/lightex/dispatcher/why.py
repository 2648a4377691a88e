"""Why a run is as it is: how it ended and what helps, or what it waits for and who holds that."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from lightex.core import plugins
from lightex.core.journal import Record
from lightex.core.liveness import host
from lightex.core.root import Root
from lightex.core.rundir import CAUSES, ENDED, QUEUED, SUBMITTED, RunDir, short
from lightex.core.summary import Summary, Why, status_of, summarize
from lightex.core.taxonomy import Resources
from lightex.core.units import format_duration, format_size, parse_size
from lightex.dispatcher.board import Board
from lightex.dispatcher.book import Book, Entry
from lightex.dispatcher.death import LAST_LINES
from lightex.dispatcher.leases import explain

_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)")


def why(run: RunDir) -> Why:
    """Explain a run.

    Raises:
        StorageError: its directory is broken.
    """
    root = Root(run.path.parent.parent)
    summary = summarize(run, lambda sweep: root.sweep(sweep).supervised)
    events = run.events()
    last = events[-1] if events else run.last_event
    if summary.status == QUEUED:
        return _pending(run, root, summary, last)
    if summary.status not in ENDED:
        return _at_work(run, summary, events)
    if last.get("state") not in ENDED:  # its dispatcher was killed as well
        steps = [f"lx resume {summary.sweep}"] if summary.sweep else []
        return Why(
            summary, "lost", [fact for fact in [_attempts(events)] if fact], run.last_output()[-LAST_LINES:], steps
        )
    cause = last.get("cause")
    facts = [_usage(last), *([f"cause: {cause}, {CAUSES[cause]}"] if cause in CAUSES else []), _attempts(events)]
    lines = last.get("last_lines") or run.last_output()[-LAST_LINES:]
    return Why(summary, cause, [fact for fact in facts if fact], lines, _steps(run, summary, cause, lines))


def _pending(run: RunDir, root: Root, summary: Summary, last: Record) -> Why:
    sweep = root.sweep(summary.sweep) if summary.sweep else None
    if not sweep or not sweep.supervised:
        return Why(summary, None, ["waits for a dispatcher: none is at work on it"], [], [f"lx resume {summary.sweep}"])
    own_place = _place(run, run.events())
    ahead = [
        other
        for other in sweep.runs()
        if other.last_event.get("state") == QUEUED and _place(other, other.events()) < own_place
    ]
    facts, steps = [], []
    for name in run.identity.get("after") or ():
        other = RunDir(root.path / name)
        state, _ = status_of(other)
        if state != "SUCCEEDED":
            facts.append(f"waits for {other.short_id}, which it depends on: {state}")
            steps.append(f"lx why {other.short_id}")
    if (pause := float(last.get("not_before") or 0) - time.time()) > 0:
        facts.append(f"waits {format_duration(pause)} for its {last.get('reason')}")
    if sweep.paused:
        facts.append(f"waits for the end of the pause of sweep {sweep.id}")
        steps.append(f"lx resume {sweep.id}")
    if not facts:
        own = _short_of(run)
        facts.append(f"waits for {own or sweep.waits_for or 'its turn'}")
    if ahead and not _of_its_own(facts):
        facts.append(f"before it in its sweep: {len(ahead)}; the first waits for {sweep.waits_for}")
    return Why(summary, None, facts, [], [*steps, f"lx ls {sweep.id}"])


def _place(run: RunDir, events: list[Record]) -> tuple[int, str]:
    """What the runs of a queue are ordered by."""
    changed = (event["changes"]["priority"] for event in reversed(events) if "priority" in (event.get("changes") or {}))
    return -int(next(changed, run.config.get("priority") or 0)), run.id


def _of_its_own(facts: list[str]) -> bool:
    """Whether a run waits for something of its own, which those before it in the queue have no part in."""
    return any("depends on" in fact or "retry" in fact for fact in facts)


def _short_of(run: RunDir) -> str | None:
    """What is not free on this machine of what a run needs, and who holds it."""
    if run.identity.get("host") != host():
        return None
    capacity = plugins.load(plugins.ENGINES, str(run.identity["engine"]))().capacity()
    if capacity is None:
        return None
    page = Book().read()
    wish = Entry.wish(Resources(**(run.config.get("resources") or {})), run=str(run.path))
    owner = next((entry.owner for entry in page.waiters if _same_sweep(entry, run)), None)
    found = explain(capacity, page, wish, owner)
    if found is None and Board(capacity, page.leases).fits(wish) is not None and page.waiters:
        first = min(page.waiters, key=lambda entry: entry.since)
        return None if _same_sweep(first, run) else f"its turn, after {short(RunDir(first.run).id)} of {first.user}"
    return found


def _same_sweep(entry: Entry, run: RunDir) -> bool:
    return RunDir(entry.run).short_id.partition("-")[0] == run.short_id.partition("-")[0]


def _at_work(run: RunDir, summary: Summary, events: list[Record]) -> Why:
    facts = []
    running = next((event for event in reversed(events) if event.get("state") == "RUNNING"), {})
    process: dict[str, Any] = running.get("process") or {}
    if process:
        gpus = f" on GPU {', '.join(running['gpus'])}" if running.get("gpus") else ""
        what = next((f"{name} {process[name]}" for name in ("container", "job") if name in process), None)
        what = what or f"process {process.get('pid')}"
        facts.append(f"{what} of {process.get('host')}{gpus}")
    if events[-1].get("state") == SUBMITTED:
        facts.append(f"waits in its engine: {events[-1].get('reason') or 'it has not said for what'}")
    elif run.output_file.exists():
        silent = time.time() - run.output_file.stat().st_mtime
        facts.append(f"its last output is {format_duration(silent)} old")
    facts.append(_attempts(events))
    steps = [f"lx logs -f {summary.short_id}", f"lx stop {summary.short_id}"]
    return Why(summary, None, [fact for fact in facts if fact], run.last_output()[-LAST_LINES:], steps)


def _usage(last: Record) -> str:
    parts = []
    if last.get("duration") is not None:
        parts.append(f"ran for {format_duration(last['duration'])}")
    if last.get("peak_memory"):
        parts.append(f"peak memory {format_size(last['peak_memory'])} (its largest process, or its container)")
    if last.get("cpu_seconds") is not None:
        parts.append(f"CPU time {format_duration(last['cpu_seconds'])}")
    return ", ".join(parts)


def _attempts(events: list[Record]) -> str:
    ends = [event for event in events if event.get("state") in ENDED][:-1]
    return "; ".join(f"attempt {e.get('attempt')} was {e.get('state')}: {e.get('reason')}" for e in ends[-3:])


def _steps(run: RunDir, summary: Summary, cause: str | None, lines: Sequence[str]) -> list[str]:
    """What may help, by cause."""
    name, config = summary.short_id, run.config
    logs, again = f"lx logs {name}", f"lx retry {name}"
    if summary.status == "SUCCEEDED":
        return [f"lx show {name}"]
    if cause == "oom" and "memory limit" in str(summary.reason):
        memory = parse_size((config.get("resources") or {}).get("memory") or 0)
        more = f"{2 * memory // (1 << 20)}MiB" if memory else "4GiB   (not said, the cluster's default was the limit)"
        return [f"{again} resources.memory={more}", logs]
    if cause == "oom" and "this machine" in str(summary.reason):
        return [f"{again} resources.memory=...   (said, it is kept free for the run)", logs]
    if cause == "oom":
        return [f"lx clone {name} hp...=...   (a smaller batch or model)", again]
    if cause == "timeout" and config.get("timeout"):
        return [f"{again} timeout={2 * float(config['timeout']):g}", logs]
    if cause == "stalled":
        return [logs, f"{again} stall={2 * float(config.get('stall') or 60):g}"]
    if cause == "exit" and config.get("container") and (lacks := _MISSING.search("\n".join(lines))):
        if lacks[1] == "lightex" and not config["container"]["mount_lightex"]:
            return [f"lx clone {name} container.mount_lightex=true   (or put lightex into the image)", logs]
        return [f"put {lacks[1]} into the image; lx init --docker writes a Dockerfile", again]
    if cause == "upstream":
        missing = [RunDir(run.path.parent.parent / place) for place in run.identity.get("after") or ()]
        missing = [other for other in missing if status_of(other)[0] != "SUCCEEDED"]
        return [f"lx why {other.short_id}" for other in missing[:1]] + [f"lx resume {summary.sweep}"]
    return [again] if cause in ("cancelled", "pruned", "lost", "killed") else [logs, again]
