"""What pods use, by the cluster's metrics API (https://github.com/kubernetes-sigs/metrics-server), where it has one."""

from __future__ import annotations

from collections.abc import Mapping

from kubernetes.utils import parse_quantity

from lightex.dispatcher.engine import Usage
from lightex.dispatcher.engines.cluster.api import AwayError, ClusterError, Object, connect
from lightex.dispatcher.engines.cluster.manifest import OURS

API = "/apis/metrics.k8s.io/v1beta1"
"""Where the API is; who may log in may ask whether it is there."""

EVERY = 15.0
"""Seconds between two questions: the metrics server's own --metric-resolution."""


def of_pods(namespace: str) -> str:
    """The path of what the pods of a namespace use."""
    return f"{API}/namespaces/{namespace}/pods"


def used(context: str, namespace: str) -> Mapping[str, Usage] | None:
    """What the pods of a namespace use, by the names of their Jobs; None where the cluster does not tell."""
    try:
        found = connect(context).ask("GET", of_pods(namespace), {"labelSelector": f"{OURS}=lightex"})
    except AwayError:  # a metrics server that restarts, for one
        return {}
    except ClusterError:  # it has no such API, or we may not use it: nothing depends on it
        return None
    sums: dict[str, tuple[float, float]] = {}
    for pod in found.get("items") or ():
        name = pod["metadata"].get("labels", {}).get("job-name")
        if name:
            cores, memory = sums.get(name, (0.0, 0.0))
            more_cores, more_memory = _sums(pod)
            sums[name] = cores + more_cores, memory + more_memory
    return {name: Usage(cores=cores, memory=int(memory)) for name, (cores, memory) in sums.items()}


def _sums(pod: Object) -> tuple[float, float]:
    usages = [container.get("usage") or {} for container in pod.get("containers") or ()]
    return sum(quantity(each.get("cpu")) for each in usages), sum(quantity(each.get("memory")) for each in usages)


def quantity(text: object) -> float:
    """A quantity of Kubernetes as a number: "250m" -> 0.25, "64Mi" -> 67108864; what is none is 0."""
    try:
        return float(parse_quantity(text or 0))  # type: ignore[no-untyped-call]
    except ValueError:
        return 0.0
