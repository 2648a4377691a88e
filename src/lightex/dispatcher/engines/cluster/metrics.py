"""What pods use, by the cluster's metrics API (https://github.com/kubernetes-sigs/metrics-server), where it has one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines.cluster.api import Cluster, ClusterError, Object
from lightex.dispatcher.engines.cluster.manifest import OURS

_EVERY = 15.0  # seconds: the metrics server's own --metric-resolution
_AGAIN = 300.0  # seconds after which a cluster without it is asked again
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SCALES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SCALES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTP", start=1)}


class Metrics:
    """What the pods of a namespace use; asked now and then, in a thread."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._thread = ThreadPoolExecutor(1, "lx-metrics")
        self._asked: Future[Mapping[str, Usage]] | None = None
        self._due = 0.0

    def news(self) -> Mapping[str, Usage]:
        """What was measured since the last time, by the names of Jobs; mostly nothing. Does not wait."""
        now = time.monotonic()
        if self._asked is None and now >= self._due:
            self._due = now + _EVERY
            self._asked = self._thread.submit(self._ask)
        if self._asked is None or not self._asked.done():
            return {}
        done, self._asked = self._asked, None
        return done.result()

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> Mapping[str, Usage]:
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self._namespace}/pods"
        try:
            found = self._cluster.ask("GET", path, {"labelSelector": f"{OURS}=lightex"})
        except ClusterError:  # it has no such API, we may not use it, or it is away: nothing depends on it
            self._due = time.monotonic() + _AGAIN
            return {}
        used: dict[str, tuple[float, float]] = {}
        for pod in found.get("items") or ():
            name = pod["metadata"].get("labels", {}).get("job-name")
            if name:
                cores, memory = used.get(name, (0.0, 0.0))
                more_cores, more_memory = _sums(pod)
                used[name] = cores + more_cores, memory + more_memory
        return {name: Usage(cores=cores, memory=int(memory)) for name, (cores, memory) in used.items()}


def _sums(pod: Object) -> tuple[float, float]:
    usages = [container.get("usage") or {} for container in pod.get("containers") or ()]
    return sum(quantity(each.get("cpu")) for each in usages), sum(quantity(each.get("memory")) for each in usages)


def quantity(text: object) -> float:
    """A quantity of Kubernetes as a number: "250m" -> 0.25, "64Mi" -> 67108864; what is none is 0."""
    given = str(text or "0")
    scale = next((scale for suffix, scale in _SCALES.items() if given.endswith(suffix)), 1.0)
    try:
        return float(given.rstrip("numkMGTPi")) * scale
    except ValueError:
        return 0.0
