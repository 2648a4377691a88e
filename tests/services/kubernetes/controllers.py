"""What goes on by itself: Jobs make pods, owners that are gone take what is theirs along, deadlines pass."""

from __future__ import annotations

import contextlib
import copy
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes.api import (
    INDEX,
    ApiError,
    Json,
    containers_of,
    has_condition,
    is_leaving,
    is_over,
    now,
    random_name,
    with_condition,
)
from tests.services.kubernetes.scheduler import Scheduler
from tests.services.kubernetes.store import FOREGROUND, Change, owners_of

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_REACHED = {"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"}
_TOO_LATE = {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
_TOO_OFTEN = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}


class Controllers:
    """One thread that looks at what has changed, and does what is due."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store = cluster, cluster.store
        self.jobs, self.scheduler = JobController(cluster, self.later), Scheduler(cluster)
        self.paused = self._closing = False
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self.store.listeners.append(self._changes.put)
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)
        self._thread.start()

    def later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Do something after a while."""
        with self.store.changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), work))
        self._changes.put(None)  # it may be due before all others

    def close(self) -> None:
        """Do nothing any more."""
        self._closing = True
        self._changes.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closing:
            try:
                self._step()
            except Exception as error:
                self.cluster.errors.append(error)

    def _step(self) -> None:
        changes: list[Change | None] = []
        with contextlib.suppress(queue.Empty):
            changes.append(self._changes.get(timeout=max(0.0, self._due[0][0] - time.monotonic()) if self._due else 1))
            while True:
                changes.append(self._changes.get_nowait())
        while self.paused and not self._closing:
            time.sleep(0.01)
        with self.store.changed:
            while self._due and self._due[0][0] <= time.monotonic():
                with contextlib.suppress(ApiError):  # what it was about is gone
                    heapq.heappop(self._due)[2]()
            jobs: dict[str, Json] = {}
            for change in filter(None, changes):
                self._collect(change)
                job = change.obj if change.key[0] == "jobs" else self.store.owner_of(change.obj)
                if job and job["kind"] == "Job":
                    jobs[job["metadata"]["uid"]] = job
                    if change.key[0] == "pods" and change.kind == "DELETED":
                        self.jobs.count(job, change.obj)
            for job in jobs.values():
                self.jobs.look_at(job)
            if any(change and change.key[0] in ("pods", "nodes", "persistentvolumeclaims") for change in changes):
                self.scheduler.schedule()

    def _collect(self, change: Change) -> None:
        """Garbage collection: of what a gone owner has left, and of what is to go before its owner."""
        obj, owner = change.obj, self.store.owner_of(change.obj)
        if change.kind == "DELETED" or FOREGROUND in obj["metadata"].get("finalizers", ()):
            for child in self.store.owned_by(obj):
                self._let_go(child)
        elif owners_of(obj) and not owner and self.store.current(obj):
            self._let_go(obj)
        for each in (obj, owner) if owner else (obj,):  # one that waits for what it owns goes when that is gone
            if FOREGROUND in each["metadata"].get("finalizers", ()) and not self.store.owned_by(each):
                self.store.remove(each)

    def _let_go(self, obj: Json) -> None:
        if not is_leaving(obj):
            self.store.delete(obj, propagationPolicy="Background")


