"""Which pod goes to which node."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.services.kubernetes.api import Json, has_condition, is_leaving, is_over, quantity, with_condition
from tests.services.kubernetes.store import key_of

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

Amounts = Mapping[str, float]  # by resource


class Scheduler:
    """Binds pods to nodes, the oldest first."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store = cluster, cluster.store

    def schedule(self) -> None:
        """Look at all pods that are not bound; the caller holds the store."""
        pods = [pod for pod in self.store.select("pods") if not is_over(pod)]
        nodes = self.store.select("nodes")
        used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for pod in pods:
            _add(used[pod["spec"].get("nodeName", "")], needs_of(pod))
        for pod in pods:
            if "nodeName" in pod["spec"] or is_leaving(pod):
                continue
            reasons = {node["metadata"]["name"]: self._against(pod, node, used) for node in nodes}
            if fit := [name for name, why in reasons.items() if not why]:
                name = min(fit, key=lambda each: used[each]["cpu"])
                _add(used[name], needs_of(pod))
                self._bind(pod, name)
            else:
                self._tell(pod, summary(list(reasons.values())))

    def _against(self, pod: Json, node: Json, used: Mapping[str, Amounts]) -> list[str]:
        """What speaks against a node."""
        if not has_condition(node["status"], "Ready"):
            return ["node(s) had untolerated taint {node.kubernetes.io/unreachable: }"]
        if not pod["spec"].get("nodeSelector", {}).items() <= node["metadata"]["labels"].items():
            return ["node(s) didn't match Pod's node affinity/selector"]
        for volume in pod["spec"].get("volumes", ()):
            name = volume.get("persistentVolumeClaim", {}).get("claimName")
            if name and not self.store.find("persistentvolumeclaims", pod["metadata"]["namespace"], name):
                return [f'persistentvolumeclaim "{name}" not found']
        has, taken, needs = node["status"]["allocatable"], used[node["metadata"]["name"]], needs_of(pod)
        short = [key for key in sorted(needs) if needs[key] > quantity(has.get(key, 0)) - taken.get(key, 0) + 1e-9]
        return ["Too many pods" if key == "pods" else f"Insufficient {key}" for key in short]

    def _bind(self, pod: Json, node: str) -> None:
        def bound(obj: Json) -> Json:
            return obj | {
                "spec": obj["spec"] | {"nodeName": node},
                "status": with_condition(obj["status"], "PodScheduled"),
            }

        self.store.write(*key_of(pod), bound)

    def _tell(self, pod: Json, message: str) -> None:
        if message not in [each.get("message") for each in pod["status"].get("conditions", ())]:
            why = {"reason": "Unschedulable", "message": message}
            self.store.write_status(pod, lambda status: with_condition(status, "PodScheduled", "False", **why))
            self.cluster.add_event(pod, "FailedScheduling", message)


def _add(amounts: dict[str, float], more: Amounts) -> None:
    for key, value in more.items():
        amounts[key] += value


def needs_of(pod: Json) -> Amounts:
    """What a pod requests: the sum over its containers, or what one for its start needs at its turn."""
    total: dict[str, float] = defaultdict(float, pods=1)
    for each in pod["spec"]["containers"]:
        _add(total, {key: quantity(value) for key, value in each["resources"].get("requests", {}).items()})
    for each in pod["spec"].get("initContainers", ()):
        for key, value in each["resources"].get("requests", {}).items():
            total[key] = max(total[key], quantity(value))
    return total


def summary(reasons: list[list[str]]) -> str:
    """What speaks against each node, as the scheduler puts it."""
    if not reasons:
        return "no nodes available to schedule pods"
    totals, start = Counter(why for each in reasons for why in each), f"0/{len(reasons)} nodes are available: "
    words = ", ".join(why if why.startswith("persistent") else f"{totals[why]} {why}" for why in sorted(totals))
    return f"{start}{words}. preemption: {start}{len(reasons)} Preemption is not helpful for scheduling."
