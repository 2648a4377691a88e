"""What goes on by itself: Jobs make pods, these get nodes, owners that are gone take what is theirs along."""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes import api
from tests.services.kubernetes.api import ApiError, Json, has_condition, is_leaving, is_over, quantity, with_condition
from tests.services.kubernetes.store import FOREGROUND, Change, key_of, owners_of

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_REACHED = {"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"}
_TOO_LATE = {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
_TOO_OFTEN = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}

Amounts = dict[str, float]  # by resource


class Controllers:
    """One thread that looks at what has changed, and does what is due."""

    def __init__(self, cluster: Cluster) -> None:
        self.store = cluster.store
        self.jobs, self.scheduler = JobController(cluster), Scheduler(cluster)
        self.paused = self._closing = False
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._timers: list[threading.Timer] = []
        self.store.listeners.append(self._changes.put)
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)
        self._thread.start()

    def later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Do something after a while, unless what it is about is gone."""

        def do() -> None:
            with self.store.changed, contextlib.suppress(ApiError):
                work()

        self._timers.append(threading.Timer(seconds, do))
        self._timers[-1].daemon = True
        self._timers[-1].start()

    def close(self) -> None:
        """Do nothing any more."""
        self._closing = True
        self._changes.put(None)
        for each in self._timers:
            each.cancel()
        self._thread.join(5)

    def _run(self) -> None:
        while (change := self._changes.get()) or not self._closing:
            while self.paused and not self._closing:
                time.sleep(0.01)
            with self.store.changed:
                self._look_at(change)

    def _look_at(self, change: Change) -> None:
        self._collect(change)
        job = change.obj if change.key[0] == "jobs" else self.store.owner_of(change.obj)
        if job and job["kind"] == "Job":
            if change.key[0] == "pods" and change.kind == "DELETED":
                self.jobs.count(job, change.obj)
            self.jobs.look_at(job)
        if change.key[0] in ("pods", "nodes", "persistentvolumeclaims"):
            self.scheduler.schedule()

    def _collect(self, change: Change) -> None:
        """Garbage collection: of what a gone owner has left, and of what is to go before its owner."""
        obj, owner = change.obj, self.store.owner_of(change.obj)
        if change.kind == "DELETED" or FOREGROUND in obj["metadata"].get("finalizers", ()):
            for child in self.store.owned_by(obj):
                self.store.delete(child, propagationPolicy="Background")
        elif owners_of(obj) and not owner and self.store.current(obj):
            self.store.delete(obj, propagationPolicy="Background")
        for each in (obj, owner) if owner else (obj,):  # one that waits for what it owns goes when that is gone
            if FOREGROUND in each["metadata"].get("finalizers", ()) and not self.store.owned_by(each):
                self.store.remove(each)


class JobController:
    """Makes the pods of Jobs, counts how they end, and ends Jobs. The caller of its methods holds the store."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store = cluster, cluster.store
        # By the uids of Job and pod: how each ended, as it was first seen, since pods may go. None: it does not count.
        self._ends: dict[str, dict[str, Json | None]] = defaultdict(dict)

    def count(self, job: Json, pod: Json, counts: bool = True) -> None:
        """Note down that a pod has ended, or will."""
        self._ends[job["metadata"]["uid"]].setdefault(pod["metadata"]["uid"], pod if counts else None)

    def look_at(self, job: Json) -> None:
        """Do what is to be done for a Job."""
        job = self.store.current(job) or {}
        if not job or is_leaving(job) or has_condition(job["status"], "Complete", "Failed"):
            return
        active = []
        for pod in self._pods_of(job):
            if is_over(pod) or is_leaving(pod):  # one that leaves is replaced at once, and counts as failed
                self.count(job, pod)
            else:
                active.append(pod)
        ends = [pod for pod in self._ends[job["metadata"]["uid"]].values() if pod]
        done = {index_of(pod) for pod in ends if pod["status"]["phase"] == "Succeeded"}
        failed = sum(pod["status"]["phase"] != "Succeeded" for pod in ends)
        status = self._judge(job, len(done), failed)
        if job["spec"]["suspend"] or has_condition(status, "FailureTarget", "SuccessCriteriaMet"):
            for pod in active:
                self.count(job, pod, counts=not job["spec"]["suspend"])
                self.store.delete(pod)
        else:
            self._make_pods(job, active, done)
        pods = [pod for pod in self._pods_of(job) if not is_over(pod)]
        status |= {"active": len(pods), "succeeded": len(done), "failed": failed}
        for each in status.get("conditions", ()) if not pods else ():
            if kind := {"FailureTarget": "Failed", "SuccessCriteriaMet": "Complete"}.get(each["type"]):
                status = with_condition(status, kind, reason=each["reason"], message=each["message"])
        self.store.write_status(job, lambda _: status)

    def _pods_of(self, job: Json) -> list[Json]:
        return [each for each in self.store.owned_by(job) if each["kind"] == "Pod"]

    def _judge(self, job: Json, done: int, failed: int) -> Json:
        """The status of a Job by which it goes on, is suspended, or is to end when its pods have."""
        spec, status = job["spec"], dict(job["status"])
        if has_condition(status, "FailureTarget", "SuccessCriteriaMet"):
            return status
        if spec["suspend"]:
            status.pop("startTime", None)
            return with_condition(status, "Suspended", reason="JobSuspended")
        status = with_condition(status, "Suspended", "False") if has_condition(status, "Suspended") else status
        limit = spec.get("activeDeadlineSeconds")
        if limit and "startTime" not in status:
            self.cluster.later(limit, lambda: self.look_at(job))
        status.setdefault("startTime", api.now())
        if limit and time.time() >= datetime.fromisoformat(status["startTime"]).timestamp() + limit:
            return with_condition(status, "FailureTarget", **_TOO_LATE)
        if failed > spec["backoffLimit"]:
            return with_condition(status, "FailureTarget", **_TOO_OFTEN)
        return with_condition(status, "SuccessCriteriaMet", **_REACHED) if done >= spec["completions"] else status

    def _make_pods(self, job: Json, active: list[Json], done: set[object]) -> None:
        spec = job["spec"]
        missing = max(0, min(spec["parallelism"], spec["completions"] - len(done)) - len(active))
        taken = {index_of(pod) for pod in active} | done
        indexes: list[int | None] = [index for index in range(spec["completions"]) if index not in taken]
        for index in indexes[:missing] if spec["completionMode"] == "Indexed" else [None] * missing:
            pod = pod_of(job, index)
            try:
                if self.cluster.refusal:
                    raise ApiError(403, f'pods "{pod["metadata"]["name"]}" is forbidden: {self.cluster.refusal}')
                self.store.create("pods", job["metadata"]["namespace"], pod)
            except ApiError as error:
                self.cluster.add_event(job, "FailedCreate", f"Error creating: {error.message}")
                self.cluster.later(0.5, lambda: self.look_at(job))
                break


