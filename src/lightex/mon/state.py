"""One picture of everything: what runs, what waits and for what, what has ended lately, sweeps, nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightex.core import journal
from lightex.core.errors import StorageError
from lightex.core.index import Index
from lightex.core.rundir import ENDED, QUEUED, RUNNING, SUBMITTED, SUCCEEDED
from lightex.core.summary import Summary
from lightex.mon.progress import Progress, progress_of

_RUNNING_SHOWN, _WAITING_SHOWN, _ENDED_SHOWN = 100, 50, 20
_LOOKED_THROUGH = 2000  # runs of a kind among which those to keep are sought
_LATELY = 86400.0  # seconds
_LOST = 7 * 86400.0  # seconds since the start of a run whose end nobody has seen, for which it is shown
_ENDED_LATELY = "(ended > ? OR (status = 'LOST' AND ended IS NULL AND coalesce(started, created) > ?))"
_TAIL = 400  # bytes of the samples that hold the last one
_STALE = 30.0  # seconds after which a sample says nothing of now


Condition = tuple[str, tuple[object, ...]]
"""What has to hold of runs: SQL over the columns of the index, never anybody's text, and values for its marks."""


@dataclass(frozen=True)
class Live:
    """A run that runs.

    Attributes:
        run: the run.
        progress: how far it is; None: there is no telling.
        usage: the last sample of what it uses (see `RunDir.usage`); empty: none, or none lately.
    """

    run: Summary
    progress: Progress | None
    usage: dict[str, Any]


@dataclass(frozen=True)
class SweepRow:
    """A sweep of which something is open, or has ended lately.

    Attributes:
        id: its id.
        name: of its config.
        counts: how many runs are in which state.
        total: how many there are to be.
        at_work: whether a dispatcher is.
        paused: whether nothing new of it starts.
        waits: what its first run that waits is waiting for, in words.
        left: seconds, about; None: no telling yet.
    """

    id: str
    name: str
    counts: dict[str, int]
    total: int
    at_work: bool
    paused: bool
    waits: str
    left: float | None

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(count for state, count in self.counts.items() if state in ENDED)


@dataclass(frozen=True)
class Node:
    """A machine on which runs are.

    Attributes:
        name: its name.
        runs: those that run there.
        cpu: cores that they use, by their last samples.
        memory: bytes that they hold.
        gpus: GPU to the runs that were given it.
        loads: GPU to what it does (`use`, a share of 1; `memory`, bytes), by the samples.
    """

    name: str
    runs: list[Summary]
    cpu: float
    memory: float
    gpus: dict[str, list[Summary]]
    loads: dict[str, dict[str, float]]


@dataclass
class Picture:
    """What there is to see.

    Attributes:
        counts: how many runs are in which state.
        running: the latest of those that run.
        waiting: the first of those that wait.
        ended: the last of those that ended within a day, or are lost.
        ended_in_all: how many these are.
        sweeps: those at work first, the latest of them before others.
        nodes: by name.
        at: UTC seconds since the epoch.
    """

    counts: dict[str, int]
    running: list[Live] = field(default_factory=list)
    waiting: list[Summary] = field(default_factory=list)
    ended: list[Summary] = field(default_factory=list)
    ended_in_all: int = 0
    sweeps: list[SweepRow] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    at: float = 0.0


EVERYTHING: Condition = ("1", ())


def picture(
    index: Index,
    now: float | None = None,
    within: Condition = EVERYTHING,
    keep: Callable[[Summary], bool] | None = None,
) -> Picture:
    """Look at everything.

    Args:
        index: of the root, brought up to date.
        now: UTC seconds since the epoch; default: the clock.
        within: only runs for which it holds, and sweeps that have such.
        keep: only such runs are shown; counts and sweeps are of all.
    """
    at = time.time() if now is None else now
    where, values = within
    counts = {
        str(state): int(str(count))
        for state, count in index.rows(f"SELECT status, count(*) FROM runs WHERE {where} GROUP BY 1", values)  # noqa: S608
    }

    def some(condition: str, more: Sequence[object], order: str, most: int) -> list[Summary]:
        limit = most if keep is None else _LOOKED_THROUGH
        found = index.select(f"({where}) AND {condition}", (*values, *more), order, limit)
        return found if keep is None else [run for run in found if keep(run)][:most]

    running = some("status = ?", (RUNNING,), "started DESC, id DESC", _RUNNING_SHOWN)
    live = [Live(run, progress_of(run, at), last_usage(run, at)) for run in running]
    return Picture(
        counts=counts,
        running=live,
        waiting=some("status IN (?, ?)", (SUBMITTED, QUEUED), "status DESC, id", _WAITING_SHOWN),
        ended=some(_ENDED_LATELY, (at - _LATELY, at - _LOST), "coalesce(ended, started, created) DESC", _ENDED_SHOWN),
        ended_in_all=index.count(f"({where}) AND {_ENDED_LATELY}", (*values, at - _LATELY, at - _LOST)),
        sweeps=_sweeps(index, at, within),
        nodes=_nodes(live),
        at=at,
    )


