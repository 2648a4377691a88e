"""What a test lets happen: to requests (`Faults`), to pods that no kubelet runs (`ByHand`), and to nodes (`Nodes`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes import api
from tests.services.kubernetes.api import ApiError, Json, ended, entry, is_leaving, is_over, with_condition
from tests.services.kubernetes.store import Change

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster
    from tests.services.kubernetes.server import Request


@dataclass
class Fault:
    """What happens to the next requests of a kind, instead of what they ask for or afterwards."""

    verb: str
    plural: str
    times: float  # infinite: until it is healed
    error: ApiError | None = None  # None: the connection is closed
    seconds: float = 0.0  # they are only answered late
    after: bool = False


class Faults:
    """Errors, and rights that are taken away. A verb is one of Kubernetes: "create", "list", "watch"..., "*" for any."""

    def fail(self: Cluster, verb: str, plural: str, code: int = 503, times: int | None = 1, *,
             retry_after: int | None = None, message: str | None = None, after: bool = False) -> None:  # fmt: skip
        """Answer the next requests with an error; `after` they were done, if wanted."""
        error = ApiError(code, message or "the test lets it fail", retry_after)
        self.faults.append(Fault(verb, plural, times or float("inf"), error, after=after))

    def drop(self: Cluster, verb: str, plural: str, times: int | None = 1, after: bool = True) -> None:
        """Close the connection of the next requests without an answer, after they were done or instead."""
        self.faults.append(Fault(verb, plural, times or float("inf"), after=after))

    def hang(self: Cluster, verb: str, plural: str, seconds: float, times: int | None = 1) -> None:
        """Answer the next requests late."""
        self.faults.append(Fault(verb, plural, times or float("inf"), seconds=seconds))

    def heal(self: Cluster) -> None:
        """Forget all faults."""
        self.faults.clear()

    def take_fault(self: Cluster, request: Request) -> Fault | None:
        """The fault that meets a request."""
        with self.store.changed:
            for fault in self.faults:
                if fault.verb in (request.verb, "*") and fault.plural in (request.plural, "*"):
                    fault.times -= 1
                    if not fault.times:
                        self.faults.remove(fault)
                    return fault
        return None

    def cut_watches(self: Cluster) -> None:
        """Break off all watches."""
        self.cuts += 1

    def end_watches(self: Cluster) -> None:
        """End all watches, as their timeout would."""
        self.ends += 1

    def forget_history(self: Cluster) -> None:
        """Let no watch go on from a version until now."""
        self.store.forget()

    def refuse_pods(self: Cluster, message: str | None) -> None:
        """Let no pod be created for Jobs, as a quota would; None: let it again."""
        self.refusal = message

    def deny(self: Cluster, verb: str, plural: str) -> None:
        """Take a right away."""
        self.denied.add((verb, plural))

    def allow(self: Cluster, verb: str, plural: str) -> None:
        """Give a right back."""
        self.denied.discard((verb, plural))

    def check_allowed(self: Cluster, request: Request) -> None:
        """Look whether a request may be made; if not, it is an error."""
        if (request.verb, request.plural) in self.denied:
            why = f'is forbidden: User "lx" cannot {request.verb} resource "{request.plural}"'
            raise ApiError(403, f'{request.plural} "{request.name}" {why} in the namespace "{request.namespace}"')

    def review(self: Cluster, body: Json) -> Json:
        """The answer to a SelfSubjectAccessReview."""
        wanted = body["spec"]["resourceAttributes"]
        return body | {"status": {"allowed": (wanted["verb"], wanted["resource"]) not in self.denied}}


class Kubelet:
    """No kubelet: tests write the statuses; what is deleted goes after a moment."""

    cluster: Cluster

    def start(self, cluster: Cluster) -> None:
        """Begin to look after pods."""
        self.cluster = cluster
        cluster.store.listeners.append(self.see)

    def close(self) -> None:
        """End all."""

    def see(self, change: Change) -> None:
        """Called with each change, by whoever makes it."""
        pod, cluster = change.obj, self.cluster
        if change.key[0] == "pods" and is_leaving(pod) and cluster.terminating is not None:
            wait = min(cluster.terminating, pod["metadata"]["deletionGracePeriodSeconds"])
            cluster.later(wait, lambda: self._end(pod))

    def _end(self, pod: Json) -> None:
        pod = self.cluster.store.current(pod)
        if pod and pod["spec"]["nodeName"] not in self.cluster.lost:
            if not is_over(pod):
                self.cluster.store.write_status(pod, lambda old: over(pod, old, 143))
            self.cluster.store.remove(pod)


def over(pod: Json, status: Json, code: int, container: str | None = None, **why: Any) -> Json:
    """The status of a pod that has ended: all of its containers in the same way, or one, and the others well."""
    began = {each["name"]: each["state"].get("running", {}) for each in status.get("containerStatuses", ())}
    entries = []
    for each in pod["spec"]["containers"]:
        state = ended(code, **why) if container in (None, each["name"]) else ended(0)
        entries.append(entry(each, {"terminated": state["terminated"] | began.get(each["name"], {})}))
    status = {"startTime": api.now()} | status | {"containerStatuses": entries}
    return with_condition(status | {"phase": "Failed" if code else "Succeeded"}, "Ready", "False", "PodCompleted")


class ByHand:
    """The test is the kubelet. `who` is a pod's name, or a Job's, whose newest pod is meant that has not ended."""

    def find_pod(self: Cluster, who: str) -> Json:
        """A pod."""
        pods = [found] if (found := self.get("pods", who)) else self.pods_of(who)
        assert pods, f"there is no pod {who}, and no pod of a Job of that name"
        return ([pod for pod in pods if not is_over(pod) and not is_leaving(pod)] or pods)[-1]

    def _bound(self: Cluster, who: str) -> Json:
        """A pod, once it is there and has a node."""
        self.wait(lambda: self.get("pods", who) or self.pods_of(who))
        self.wait(lambda: "nodeName" in self.find_pod(who)["spec"])
        return self.find_pod(who)

    def set_pod(self: Cluster, who: str, **status: Any) -> Json:
        """Merge something into the status of a pod: phase="Running", ..."""
        return self.store.write_status(self.find_pod(who), lambda old: api.merge(old, status))

    def start_pod(self: Cluster, who: str) -> Json:
        """Let a pod run."""
        pod = self._bound(who)
        more = {"phase": "Running", "startTime": api.now(), "podIP": "10.244.0.2"}
        running = {"running": {"startedAt": api.now()}}
        more["containerStatuses"] = [entry(each, running) for each in pod["spec"]["containers"]]
        more["initContainerStatuses"] = [entry(each, ended(0)) for each in pod["spec"].get("initContainers", ())]
        return self.store.write_status(pod, lambda old: with_condition(old | more, "Ready"))

    def block_pod(self: Cluster, who: str, reason: str, message: str = "", container: str | None = None) -> Json:
        """Let a container of a pod wait: ImagePullBackOff, CreateContainerConfigError, ..."""
        pod = self._bound(who)
        states = {each["name"]: {"waiting": {"reason": "ContainerCreating"}} for each in pod["spec"]["containers"]}
        states[container or next(iter(states))] = {"waiting": {"reason": reason, "message": message}}
        entries = [entry(each, states[each["name"]]) for each in pod["spec"]["containers"]]
        more = {"phase": "Pending", "startTime": api.now(), "containerStatuses": entries}
        return self.store.write_status(pod, lambda old: old | more)

    def end_pod(self: Cluster, who: str, code: int = 0, reason: str | None = None, message: str | None = None,
                container: str | None = None) -> Json:  # fmt: skip
        """Let a pod end; the exit code is that of one container, the first if no other is said."""
        pod = self.find_pod(who)
        container = container or pod["spec"]["containers"][0]["name"]
        return self.store.write_status(pod, lambda old: over(pod, old, code, container, reason=reason, message=message))

    def evict(self: Cluster, who: str, message: str = "The node was low on resource: memory.") -> Json:
        """Let a node's kubelet end a pod for want of something."""
        pod, why = self.find_pod(who), ("DisruptionTarget", "True", "TerminationByKubelet", message)
        more = {"reason": "Evicted", "message": message}
        return self.store.write_status(pod, lambda old: with_condition(over(pod, old, 137), *why) | more)

    def preempt(self: Cluster, who: str) -> None:
        """Let a pod make place for a more important one."""
        self._disrupt(self.find_pod(who), "PreemptionByScheduler", "default-scheduler: preempting")

    def remove_pod(self: Cluster, who: str) -> None:
        """Let a pod be gone, as when its kubelet is done with it."""
        self.store.remove(self.find_pod(who))