def index_of(pod: Json) -> object:
    """The completion index of a pod of an Indexed Job; of others its own uid."""
    index = pod["metadata"].get("annotations", {}).get(api.INDEX)
    return pod["metadata"]["uid"] if index is None else int(index)


def pod_of(job: Json, index: int | None) -> Json:
    """A pod as a Job's template has it."""
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(job["spec"]["template"])}
    about, meta = job["metadata"], pod["metadata"]
    base = about["name"] if index is None else f"{about['name']}-{index}"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": about["name"], "uid": about["uid"], "controller": True}
    meta |= {"name": f"{base[:57]}-{api.random_name()}", "ownerReferences": [owner]}
    if index is not None:
        pod["spec"].setdefault("hostname", base)
        for kind in ("annotations", "labels"):
            meta[kind] = meta.get(kind, {}) | {api.INDEX: str(index)}
        for each in api.containers_of(pod):  # a real one says it by a fieldRef
            each.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
    return pod


class Scheduler:
    """Binds pods to nodes, the oldest first."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store = cluster, cluster.store

    def schedule(self) -> None:
        """Look at all pods that are not bound; the caller holds the store."""
        pods = [pod for pod in self.store.select("pods") if not is_over(pod)]
        waiting = [pod for pod in pods if "nodeName" not in pod["spec"] and not is_leaving(pod)]
        used: dict[str, Counter[str]] = defaultdict(Counter)
        for pod in pods if waiting else ():
            used[pod["spec"].get("nodeName", "")].update(needs_of(pod))
        for pod in waiting:
            reasons = {node["metadata"]["name"]: self._against(pod, node, used) for node in self.store.select("nodes")}
            if fit := [name for name, why in reasons.items() if not why]:
                name = min(fit, key=lambda each: used[each]["cpu"])
                used[name].update(needs_of(pod))
                self.store.write(*key_of(pod), lambda obj, name=name: obj | {
                    "spec": obj["spec"] | {"nodeName": name}, "status": with_condition(obj["status"], "PodScheduled")})  # fmt: skip
                continue
            message = summary(list(reasons.values()))
            if message not in [each["message"] for each in pod["status"].get("conditions", ())]:
                why = {"reason": "Unschedulable", "message": message}
                self.store.write_status(pod, lambda old, why=why: with_condition(old, "PodScheduled", "False", **why))
                self.cluster.add_event(pod, "FailedScheduling", message)

    def _against(self, pod: Json, node: Json, used: Mapping[str, Counter[str]]) -> list[str]:
        """What speaks against a node."""
        if not has_condition(node["status"], "Ready"):
            return ["node(s) had untolerated taint {node.kubernetes.io/unreachable: }"]
        if not pod["spec"].get("nodeSelector", {}).items() <= node["metadata"]["labels"].items():
            return ["node(s) didn't match Pod's node affinity/selector"]
        for volume in pod["spec"].get("volumes", ()):
            name = volume.get("persistentVolumeClaim", {}).get("claimName")
            if name and not self.store.find("persistentvolumeclaims", pod["metadata"]["namespace"], name):
                return [f'persistentvolumeclaim "{name}" not found']
        has, taken = node["status"]["allocatable"], used[node["metadata"]["name"]]
        needs = sorted(needs_of(pod).items())
        short = [key for key, value in needs if value > quantity(has.get(key, 0)) - taken[key] + 1e-9]
        return ["Too many pods" if key == "pods" else f"Insufficient {key}" for key in short]


def needs_of(pod: Json) -> Amounts:
    """What a pod requests: the sum over its containers, or what one for its start needs at its turn."""
    total: Amounts = defaultdict(float, pods=1)
    for each in pod["spec"]["containers"]:
        for key, value in each["resources"]["requests"].items():
            total[key] += quantity(value)
    for each in pod["spec"].get("initContainers", ()):
        for key, value in each["resources"]["requests"].items():
            total[key] = max(total[key], quantity(value))
    return total


def summary(reasons: list[list[str]]) -> str:
    """What speaks against each node, as the scheduler puts it."""
    if not reasons:
        return "no nodes available to schedule pods"
    totals, start = Counter(why for each in reasons for why in each), f"0/{len(reasons)} nodes are available: "
    words = ", ".join(why if why.startswith("persistent") else f"{totals[why]} {why}" for why in sorted(totals))
    return f"{start}{words}. preemption: {start}{len(reasons)} Preemption is not helpful for scheduling."