def last_usage(run: Summary, now: float) -> dict[str, Any]:
    """The last sample of what a run uses, if it is fresh."""
    try:
        found = [record for record in journal.tail(f"{run.dir}/usage.jsonl", _TAIL) if "time" in record]
    except OSError:
        return {}
    return found[-1] if found and now - float(found[-1]["time"]) < _STALE else {}


def _sweeps(index: Index, now: float, within: Condition) -> list[SweepRow]:
    where, values = within
    of_now = f"SELECT DISTINCT sweep FROM runs WHERE ({where}) AND (status IN (?, ?, ?) OR {_ENDED_LATELY})"  # noqa: S608
    rows = index.rows(
        "SELECT sweep, status, count(*), avg(duration), min(config_name), min(experiment), max(created) FROM runs "  # noqa: S608
        f"WHERE sweep IN ({of_now}) GROUP BY sweep, status",
        (*values, QUEUED, SUBMITTED, RUNNING, now - _LATELY, now - _LOST),
    )
    by_sweep: dict[str, dict[str, tuple[int, float | None]]] = {}
    names: dict[str, str] = {}
    created: dict[str, float] = {}
    for sweep, status, count, mean, config, experiment, latest in rows:
        created[str(sweep)] = max(created.get(str(sweep), 0.0), float(str(latest or 0)))
        took = float(str(mean)) if mean is not None else None
        by_sweep.setdefault(str(sweep), {})[str(status)] = (int(str(count)), took)
        names[str(sweep)] = str(config or experiment)
    found = [_sweep(index, name, names[name], states) for name, states in by_sweep.items()]
    return sorted(found, key=lambda row: (not row.at_work, row.ended == row.total, -created[row.id], row.id))


def _sweep(index: Index, name: str, config: str, states: dict[str, tuple[int, float | None]]) -> SweepRow:
    sweep = index.root.sweep(name)
    try:
        total, paused, waits = int(sweep.about.get("total") or 0), sweep.paused, sweep.waits_for
    except StorageError:  # copied from elsewhere without its folder
        total, paused, waits = 0, False, ""
    counts = {state: count for state, (count, _) in states.items()}
    total = max(total, sum(counts.values()))
    _, took = states.get(SUCCEEDED, (0, None))
    open_runs = total - sum(count for state, count in counts.items() if state in ENDED)
    at_work = sweep.supervised
    if paused and at_work:
        waits = "the end of its pause"
    left = took * open_runs / max(1, counts.get(RUNNING, 1)) if took and open_runs and at_work else None
    return SweepRow(name, config, counts, total, at_work, paused and at_work, waits, left)


def _nodes(live: Sequence[Live]) -> list[Node]:
    by_name: dict[str, list[Live]] = {}
    for each in live:
        by_name.setdefault(each.run.node or f"{each.run.engine or 'local'} (node not known)", []).append(each)
    nodes = []
    for name, runs in sorted(by_name.items()):
        gpus: dict[str, list[Summary]] = {}
        loads: dict[str, dict[str, float]] = {}
        for each in runs:
            for gpu in each.run.gpus:
                gpus.setdefault(gpu, []).append(each.run)
            loads |= each.usage.get("gpus") or {}
        cpu = sum(float(each.usage.get("cpu") or 0) for each in runs)
        memory = sum(float(each.usage.get("memory") or 0) for each in runs)
        nodes.append(Node(name, [each.run for each in runs], cpu, memory, gpus, loads))
    return nodes
