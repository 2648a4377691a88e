"""The picture as metrics for Prometheus, by its own client library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from lightex.core.rundir import STATES
from lightex.mon.state import Picture

TYPE = CONTENT_TYPE_LATEST
"""The content type."""

_RUN = ("run", "experiment", "node")
_OF_RUNS = (
    ("cpu", "cpu_cores", "Cores that a run uses."),
    ("memory", "memory_bytes", "Bytes of memory that it holds."),
)
_OF_MACHINE = (
    ("cpus", "cpus", "Cores of this machine to share out."),
    ("cpus_leased", "cpus_leased", "Cores of this machine that runs hold."),
    ("memory", "memory_bytes", "Bytes of memory of this machine to share out."),
    ("memory_leased", "memory_leased_bytes", "Bytes of memory of this machine that runs hold."),
)


def exposition(seen: Picture, machine: Mapping[str, Any]) -> bytes:
    """All metrics, in the text format.

    Args:
        seen: the picture.
        machine: `cpus`, `cpus_leased`, `memory` and `memory_leased` of this machine.
    """
    registry = CollectorRegistry()

    def tell(name: str, words: str, labels: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        gauge = Gauge(f"lightex_{name}", words, labels, registry=registry)
        for *labelled, value in rows:
            (gauge.labels(*labelled) if labels else gauge).set(value)

    def of_runs(value: Any) -> list[tuple[Any, ...]]:
        found = [(live.run.short_id, live.run.experiment, live.run.node or "", value(live)) for live in seen.running]
        return [row for row in found if isinstance(row[-1], (int, float))]

    tell("runs", "Runs by state.", ["state"], [(state.lower(), seen.counts.get(state, 0)) for state in STATES])
    for key, name, words in _OF_RUNS:
        tell(f"run_{name}", words, _RUN, of_runs(lambda live, key=key: live.usage.get(key)))
    tell(
        "run_progress_ratio",
        "How far a run is, 0 to 1.",
        _RUN,
        of_runs(lambda live: live.progress and live.progress.share),
    )
    words = "Runs of sweeps that are open or ended within a day, by state."
    counts = [(one.id, one.name, state.lower(), count) for one in seen.sweeps for state, count in one.counts.items()]
    tell("sweep_runs", words, ["sweep", "config", "state"], counts)
    at_work = [(one.id, one.name, int(one.at_work)) for one in seen.sweeps]
    tell("sweep_at_work", "Whether a dispatcher is at work on it.", ["sweep", "config"], at_work)
    for key, name, words in _OF_MACHINE:
        tell(f"machine_{name}", words, (), [(float(machine[key]),)])
    loads = [(node.name, gpu, load["use"]) for node in seen.nodes for gpu, load in node.loads.items() if "use" in load]
    tell("gpu_use_ratio", "How much a GPU computes, 0 to 1.", ["node", "gpu"], loads)
    return generate_latest(registry)
