"""The values of MLflow's metrics, for several runs at once where the store can tell them so.

MLflow's databases have an index that SQLite does not choose for the question of one run's metric: it looks through the
values of all runs instead. Asked for one by one, 10,000 runs would take hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_POINTS = 200_000  # values held at once, by the steps that runs tell
_ROOM = 10_000

Point = tuple[int, int, float]
"""Milliseconds since the epoch, step, value."""


class Histories:
    """The metrics of the runs of one page of a search.

    Each time that one is asked for which is not here yet, twice as many are fetched, from that one on: a page with one
    new run costs one, a page that is all new costs a few questions.

    Args:
        client: an MlflowClient.
        page: the runs, in the order in which they are asked for.
    """

    def __init__(self, client: Any, page: Sequence[Any]) -> None:
        self.client, self.page = client, page
        store = getattr(getattr(client, "_tracking_client", None), "store", None)
        self._bulk = getattr(store, "get_metric_history_bulk", None)  # of databases, not of folders and servers
        self._place = {run.info.run_id: number for number, run in enumerate(page)}
        self._held: dict[str, dict[str, list[Point]]] = {}
        self._next = 1

    def of(self, run: Any) -> Iterator[tuple[str, list[Point]]]:
        """Each metric of a run with all its values; raises whatever MLflow raises."""
        ident = run.info.run_id
        if self._bulk is not None and ident not in self._held:
            self._fetch(self._place[ident])
        held = self._held.pop(ident, {})
        for name in run.data.metrics:
            if name in held:
                yield name, held[name]
            else:
                yield name, [_point(point) for point in self.client.get_metric_history(ident, name)]

    def _fetch(self, first: int) -> None:
        batch: list[Any] = []
        expected = 0
        for run in self.page[first : first + self._next]:
            expected += sum(max(0, metric.step) + 1 for metric in run.data.to_proto().metrics)
            if batch and expected > _POINTS:
                break
            batch.append(run)
        self._next *= 2
        self._held = {run.info.run_id: {} for run in batch}
        if len(batch) == 1 and expected > _POINTS:
            return  # its metrics come one by one
        limit = 2 * min(expected, _POINTS) + _ROOM
        for name in dict.fromkeys(name for run in batch for name in run.data.metrics):
            having = [run.info.run_id for run in batch if name in run.data.metrics]
            assert self._bulk is not None  # noqa: S101  a programmer's mistake
            found = self._bulk(having, name, limit)
            if len(found) >= limit:
                continue  # there is more than the steps told: these come one by one
            for ident in having:
                self._held[ident][name] = []
            for each in found:
                self._held[each.run_id][name].append(_point(each))


def _point(point: Any) -> Point:
    return point.timestamp, point.step, point.value
