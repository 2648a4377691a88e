"""The Job controller."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes.api import (
    INDEX,
    ApiError,
    Json,
    has_condition,
    is_leaving,
    is_over,
    now,
    seconds,
    with_condition,
)
from tests.services.kubernetes.store import Change, owners_of, random_name, reference

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_REACHED = {"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"}


@dataclass
class Book:
    """What is known of a Job beyond its status: which pods were counted, as a real one keeps by finalizers."""

    counted: set[str] = field(default_factory=set)
    succeeded: int = 0
    failed: int = 0
    done: set[int] = field(default_factory=set)  # indexes
    failures: dict[int, int] = field(default_factory=dict)  # by index; -1 where there are none
    last_failure: float = 0.0
    ttl_set: bool = False
    deadline_set: float = 0.0


class JobController:
    """Makes the pods of Jobs, counts how they end, and ends Jobs."""

    def __init__(self, cluster: Cluster, later: Callable[[float, Callable[[], Any]], None]) -> None:
        self.cluster, self.store, self.later = cluster, cluster.store, later
        self.books: dict[str, Book] = {}

    def note(self, change: Change) -> None:
        """Count a pod that is gone before its end was looked at."""
        for owner in owners_of(change.obj):
            if change.kind == "DELETED" and (book := self.books.get(owner)):
                self._count(book, change.obj)

    def look_at(self, namespace: str, name: str) -> None:
        """Do what is to be done for a Job."""
        job = self.store.get("jobs", namespace, name)
        uid = job["metadata"]["uid"]
        if is_leaving(job):
            return
        book = self.books.setdefault(uid, Book())
        if has_condition(job, "Complete", "Failed"):
            self._wait_for_ttl(job, book)
            return
        pods = self.store.owned_by(uid, "pods")
        suspended = job["spec"]["suspend"]
        for pod in pods:
            if is_over(pod) or (is_leaving(pod) and not suspended and self._replaces_leaving(job)):
                self._count(book, pod)
        active = [pod for pod in pods if not is_over(pod) and not is_leaving(pod)]
        status = dict(job["status"])
        if not suspended:
            status.setdefault("startTime", now())
        status = self._judge(job, status, book)
        ending = has_condition({"status": status}, "FailureTarget", "SuccessCriteriaMet")
        if ending or suspended:
            for pod in active:
                self._delete(job, pod)
            active = []
        elif not ending:
            active += self._make_pods(job, book, active, pods)
        status = self._count_up(job, status, book, active, pods)
        if ending and not [pod for pod in self.store.owned_by(uid, "pods") if not is_over(pod)]:
            status = self._finish(job, status)
        self.store.write_status("jobs", namespace, name, lambda _: status)

    def _replaces_leaving(self, job: Json) -> bool:
        return job["spec"]["podReplacementPolicy"] == "TerminatingOrFailed"

    def _count(self, book: Book, pod: Json) -> None:
        uid, index = pod["metadata"]["uid"], index_of(pod)
        if uid in book.counted:
            return
        book.counted.add(uid)
        if pod["status"].get("phase") == "Succeeded":
            if index is None or index not in book.done:
                book.succeeded += 1
            book.done |= set() if index is None else {index}
        else:
            book.failed += 1
            place = -1 if index is None else index
            book.failures[place] = book.failures.get(place, 0) + 1
            book.last_failure = time.monotonic()

    def _judge(self, job: Json, status: Json, book: Book) -> Json:
        """Whether it is time for a Job to end, or to be suspended."""
        spec = job["spec"]
        if has_condition(job, "FailureTarget", "SuccessCriteriaMet"):
            return status
        if spec["suspend"]:
            status.pop("startTime", None)
            return with_condition(status, "Suspended", reason="JobSuspended", message="Job suspended")
        if has_condition(job, "Suspended"):
            status = with_condition(status, "Suspended", "False", reason="JobResumed", message="Job resumed")
        limit, per_index = spec["backoffLimit"], spec.get("backoffLimitPerIndex")
        wanted = spec.get("completions")
        bad = self._bad_indexes(job, book)
        why = None
        if (seconds_left := self._time_left(job, status, book)) is not None and seconds_left <= 0:
            why = ("DeadlineExceeded", "Job was active longer than specified deadline")
        elif book.failed > limit:
            why = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif per_index is not None and bad and len(bad | book.done) == wanted:
            why = ("FailedIndexes", "Job has failed indexes")
        elif len(bad) > spec.get("maxFailedIndexes", 1 << 31):
            why = ("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
        if why:
            return with_condition(status, "FailureTarget", reason=why[0], message=why[1])
        if book.succeeded >= (wanted if wanted is not None else 1):
            return with_condition(status, "SuccessCriteriaMet", **_REACHED)
        return status

    def _bad_indexes(self, job: Json, book: Book) -> set[int]:
        limit = job["spec"].get("backoffLimitPerIndex")
        return set() if limit is None else {index for index, times in book.failures.items() if times > limit}

    def _time_left(self, job: Json, status: Json, book: Book) -> float | None:
        limit = job["spec"].get("activeDeadlineSeconds")
        if limit is None:
            return None
        left = seconds(status["startTime"]) + limit - time.time()
        if left > 0 and book.deadline_set != seconds(status["startTime"]):
            book.deadline_set = seconds(status["startTime"])
            self._again(job, left)
        return left

    def _again(self, job: Json, after: float) -> None:
        meta = job["metadata"]

        def look() -> None:
            with self.store.changed:
                self.look_at(meta["namespace"], meta["name"])

        self.later(after, look)

    def _count_up(self, job: Json, status: Json, book: Book, active: list[Json], pods: list[Json]) -> Json:
        ready = [pod for pod in active if has_condition(pod, "Ready")]
        leaving = [pod for pod in pods if is_leaving(pod) and not is_over(pod)]
        counts = {"active": len(active), "succeeded": book.succeeded, "failed": book.failed}
        status = {key: value for key, value in status.items() if key not in counts}
        status |= {key: number for key, number in counts.items() if number}
        status |= {"ready": len(ready), "terminating": len(leaving), "uncountedTerminatedPods": {}}
        if job["spec"]["completionMode"] == "Indexed":
            status |= {"completedIndexes": ranges(book.done)} if book.done else {}
            if job["spec"].get("backoffLimitPerIndex") is not None:
                status["failedIndexes"] = ranges(self._bad_indexes(job, book))
        return status

    def _finish(self, job: Json, status: Json) -> Json:
        """The last condition, when no pod is left that has not ended."""
        first = next(each for each in status["conditions"] if each["type"] in ("FailureTarget", "SuccessCriteriaMet")
                     and each["status"] == "True")  # fmt: skip
        failed = first["type"] == "FailureTarget"
        more = {"reason": first["reason"], "message": first["message"]}
        status = with_condition(status, "Failed" if failed else "Complete", **more)
        if failed:
            self.cluster.add_event(job, more["reason"], more["message"], component="job-controller")
        else:
            status["completionTime"] = now()
            self.cluster.add_event(job, "Completed", "Job completed", "Normal", component="job-controller")
        return status | {"terminating": 0, "ready": 0}

    def _make_pods(self, job: Json, book: Book, active: list[Json], pods: list[Json]) -> list[Json]:
        spec = job["spec"]
        wanted = spec["parallelism"]
        if spec.get("completions") is not None:
            wanted = min(wanted, spec["completions"] - book.succeeded)
        elif book.succeeded:  # any success is enough: no new ones
            wanted = len(active)
        if not self._replaces_leaving(job):
            active = [*active, *(pod for pod in pods if is_leaving(pod) and not is_over(pod))]
        missing = wanted - len(active)
        if missing <= 0:
            return []
        if book.failed and spec.get("backoffLimitPerIndex") is None:
            delay = min(self.cluster.backoff * 2 ** (book.failed - 1), 600)
            if (left := book.last_failure + delay - time.monotonic()) > 0:
                self._again(job, left + 0.001)
                return []
        if spec["completionMode"] != "Indexed":
            return self._create(job, [None] * missing)
        taken = {index_of(pod) for pod in active} | book.done | self._bad_indexes(job, book)
        free = [index for index in range(spec["completions"]) if index not in taken]
        return self._create(job, free[:missing])

    def _create(self, job: Json, indexes: list[int | None]) -> list[Json]:
        made = []
        for index in indexes:
            pod = pod_of(job, index)
            try:
                if self.cluster.refusal:
                    text = f'pods "{pod["metadata"]["name"]}" is forbidden: {self.cluster.refusal}'
                    raise ApiError(403, text)
                made.append(self.cluster.admit("pods", job["metadata"]["namespace"], pod))
            except ApiError as error:
                self.cluster.add_event(job, "FailedCreate", f"Error creating: {error.message}",
                                       component="job-controller")  # fmt: skip
                self._again(job, 0.5)
                break
            text = f"Created pod: {made[-1]['metadata']['name']}"
            self.cluster.add_event(job, "SuccessfulCreate", text, "Normal", component="job-controller")
        return made

    def _delete(self, job: Json, pod: Json) -> None:
        meta = pod["metadata"]
        if job["spec"]["suspend"]:  # such pods are not counted as failed
            self.books[job["metadata"]["uid"]].counted.add(meta["uid"])
        self.store.delete("pods", meta["namespace"], meta["name"], {})
        text = f"Deleted pod: {meta['name']}"
        self.cluster.add_event(job, "SuccessfulDelete", text, "Normal", component="job-controller")

    def _wait_for_ttl(self, job: Json, book: Book) -> None:
        """Delete an ended Job after a while."""
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None or book.ttl_set:
            return
        book.ttl_set = True
        ended = next(each for each in job["status"]["conditions"] if each["type"] in ("Complete", "Failed"))
        meta = job["metadata"]
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": meta["uid"]}}
        self.later(max(0.0, seconds(ended["lastTransitionTime"]) + ttl - time.time()),
                   lambda: self.store.delete("jobs", meta["namespace"], meta["name"], options))  # fmt: skip


def index_of(pod: Json) -> int | None:
    """The completion index of a pod, if it has one."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX)
    return None if text is None else int(text)


def pod_of(job: Json, index: int | None) -> Json:
    """A pod as a Job's template has it."""
    template = copy.deepcopy(job["spec"]["template"])
    name = job["metadata"]["name"]
    base = name if index is None else f"{name}-{index}"
    meta, spec = template["metadata"], template["spec"]
    found = {key: meta[key] for key in ("labels", "annotations") if key in meta}
    found |= {"name": f"{base[:57]}-{random_name()}", "generateName": f"{base}-", "ownerReferences": [reference(job)]}
    if index is not None:
        found["annotations"] = {**(found.get("annotations") or {}), INDEX: str(index)}
        found["labels"] = {**found["labels"], INDEX: str(index)}
        spec.setdefault("hostname", base)
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
        for each in [*(spec.get("initContainers") or ()), *spec["containers"]]:
            env = [*(each.get("env") or ())]
            if all(variable["name"] != "JOB_COMPLETION_INDEX" for variable in env):
                each["env"] = [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": found, "spec": spec}


def ranges(numbers: set[int]) -> str:
    """As in completedIndexes: 0,2-4."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
