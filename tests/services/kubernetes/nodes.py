"""Nodes, and which pod goes where."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.services.kubernetes.api import Json, has_condition, is_leaving, is_over, now, quantity, with_condition

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster


def make_node(name: str, cpu: str, memory: str, labels: dict[str, str] | None, gpus: int, pods: int) -> Json:
    """A Node that is ready."""
    size = {"cpu": str(cpu), "memory": str(memory), "pods": str(pods), "ephemeral-storage": "100Gi"}
    size |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    own = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    meta = {"name": name, "labels": {**own, **(labels or {})}}
    status = {"capacity": size, "allocatable": size, "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
    ready = {"reason": "KubeletReady", "message": "kubelet is posting ready status"}
    status = with_condition(status, "Ready", **ready)
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": status}


def needs_of(pod: Json) -> dict[str, float]:
    """What a pod requests: the sum over its containers and sidecars, or what one init container needs at its turn."""
    total: dict[str, float] = defaultdict(float, pods=1)
    most: dict[str, float] = defaultdict(float)
    for each in pod["spec"].get("initContainers") or ():
        for key, value in _requests(each).items():
            most[key] = max(most[key], total[key] + value)
            if each.get("restartPolicy") == "Always":
                total[key] += value
    for each in pod["spec"]["containers"]:
        for key, value in _requests(each).items():
            total[key] += value
    return {key: max(total[key], most[key]) for key in {*total, *most}}


def _requests(container: Json) -> dict[str, float]:
    return {key: quantity(value) for key, value in (container["resources"].get("requests") or {}).items()}


class Scheduler:
    """Binds pods to nodes, in the order of their priority and age."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store = cluster, cluster.store

    def schedule(self) -> None:
        """Look at all pods that are not bound."""
        pods = self.store.select("pods")
        waiting = [pod for pod in pods if not pod["spec"].get("nodeName") and not is_leaving(pod) and not is_over(pod)]
        if not waiting:
            return
        used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for pod in pods:
            if (name := pod["spec"].get("nodeName")) and not is_over(pod):
                for key, value in needs_of(pod).items():
                    used[name][key] += value
        nodes = self.store.select("nodes")
        age = {uid: number for number, uid in enumerate(self.store.uids)}
        order = sorted(waiting, key=lambda pod: (-pod["spec"].get("priority", 0), age[pod["metadata"]["uid"]]))
        for pod in order:
            if pod["spec"].get("schedulingGates"):
                continue
            needs = needs_of(pod)
            reasons = {node["metadata"]["name"]: self._against(pod, needs, node, used) for node in nodes}
            fit = [name for name, why in reasons.items() if not why]
            claim = self._missing_claim(pod)
            if fit and not claim:
                name = min(fit, key=lambda each: used[each]["cpu"])
                for key, value in needs.items():
                    used[name][key] += value
                self._bind(pod, name)
            else:
                self._tell(pod, claim or _summary(list(reasons.values())))

    def _missing_claim(self, pod: Json) -> str | None:
        for volume in pod["spec"].get("volumes") or ():
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if name and not self.store.find("persistentvolumeclaims", pod["metadata"]["namespace"], name):
                count = len(self.store.select("nodes"))
                text = f'0/{count} nodes are available: persistentvolumeclaim "{name}" not found.'
                return f"{text} preemption: 0/{count} nodes are available: {count} Preemption is not helpful for scheduling."
        return None

    def _against(self, pod: Json, needs: dict[str, float], node: Json, used: dict[str, dict[str, float]]) -> list[str]:
        """What speaks against a node."""
        if not has_condition(node, "Ready"):
            return ["node(s) had untolerated taint {node.kubernetes.io/unreachable: }"]
        if node["spec"].get("unschedulable"):
            return ["node(s) were unschedulable"]
        if not matches(pod, node["metadata"]):
            return ["node(s) didn't match Pod's node affinity/selector"]
        has = {key: quantity(value) for key, value in node["status"]["allocatable"].items()}
        taken = used[node["metadata"]["name"]]
        short = [key for key in sorted(needs) if needs[key] > has.get(key, 0) - taken.get(key, 0) + 1e-9]
        return ["Too many pods" if key == "pods" else f"Insufficient {key}" for key in short]

    def _bind(self, pod: Json, node: str) -> None:
        meta = pod["metadata"]

        def bound(obj: Json) -> Json:
            status = with_condition(obj["status"], "PodScheduled")
            status["conditions"] = [{k: v for k, v in each.items() if k not in ("reason", "message")}
                                    for each in status["conditions"]]  # fmt: skip
            return obj | {"spec": obj["spec"] | {"nodeName": node}, "status": status}

        self.store.write("pods", meta["namespace"], meta["name"], bound)
        text = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self.cluster.add_event(pod, "Scheduled", text, "Normal", component="default-scheduler")

    def _tell(self, pod: Json, message: str) -> None:
        told = [each.get("message") for each in pod["status"].get("conditions", ())]
        if message not in told:
            meta = pod["metadata"]
            self.store.write_status("pods", meta["namespace"], meta["name"], lambda status: with_condition(
                status, "PodScheduled", "False", reason="Unschedulable", message=message))  # fmt: skip
            self.cluster.add_event(pod, "FailedScheduling", message, component="default-scheduler")


