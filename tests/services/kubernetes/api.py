"""What all parts of the cluster have in common: kinds of objects, errors, selectors, patches, and words of statuses."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

JOB_NAME = "batch.kubernetes.io/job-name"
JOB_UID = "batch.kubernetes.io/controller-uid"
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

_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
            409: "Conflict", 410: "Expired", 415: "UnsupportedMediaType", 422: "Invalid", 429: "TooManyRequests",
            503: "ServiceUnavailable", 504: "Timeout"}  # fmt: skip


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details
        self.reason = reason or _REASONS.get(code, "InternalError")

    def status(self) -> Json:
        """As a Status object."""
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
                "reason": self.reason, "details": self.details, "code": self.code}  # fmt: skip


def refusal(code: int, resource: Resource, name: str, why: str, reason: str | None = None) -> ApiError:
    """The error of what is not to be had of an object."""
    return ApiError(code, f'{resource.plural} "{name}" {why}', reason, name=name, kind=resource.plural)


def random_name() -> str:
    """Five letters, as generated names end with."""
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))


def now(later: float = 0.0) -> str:
    """A moment, to the second, as metav1.Time has it."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGT", start=1)}
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([KMGT]i|[mkMGT]?)")


def quantity(value: object) -> float:
    """The number of a quantity: 100m, 1.5Gi."""
    if not (found := _QUANTITY.fullmatch(str(value))):
        raise ApiError(422, f"quantities must match the regular expression {_QUANTITY.pattern}: {value}")
    return float(found[1]) * _UNITS[found[2]]


_TEST = re.compile(r"\s*([\w./-]+)\s*(!=|==?)\s*([\w./-]*)\s*")
_FIELDS = {"metadata.name", "spec.nodeName", "status.phase", "type", "reason", "involvedObject.name"}


def selector(labels: str = "", fields: str = "") -> Callable[[Json], bool]:
    """Whether an object matches: by its labels (`a=b,c!=d`), and by its fields (`status.phase!=Running`)."""
    tests = []
    for text, look in ((labels, _label), (fields, _field)):
        for part in filter(None, text.split(",")):
            if not (found := _TEST.fullmatch(part)) or (look is _field and found[1] not in _FIELDS):
                raise ApiError(400, f'the tests\' server knows no requirement "{part}"')
            tests.append((look, found[1], found[3], found[2] != "!="))
    return lambda obj: all((look(obj, key) == value) is equal for look, key, value, equal in tests)


def _label(obj: Json, key: str) -> object:
    return obj["metadata"].get("labels", {}).get(key)


def _field(obj: Any, path: str) -> object:
    for name in path.split("."):
        obj = obj.get(name, "")
    return obj


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


def containers_of(pod: Json) -> list[Json]:
    """The containers of a pod or of a template, those for its start first."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


# statuses


def is_over(pod: Json) -> bool:
    """Whether a pod has ended."""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def is_leaving(obj: Json) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def has_condition(status: Json, *kinds: str) -> bool:
    """Whether one of these conditions is true."""
    return any(each["type"] in kinds and each["status"] == "True" for each in status.get("conditions", ()))


def with_condition(status: Json, kind: str, value: str = "True", **more: Any) -> Json:
    """A status with a condition set; the time of its transition stays where its value stays."""
    conditions = status.get("conditions", ())
    old = next((each for each in conditions if each["type"] == kind), {})
    time = old["lastTransitionTime"] if old.get("status") == value else now()
    new = {"type": kind, "status": value, "lastTransitionTime": time, **more}
    return status | {"conditions": [*(each for each in conditions if each["type"] != kind), new]}


def with_ready(status: Json, ready: bool, reason: str = "ContainersNotReady") -> Json:
    """The status of a pod whose containers are ready, or not."""
    why = {} if ready else {"reason": reason, "message": "containers with unready status"}
    return with_condition(with_condition(status, "Ready", str(ready), **why), "ContainersReady", str(ready), **why)


def disrupted(status: Json, reason: str, message: str) -> Json:
    """The status of a pod that is ended from outside."""
    return with_condition(status, "DisruptionTarget", reason=reason, message=message)


def running() -> Json:
    """The state of a container that runs."""
    return {"running": {"startedAt": now()}}


def waiting(reason: str, message: str = "") -> Json:
    """The state of a container that does not run yet."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def ended(code: int, reason: str | None = None, message: str | None = None, began: str | None = None) -> Json:
    """The state of a container that has ended."""
    why = reason or ("Completed" if code == 0 else "Error")
    found = {"exitCode": code, "reason": why, "startedAt": began or now(), "finishedAt": now()}
    return {"terminated": found | ({"message": message} if message else {})}


def entry(container: Json, state: Json) -> Json:
    """A container as a pod's status has it."""
    runs = "running" in state
    return {"name": container["name"], "state": state, "lastState": {}, "ready": runs, "started": runs,
            "restartCount": 0, "image": container["image"], "imageID": ""}  # fmt: skip
