"""What goes on by itself: Jobs make pods, these get nodes, owners that are gone take what is theirs along."""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes import api
from tests.services.kubernetes.api import ApiError, Json, has_condition, is_leaving, is_over, quantity, with_condition
from tests.services.kubernetes.store import FOREGROUND, Change, key_of, owners_of

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster


class Controllers:
    """One thread that looks at what has changed, and does what is due."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store, self.jobs = cluster, cluster.store, JobController(cluster)
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

        timer = threading.Timer(seconds, do)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

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
            schedule(self.cluster)

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
        active = [pod for pod in self._pods_of(job) if not is_over(pod) and not is_leaving(pod)]
        for pod in self._pods_of(job):
            if is_over(pod) or is_leaving(pod):  # one that leaves is replaced at once, and counts as failed
                self.count(job, pod)
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
            why = ("DeadlineExceeded", "Job was active longer than specified deadline")
            return with_condition(status, "FailureTarget", "True", *why)
        if failed > spec["backoffLimit"]:
            why = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
            return with_condition(status, "FailureTarget", "True", *why)
        reached = ("SuccessCriteriaMet", "True", "CompletionsReached")
        return with_condition(status, *reached) if done >= spec["completions"] else status

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
    meta |= {"name": f"{base[:57]}-{uuid.uuid4().hex[:5]}", "ownerReferences": [owner]}
    if index is not None:
        pod["spec"].setdefault("hostname", base)
        for kind in ("annotations", "labels"):
            meta[kind] = meta.get(kind, {}) | {api.INDEX: str(index)}
        # A real one says it by a fieldRef.
        for each in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            each.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
    return pod


def schedule(cluster: Cluster) -> None:
    """Bind pods to nodes, the oldest first; the caller holds the store."""
    pods = [pod for pod in cluster.store.select("pods") if not is_over(pod)]
    waiting = [pod for pod in pods if "nodeName" not in pod["spec"] and not is_leaving(pod)]
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for pod in pods if waiting else ():
        used[pod["spec"].get("nodeName", "")].update(needs_of(pod))
    for pod in waiting:
        nodes = cluster.store.select("nodes")
        reasons = {node["metadata"]["name"]: against(cluster, pod, node, used) for node in nodes}
        if fit := [name for name, why in reasons.items() if not why]:
            name = min(fit, key=lambda each: used[each]["cpu"])
            used[name].update(needs_of(pod))
            cluster.store.write_status(pod, lambda old: with_condition(old, "PodScheduled"))
            cluster.store.write(*key_of(pod), lambda obj, name=name: obj | {"spec": obj["spec"] | {"nodeName": name}})
            continue
        start = f"0/{len(nodes)} nodes are available: "
        totals = Counter(why for each in reasons.values() for why in each)
        words = ", ".join(why if why.startswith("persistent") else f"{totals[why]} {why}" for why in sorted(totals))
        message = f"{start}{words}. preemption: {start}{len(nodes)} Preemption is not helpful for scheduling."
        message = message if nodes else "no nodes available to schedule pods"
        if message not in [each["message"] for each in pod["status"].get("conditions", ())]:
            why = ("PodScheduled", "False", "Unschedulable", message)
            cluster.store.write_status(pod, lambda old, why=why: with_condition(old, *why))
            cluster.add_event(pod, "FailedScheduling", message)


def against(cluster: Cluster, pod: Json, node: Json, used: Mapping[str, Counter[str]]) -> list[str]:
    """What speaks against a node."""
    if not has_condition(node["status"], "Ready"):
        return ["node(s) had untolerated taint {node.kubernetes.io/unreachable: }"]
    if not pod["spec"].get("nodeSelector", {}).items() <= node["metadata"]["labels"].items():
        return ["node(s) didn't match Pod's node affinity/selector"]
    for volume in pod["spec"].get("volumes", ()):
        name = volume.get("persistentVolumeClaim", {}).get("claimName")
        if name and not cluster.store.find("persistentvolumeclaims", pod["metadata"]["namespace"], name):
            return [f'persistentvolumeclaim "{name}" not found']
    has, taken, needs = node["status"]["allocatable"], used[node["metadata"]["name"]], needs_of(pod)
    short = [key for key in sorted(needs) if needs[key] > quantity(has.get(key, 0)) - taken[key] + 1e-9]
    return ["Too many pods" if key == "pods" else f"Insufficient {key}" for key in short]


def needs_of(pod: Json) -> dict[str, float]:
    """What a pod requests; what a container needs that runs before the others is taken to be less."""
    total: dict[str, float] = defaultdict(float, pods=1)
    for each in pod["spec"]["containers"]:
        for key, value in each["resources"]["requests"].items():
            total[key] += quantity(value)
    return total
