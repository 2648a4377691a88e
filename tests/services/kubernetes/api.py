"""What all parts of the cluster have in common: kinds of objects, errors, selectors, patches, and words of statuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

Json = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Resource:
    """A kind of object, and where the API has it."""

    plural: str
    kind: str
    api_version: str = "v1"
    namespaced: bool = True


_RESOURCES = (
    Resource("jobs", "Job", "batch/v1"),
    Resource("pods", "Pod"),
    Resource("secrets", "Secret"),
    Resource("services", "Service"),
    Resource("events", "Event"),
    Resource("persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("serviceaccounts", "ServiceAccount"),
    Resource("namespaces", "Namespace", namespaced=False),
    Resource("nodes", "Node", namespaced=False),
    Resource("priorityclasses", "PriorityClass", "scheduling.k8s.io/v1", False),
    Resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io/v1", False),
)
RESOURCES = {each.plural: each for each in _RESOURCES}
OF_KIND = {each.kind: each for each in _RESOURCES}

# Where they are not HTTP's own words.
_REASONS = {409: "AlreadyExists", 410: "Expired", 422: "Invalid", 500: "InternalError"}


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after

    def status(self) -> Json:
        """As a Status object."""
        reason = _REASONS.get(self.code) or HTTPStatus(self.code).phrase.replace(" ", "")
        about = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        return about | {"reason": reason, "details": {}, "code": self.code}


def now(later: float = 0.0) -> str:
    """A moment, to the second, as metav1.Time has it."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def quantity(value: object) -> float:
    """The number of a quantity: 100m, 1.5Gi."""
    number = re.match(r"[\d.]+", str(value))[0]
    return float(number) * _UNITS[str(value).removeprefix(number)]


_TEST = re.compile(r"\s*([\w./-]+)\s*(!=|==?)\s*([\w./-]*)\s*")
_FIELDS = {"metadata.name", "spec.nodeName", "status.phase", "type", "reason", "involvedObject.name"}


def selector(labels: str = "", fields: str = "") -> Callable[[Json], bool]:
    """Whether an object matches: by its labels (`a=b,c!=d`), and by its fields (`status.phase!=Running`)."""
    tests = []
    for text, is_label in ((labels, True), (fields, False)):
        for part in filter(None, text.split(",")):
            if not (found := _TEST.fullmatch(part)) or not (is_label or found[1] in _FIELDS):
                raise ApiError(400, f'the tests\' server knows no requirement "{part}"')
            path = ["metadata", "labels", found[1]] if is_label else found[1].split(".")
            tests.append((path, found[3], found[2] != "!="))
    return lambda obj: all((_at(obj, path) == value) is equal for path, value, equal in tests)


def _at(obj: Any, path: list[str]) -> object:
    for name in path:
        obj = obj.get(name, {})
    return obj or ""


def merge(old: Any, change: Any) -> Any:
    """A merge patch: null removes, maps are joined, everything else is replaced."""
    if not isinstance(change, Mapping):
        return change
    found = dict(old) if isinstance(old, Mapping) else {}
    for key, value in change.items():
        found[key] = merge(found.get(key), value)
        if value is None:
            del found[key]
    return found


def is_over(pod: Json) -> bool:
    """Whether a pod has ended."""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def is_leaving(obj: Json) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def has_condition(status: Json, *kinds: str) -> bool:
    """Whether one of these conditions is true."""
    return any(each["type"] in kinds and each["status"] == "True" for each in status.get("conditions", ()))


def with_condition(status: Json, kind: str, value: str = "True", reason: str = "", message: str = "") -> Json:
    """A status with a condition set."""
    others = {each["type"]: each for each in status.get("conditions", ())}
    old = others.pop(kind, {})
    time = old["lastTransitionTime"] if old.get("status") == value else now()
    new = {"type": kind, "status": value, "lastTransitionTime": time, "reason": reason, "message": message}
    return status | {"conditions": [*others.values(), new]}


def ended(code: int, reason: str | None = None, message: str | None = None, began: str | None = None) -> Json:
    """The state of a container that has ended."""
    why = reason or ("Completed" if code == 0 else "Error")
    found = {"exitCode": code, "reason": why, "startedAt": began or now(), "finishedAt": now()}
    return {"terminated": found | ({"message": message} if message else {})}


def entry(container: Json, state: Json) -> Json:
    """A container as a pod's status has it."""
    more = {"ready": "running" in state, "restartCount": 0, "lastState": {}, "imageID": ""}
    return {"name": container["name"], "image": container["image"], "state": state, **more}
