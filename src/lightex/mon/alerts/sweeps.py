"""Sweeps that have ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lightex.core import jsonlib
from lightex.core.errors import StorageError
from lightex.core.index import Index
from lightex.core.naming import label, show
from lightex.core.rundir import ENDED, STATES, SUCCEEDED

_SETTLED = 60.0  # seconds after which a sweep that nobody works on counts, though it has fewer runs than it was to have


@dataclass(frozen=True)
class Finished:
    """A sweep all of whose runs have ended.

    Attributes:
        id: its id.
        name: of its config.
        counts: how many runs are in which state.
        ended: when the last one was (UTC seconds since the epoch), 0 where none of them says.
    """

    id: str
    name: str
    counts: dict[str, int]
    ended: float

    @property
    def thing(self) -> str:
        """What tells this end of it from a later one, after `lx retry`."""
        return f"sweep/{self.id}/{self.ended:.0f}"

    @property
    def words(self) -> str:
        """How they ended, in a line."""
        return ", ".join(f"{self.counts[state]} {state.lower()}" for state in STATES if state in self.counts)

    @property
    def well(self) -> bool:
        """Whether all have succeeded."""
        return set(self.counts) <= {SUCCEEDED}


def finished(index: Index, sweeps: Collection[str], now: float) -> list[Finished]:
    """Those of some sweeps that have ended."""
    rows = index.rows(
        "SELECT sweep, status, count(*), coalesce(max(ended), 0), min(coalesce(config_name, experiment)) "
        "FROM runs WHERE sweep IN (SELECT value FROM json_each(?)) GROUP BY sweep, status",
        (jsonlib.dumps(sorted(sweeps)).decode(),),
    )
    found: dict[str, Finished] = {}
    for sweep, status, count, ended, name in rows:
        known = found.get(str(sweep)) or Finished(str(sweep), str(name), {}, 0.0)
        found[known.id] = Finished(
            known.id,
            known.name,
            known.counts | {str(status): int(str(count))},
            max(known.ended, float(str(ended))),
        )
    return [one for one in found.values() if set(one.counts) <= ENDED and _is_over(index, one, now)]


def _is_over(index: Index, one: Finished, now: float) -> bool:
    """Whether no more runs will come: a search makes them one by one, `lx rm` takes some away."""
    sweep = index.root.sweep(one.id)
    if sweep.supervised:
        return False
    try:
        total = int(sweep.about.get("total") or 0)
    except StorageError:  # copied from elsewhere without its folder
        total = 0
    return sum(one.counts.values()) >= total or now - one.ended > _SETTLED


def best_of(index: Index, sweep: str) -> str:
    """The best run of a sweep by the metric of its config, in a line; empty: there is none."""
    runs = [run for run in index.select("sweep = ?", (sweep,)) if run.objective]
    found = []
    for run in runs:
        name, mode = run.objective or ("", "max")
        value = (run.best.get(name) or {}).get(mode)
        if value is not None:
            found.append((value if mode == "max" else -value, name, value, run))
    if not found:
        return ""
    _, name, value, run = max(found, key=lambda each: each[0])
    return f"best: {name} {show(value)} of {run.short_id}  {label(run.varied)}".rstrip()
