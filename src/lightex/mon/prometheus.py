"""The picture as metrics for Prometheus, by its own client library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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
    registry.register(_Moment([*_of_runs(seen), *_of_sweeps(seen), *_of_machine(machine), _of_gpus(seen)]))
    return generate_latest(registry)


class _Moment(Collector):
    """What is the case now."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics."""
        yield from self._families


def _of_runs(seen: Picture) -> Iterator[GaugeMetricFamily]:
    states = GaugeMetricFamily("lightex_runs", "Runs by state.", labels=["state"])
    for state in STATES:
        states.add_metric([state.lower()], seen.counts.get(state, 0))
    yield states
    for key, name, words in _OF_RUNS:
        family = GaugeMetricFamily(f"lightex_run_{name}", words, labels=_RUN)
        for live in seen.running:
            if isinstance(value := live.usage.get(key), (int, float)):
                family.add_metric([live.run.short_id, live.run.experiment, live.run.node or ""], value)
        yield family
    progress = GaugeMetricFamily("lightex_run_progress_ratio", "How far a run is, 0 to 1.", labels=_RUN)
    for live in seen.running:
        if live.progress and live.progress.share is not None:
            progress.add_metric([live.run.short_id, live.run.experiment, live.run.node or ""], live.progress.share)
    yield progress


def _of_sweeps(seen: Picture) -> Iterator[GaugeMetricFamily]:
    words = "Runs of sweeps that are open or ended within a day, by state."
    runs = GaugeMetricFamily("lightex_sweep_runs", words, labels=["sweep", "config", "state"])
    work = GaugeMetricFamily(
        "lightex_sweep_at_work", "Whether a dispatcher is at work on it.", labels=["sweep", "config"]
    )
    for sweep in seen.sweeps:
        work.add_metric([sweep.id, sweep.name], int(sweep.at_work))
        for state, count in sweep.counts.items():
            runs.add_metric([sweep.id, sweep.name, state.lower()], count)
    yield from (runs, work)


def _of_machine(machine: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    for key, name, words in _OF_MACHINE:
        yield GaugeMetricFamily(f"lightex_machine_{name}", words, value=float(machine[key]))


def _of_gpus(seen: Picture) -> GaugeMetricFamily:
    family = GaugeMetricFamily("lightex_gpu_use_ratio", "How much a GPU computes, 0 to 1.", labels=["node", "gpu"])
    for node in seen.nodes:
        for gpu, load in node.loads.items():
            if "use" in load:
                family.add_metric([node.name, gpu], load["use"])
    return family
