"""What the Kubernetes API has in common: resources, errors, selectors, patches, times, quantities."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

CONFIGURED = "kubectl.kubernetes.io/last-applied-configuration"
JOB_NAME = "batch.kubernetes.io/job-name"
JOB_UID = "batch.kubernetes.io/controller-uid"
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Resource:
    """A kind of object, and where the API has it."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """The first part of its URLs."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"

    @property
    def qualified(self) -> str:
        """As in messages: jobs.batch."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES = {
    each.plural: each
    for each in (
        Resource("jobs", "Job", "batch"),
        Resource("pods", "Pod", short=("po",)),
        Resource("secrets", "Secret"),
        Resource("services", "Service", short=("svc",)),
        Resource("configmaps", "ConfigMap", short=("cm",)),
        Resource("events", "Event", short=("ev",)),
        Resource("persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",)),
        Resource("serviceaccounts", "ServiceAccount", short=("sa",)),
        Resource("resourcequotas", "ResourceQuota", short=("quota",)),
        Resource("limitranges", "LimitRange"),
        Resource("namespaces", "Namespace", namespaced=False, short=("ns",)),
        Resource("nodes", "Node", namespaced=False, short=("no",)),
        Resource("priorityclasses", "PriorityClass", "scheduling.k8s.io", namespaced=False, short=("pc",)),
        Resource("runtimeclasses", "RuntimeClass", "node.k8s.io", namespaced=False),
        Resource("storageclasses", "StorageClass", "storage.k8s.io", namespaced=False, short=("sc",)),
        Resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io", namespaced=False),
    )
}

OF_KIND = {each.kind: each for each in RESOURCES.values()}

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details
        self.reason = reason or _REASONS.get(code, "InternalError")

    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.message}"

    def status(self) -> Json:
        """As a Status object."""
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        status |= {"reason": self.reason, "code": self.code}
        return status | ({"details": self.details} if self.details else {})


def not_found(resource: Resource, name: str) -> ApiError:
    """The error of an object that is not there."""
    return ApiError(404, f'{resource.qualified} "{name}" not found', **about(resource, name))


def invalid(resource: Resource, name: str, field: str, message: str) -> ApiError:
    """The error of an object that is not as it has to be."""
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field}]
    text = f'{resource.kind}{"." + resource.group if resource.group else ""} "{name}" is invalid: {field}: {message}'
    return ApiError(422, text, name=name, group=resource.group, kind=resource.kind, causes=causes)


def about(resource: Resource, name: str) -> Json:
    """The details of an error."""
    return {"name": name, **({"group": resource.group} if resource.group else {}), "kind": resource.plural}


def now(moment: float | None = None) -> str:
    """A time, to the second, as metav1.Time has it."""
    found = datetime.now(UTC) if moment is None else datetime.fromtimestamp(moment, UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """The time of a text."""
    return datetime.fromisoformat(text).timestamp()


_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGTP", start=1)}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTP]i|[numkMGTP]?))")


def quantity(value: object) -> float:
    """The number of a quantity.

    Raises:
        ValueError: it is none.
    """
    if not (found := _QUANTITY.fullmatch(str(value))):
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    return float(f"{found[1]}{found[2]}") if found[2] else float(found[1]) * _UNITS[found[3]]


def at(obj: object, path: str) -> object:
    """The value at a dotted path, or None."""
    for name in path.split("."):
        obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj


_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")


def label_selector(text: str) -> Callable[[Json], bool]:
    """Whether an object's labels match: `a=b,c!=d,e in (f,g),h,!i`."""
    tests = [_label_test(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(part):
        key, values = found[1], {each.strip() for each in found[3].split(",")}
        wanted = found[2] == "in"
        return lambda labels: (labels.get(key) in values) is wanted
    if "!=" in part:
        key, value = (each.strip() for each in part.split("!=", 1))
        return lambda labels: labels.get(key) != value
    if "=" in part:
        key, value = (each.strip().lstrip("=") for each in part.split("=", 1))
        return lambda labels: labels.get(key) == value.strip()
    if " " in part or "(" in part:
        raise ApiError(400, f'unable to parse requirement: found "{part}"')
    return lambda labels: (part[1:] not in labels) if part.startswith("!") else part in labels


_FIELDS = {
    "pods": {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
             "status.podIP", "spec.hostNetwork", "status.nominatedNodeName"},
    "jobs": {"status.successful"},
    "secrets": {"type"},
    "nodes": {"spec.unschedulable"},
    "namespaces": {"status.phase"},
    "events": {"reason", "type", "reportingComponent", "source", "involvedObject.kind", "involvedObject.name",
               "involvedObject.namespace", "involvedObject.uid", "involvedObject.apiVersion",
               "involvedObject.resourceVersion", "involvedObject.fieldPath"},
}  # fmt: skip


def field_selector(text: str, plural: str) -> Callable[[Json], bool]:
    """Whether an object's fields match: `status.phase!=Running`; only some fields can be asked for."""
    tests = []
    for part in filter(None, text.split(",")):
        key, equal, value = part.replace("==", "=").partition("=")
        differs, key = key.endswith("!"), key.rstrip("!")
        if not equal or key not in {"metadata.name", "metadata.namespace"} | _FIELDS.get(plural, set()):
            raise ApiError(400, f"field label not supported: {key}")
        tests.append((key, value, differs))
    return lambda obj: all((str(at(obj, key) or "") == value) is not differs for key, value, differs in tests)


_KEYS = {"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "conditions": "type",
         "ownerReferences": "uid", "volumeMounts": "mountPath"}  # fmt: skip


def merge(old: Any, change: Any, strategic: bool = False, name: str = "") -> Any:
    """A merge patch; as a strategic one, lists whose items have keys are merged by them."""
    if isinstance(change, Mapping):
        found = dict(old) if isinstance(old, Mapping) else {}
        for key, value in change.items():
            if value is None:
                found.pop(key, None)
            elif not (strategic and key.startswith("$")):
                found[key] = merge(found.get(key), value, strategic, key)
        return found
    key = _KEYS.get(name) if strategic else None
    if key and isinstance(change, list) and isinstance(old, list):
        items = {each.get(key): each for each in old}
        for each in change:
            if each.get("$patch") == "delete":
                items.pop(each.get(key), None)
            else:
                items[each.get(key)] = merge(items.get(each.get(key)), each, strategic)
        return list(items.values())
    return change


def with_condition(status: Json, kind: str, value: str = "True", **more: Any) -> Json:
    """A status with a condition set; the time of its transition stays where its status stays."""
    old = next((each for each in status.get("conditions", ()) if each["type"] == kind), {})
    time = old["lastTransitionTime"] if old.get("status") == value else now()
    new = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": time, **more}
    return status | {"conditions": [*[e for e in status.get("conditions", ()) if e["type"] != kind], new]}


def has_condition(obj: Json, *kinds: str) -> bool:
    """Whether one of these conditions is true."""
    conditions: Iterable[Json] = obj.get("status", {}).get("conditions") or ()
    return any(each["type"] in kinds and each["status"] == "True" for each in conditions)


def is_over(pod: Json) -> bool:
    """Whether a pod has ended."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_leaving(obj: Json) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]