class Nodes:
    """Nodes, which may be lost."""

    def add_node(self: Cluster, name: str, cpu: str = "4", memory: str = "8Gi", labels: dict[str, str] | None = None,
                 gpus: int = 0, pods: int = 110) -> None:  # fmt: skip
        """Add a node that is ready."""
        size = {"cpu": cpu, "memory": memory, "pods": str(pods)} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
        status = with_condition({"capacity": size, "allocatable": size}, "Ready", reason="KubeletReady")
        meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        self.lost.discard(name)
        self.store.create("nodes", "", {"metadata": meta, "spec": {}, "status": status})

    def lose_node(self: Cluster, name: str, after: float = 0.2, gone: bool = True) -> None:
        """Let a node fall silent; after a while its pods are deleted, and it is taken away if `gone`."""
        self.lost.add(name)
        for each in (self.store.get("nodes", "", name), *self._pods_on(name)):
            self.store.write_status(each, lambda old: with_condition(old, "Ready", "Unknown", "NodeStatusUnknown"))

        def evict() -> None:
            for pod in self._pods_on(name):
                if not is_over(pod) and not is_leaving(pod):
                    self._disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")

        self.later(after, evict)
        if gone:
            self.later(2 * after, lambda: self.remove_node(name))

    def remove_node(self: Cluster, name: str) -> None:
        """Take a node away: what was on it has failed, and goes too."""
        self.lost.add(name)
        self.store.remove(self.store.get("nodes", "", name))
        why = ("DisruptionTarget", "True", "DeletionByPodGC", "PodGC: node no longer exists")
        for pod in self._pods_on(name):
            if not is_over(pod):
                self.store.write_status(pod, lambda old: with_condition(old, *why) | {"phase": "Failed"})
            self.store.remove(pod)

    def _pods_on(self: Cluster, node: str) -> list[Json]:
        return self.store.select("pods", fields=f"spec.nodeName={node}")

    def _disrupt(self: Cluster, pod: Json, reason: str, message: str) -> None:
        """Delete a pod that is not to blame for it."""
        self.store.write_status(pod, lambda old: with_condition(old, "DisruptionTarget", "True", reason, message))
        self.store.delete(pod)