def _summary(reasons: list[list[str]]) -> str:
    """As the scheduler puts it."""
    count = len(reasons)
    if not count:
        return "no nodes available to schedule pods"
    totals = Counter(why for each in reasons for why in each)
    text = f"0/{count} nodes are available: {', '.join(f'{totals[why]} {why}' for why in sorted(totals))}."
    helpless = sum(any("Insufficient" not in why and "Too many" not in why for why in each) for each in reasons)
    parts = [f"{count - helpless} No preemption victims found for incoming pod"] if count > helpless else []
    parts += [f"{helpless} Preemption is not helpful for scheduling"] if helpless else []
    return f"{text} preemption: 0/{count} nodes are available: {', '.join(parts)}."


def matches(pod: Json, node: Json) -> bool:
    """Whether a node is one that a pod may go to."""
    labels = node["labels"]
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    return terms is None or any(all(_holds(each, node) for each in _expressions(term)) for term in terms)


def _expressions(term: Json) -> list[Json]:
    fields = [each | {"field": True} for each in term.get("matchFields") or ()]
    return [*(term.get("matchExpressions") or ()), *fields]


def _holds(test: Json, node: Json) -> bool:
    value = node["name"] if test.get("field") else node["labels"].get(test["key"])
    values = test.get("values") or []
    if test["operator"] in ("Gt", "Lt"):
        return value is not None and (int(value) > int(values[0])) is (test["operator"] == "Gt")
    return {"In": value in values, "NotIn": value not in values, "Exists": value is not None,
            "DoesNotExist": value is None}[test["operator"]]  # fmt: skip


def unready(status: Json) -> Json:
    """The status of a pod whose node is not heard of."""
    if any(each["type"] == "Ready" for each in status.get("conditions", ())):
        return with_condition(status, "Ready", "False", reason="NodeNotReady", message="Node is not ready")
    return status


def disrupted(status: Json, reason: str, message: str) -> Json:
    """The status of a pod that is ended from outside."""
    return with_condition(status, "DisruptionTarget", reason=reason, message=message)


def lost(node: Json) -> Json:
    """A node that is not heard of."""
    more = {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": now()}
    return node | {"status": with_condition(node["status"], "Ready", "Unknown", **more),
                   "spec": node["spec"] | {"taints": [taint]}}  # fmt: skip


def collected(status: Json) -> Json:
    """The status of a pod whose node is no more."""
    return disrupted(status, "DeletionByPodGC", "PodGC: node no longer exists") | {"phase": "Failed"}
