"""What a test says of pods, where no kubelet runs them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes.api import Json, is_leaving, is_over, merge, now
from tests.services.kubernetes.kubelet import containers_of, ended, entry, over, with_ready
from tests.services.kubernetes.nodes import disrupted

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_addresses = itertools.count(2)


class ByHand:
    """The part of `Cluster` that tests are kubelets by."""

    def find_pod(self: Cluster, who: str) -> Json:
        """A pod, by its name, or the newest one of a Job, by the Job's; one that has not ended goes first."""
        if found := self.get("pods", who, self.namespace):
            return found
        pods = [pod for pod in self.pods_of(who) if pod["metadata"]["namespace"] == self.namespace]
        assert pods, f"there is no pod {who}, and no pod of a Job of that name"
        return ([pod for pod in pods if not is_over(pod) and not is_leaving(pod)] or pods)[-1]

    def set_pod(self: Cluster, who: str, phase: str | None = None, **status: Any) -> Json:
        """Merge something into the status of a pod."""
        pod = self.find_pod(who)
        return self._status(pod, lambda old: merge(old, {**status, **({"phase": phase} if phase else {})}))

    def start_pod(self: Cluster, who: str) -> Json:
        """Let a pod run."""
        pod = self.wait(lambda: self._bound(who))
        states = [entry(each, {"running": {"startedAt": now()}}) for each in containers_of(pod)]
        init = [entry(each, _running_or_done(each)) for each in pod["spec"].get("initContainers") or ()]
        more = {"phase": "Running", "containerStatuses": states, "startTime": now(), "hostIP": "127.0.0.1"}
        more |= {"initContainerStatuses": init} if init else {}
        more |= {"podIP": (address := f"10.244.0.{next(_addresses) % 250 + 1}"), "podIPs": [{"ip": address}]}
        return self._status(pod, lambda old: with_ready(old | more, True))

    def end_pod(self: Cluster, who: str, code: int = 0, reason: str | None = None, message: str | None = None,
                container: str | None = None) -> Json:  # fmt: skip
        """Let a pod end; the exit code is that of one container, the first if no other is said."""
        pod = self.find_pod(who)
        first = container or containers_of(pod)[0]["name"]
        states = {each["name"]: ended(0) for each in containers_of(pod)}
        assert first in states, f"the pod has no container {first}: {list(states)}"
        states[first] = ended(code, reason, message)
        return self._status(pod, lambda old: over(pod, {"startTime": now()} | old, states))

    def block_pod(self: Cluster, who: str, reason: str, message: str = "", container: str | None = None) -> Json:
        """Let a container of a pod wait: ImagePullBackOff, CreateContainerConfigError, ..."""
        pod = self.wait(lambda: self._bound(who))
        name = container or containers_of(pod)[0]["name"]
        waits = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        other = {"waiting": {"reason": "ContainerCreating"}}
        states = [entry(each, waits if each["name"] == name else other) for each in containers_of(pod)]
        more = {"phase": "Pending", "containerStatuses": states, "startTime": now()}
        return self._status(pod, lambda old: with_ready(old | more, False))

    def evict(self: Cluster, who: str, message: str = "The node was low on resource: memory.") -> Json:
        """Let a node's kubelet end a pod for want of something."""
        pod = self.find_pod(who)
        states = dict.fromkeys((each["name"] for each in containers_of(pod)), ended(137))
        why = {"reason": "Evicted", "message": message}

        def evicted(old: Json) -> Json:
            status = disrupted(old, "TerminationByKubelet", message)
            return over(pod, status, states, failed=True) | why

        self.add_event(pod, "Evicted", message)
        return self._status(pod, evicted)

    def preempt(self: Cluster, who: str) -> None:
        """Let a pod make place for a more important one."""
        pod = self.find_pod(who)
        text = "default-scheduler: preempting to accommodate a higher priority pod"
        self._status(pod, lambda old: disrupted(old, "PreemptionByScheduler", text))
        self.add_event(pod, "Preempted", "Preempted by a pod on node " + pod["spec"].get("nodeName", ""))
        self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], {})

    def remove_pod(self: Cluster, who: str) -> None:
        """Let a pod be gone, as when its kubelet is done with it."""
        meta = self.find_pod(who)["metadata"]
        self.store.remove("pods", meta["namespace"], meta["name"])

    def add_log(self: Cluster, who: str, text: str, container: str | None = None) -> None:
        """Let a container write something."""
        pod = self.find_pod(who)
        self.kubelet.add_log(pod, container or containers_of(pod)[0]["name"], text)

    def _bound(self: Cluster, who: str) -> Json | None:
        pods = self.pods_of(who)
        if not pods and not self.store.find("pods", self.namespace, who):
            return None
        pod = self.find_pod(who)
        return pod if pod["spec"].get("nodeName") else None

    def _status(self: Cluster, pod: Json, make: Any) -> Json:
        meta = pod["metadata"]
        return self.store.write_status("pods", meta["namespace"], meta["name"], make)


def _running_or_done(spec: Json) -> Json:
    return {"running": {"startedAt": now()}} if spec.get("restartPolicy") == "Always" else ended(0)