class JobController:
    """Makes the pods of Jobs, counts how they end, and ends Jobs."""

    def __init__(self, cluster: Cluster, later: Callable[[float, Callable[[], Any]], None]) -> None:
        self.cluster, self.store, self.later = cluster, cluster.store, later
        # By the uids of Job and pod: how each ended, as it was first seen, since pods may go. None: it does not count.
        self._ends: dict[str, dict[str, Json | None]] = {}

    def count(self, job: Json, pod: Json, counts: bool = True) -> None:
        """Note down that a pod has ended, or will."""
        ends = self._ends.setdefault(job["metadata"]["uid"], {})
        ends.setdefault(pod["metadata"]["uid"], pod if counts else None)

    def look_at(self, job: Json) -> None:
        """Do what is to be done for a Job; the caller holds the store."""
        job = self.store.current(job) or {}
        if not job or is_leaving(job) or has_condition(job["status"], "Complete", "Failed"):
            return
        active = []
        for pod in self._pods_of(job):
            if is_over(pod) or is_leaving(pod):  # one that leaves is replaced at once, and counts as failed
                self.count(job, pod)
            else:
                active.append(pod)
        ends = [pod for pod in self._ends.get(job["metadata"]["uid"], {}).values() if pod]
        done = {index_of(pod) for pod in ends if pod["status"]["phase"] == "Succeeded"}
        failed = sum(pod["status"]["phase"] != "Succeeded" for pod in ends)
        status = self._judge(job, len(done), failed)
        if job["spec"]["suspend"] or has_condition(status, "FailureTarget", "SuccessCriteriaMet"):
            for pod in active:
                self.count(job, pod, counts=not job["spec"]["suspend"])
                self.store.delete(pod)
            active = []
        else:
            active += self._make_pods(job, active, done)
        status |= {"active": len(active), "succeeded": len(done), "failed": failed}
        if all(is_over(pod) for pod in self._pods_of(job)):
            status = self._finish(job, status)
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
            return with_condition(status, "Suspended", reason="JobSuspended", message="Job suspended")
        if has_condition(status, "Suspended"):
            status = with_condition(status, "Suspended", "False", reason="JobResumed", message="Job resumed")
        status.setdefault("startTime", now())
        if (limit := spec.get("activeDeadlineSeconds")) is not None:
            left = datetime.fromisoformat(status["startTime"]).timestamp() + limit - time.time()
            if left <= 0:
                return with_condition(status, "FailureTarget", **_TOO_LATE)
            self.later(left, lambda: self.look_at(job))
        if failed > spec["backoffLimit"]:
            return with_condition(status, "FailureTarget", **_TOO_OFTEN)
        return with_condition(status, "SuccessCriteriaMet", **_REACHED) if done >= spec["completions"] else status

    def _finish(self, job: Json, status: Json) -> Json:
        """The last condition, when no pod is left that has not ended."""
        for each in status.get("conditions", ()):
            if kind := {"FailureTarget": "Failed", "SuccessCriteriaMet": "Complete"}.get(each["type"]):
                if kind == "Failed":
                    self.cluster.add_event(job, each["reason"], each["message"])
                return with_condition(status, kind, reason=each["reason"], message=each["message"])
        return status

    def _make_pods(self, job: Json, active: list[Json], done: set[object]) -> list[Json]:
        spec, made = job["spec"], []
        missing = max(0, min(spec["parallelism"], spec["completions"] - len(done)) - len(active))
        taken = {index_of(pod) for pod in active} | done
        indexes: list[int | None] = [index for index in range(spec["completions"]) if index not in taken]
        for index in indexes[:missing] if spec["completionMode"] == "Indexed" else [None] * missing:
            pod = pod_of(job, index)
            try:
                if self.cluster.refusal:
                    raise ApiError(403, f'pods "{pod["metadata"]["name"]}" is forbidden: {self.cluster.refusal}')
                made.append(self.store.create("pods", job["metadata"]["namespace"], pod))
            except ApiError as error:
                self.cluster.add_event(job, "FailedCreate", f"Error creating: {error.message}")
                self.later(0.5, lambda: self.look_at(job))
                break
        return made


def index_of(pod: Json) -> object:
    """The completion index of a pod of an Indexed Job; of others its own uid."""
    index = pod["metadata"].get("annotations", {}).get(INDEX)
    return pod["metadata"]["uid"] if index is None else int(index)


def pod_of(job: Json, index: int | None) -> Json:
    """A pod as a Job's template has it."""
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(job["spec"]["template"])}
    about, meta = job["metadata"], pod["metadata"]
    base = about["name"] if index is None else f"{about['name']}-{index}"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": about["name"], "uid": about["uid"], "controller": True}
    meta |= {"name": f"{base[:57]}-{random_name()}", "ownerReferences": [owner]}
    if index is not None:
        pod["spec"].setdefault("hostname", base)
        for kind in ("annotations", "labels"):
            meta[kind] = meta.get(kind, {}) | {INDEX: str(index)}
        for each in containers_of(pod):  # a real one says it by a fieldRef
            each.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
    return pod
