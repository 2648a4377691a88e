"""What the API server refuses, and what it fills in."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jsonschema
from kubernetes_validate import utils as schemas
from referencing import Registry
from referencing import Resource as Document

from tests.services.kubernetes.api import CONFIGURED, JOB_NAME, JOB_UID, Json, Resource, invalid, quantity

VERSION = "1.37"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_ANNOTATIONS = 256 << 10  # bytes

Problem = tuple[str, str]


@functools.cache
def _validator(kind: str, api_version: str) -> Any:
    """The validator that `kubernetes_validate.validate` would read from its files at each call."""
    folder = f"kubernetes-json-schema/v{VERSION}.0-local-strict"
    schema = schemas.schema_contents(f"{folder}/{kind.lower()}-{api_version}.json", VERSION)
    definitions = schemas.schema_contents(f"{folder}/_definitions.json", VERSION)
    registry = Document.from_contents(definitions) @ (Document.from_contents(schema) @ Registry())
    return jsonschema.validators.Draft202012Validator(schema, registry=registry)


def check(resource: Resource, obj: Json) -> None:
    """Look whether an object is as it has to be.

    Raises:
        ApiError: it is not.
    """
    name = obj["metadata"].get("name") or ""
    if obj["kind"] != resource.kind or obj["apiVersion"] != resource.api_version:
        raise invalid(resource, name, "kind", f"{obj['apiVersion']} {obj['kind']} is not what this address takes")
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", resource.api_version)
    error = next(iter(_validator(resource.kind, short).iter_errors(obj)), None)
    if error:
        raise invalid(resource, name, ".".join(map(str, error.absolute_path)), error.message)
    for field, message in problems(resource, obj):
        raise invalid(resource, name, field, message)


def problems(resource: Resource, obj: Json) -> Iterator[Problem]:
    """What the schema does not say."""
    meta = obj["metadata"]
    name = meta.get("name")
    if not name:
        yield "metadata.name", "Required value: name or generateName is required"
        return
    if resource.kind in ("Service", "Namespace") and not (_LABEL.fullmatch(name) and len(name) <= 63):
        yield "metadata.name", f'Invalid value: "{name}": a DNS-1035 label must consist of lower case letters...'
    if not (_SUBDOMAIN.fullmatch(name) and len(name) <= 253):
        yield "metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case...'
    yield from _label_problems("metadata.labels", meta.get("labels") or {})
    notes = meta.get("annotations") or {}
    if sum(len(key) + len(value) for key, value in notes.items()) > _ANNOTATIONS:
        yield "metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS} bytes"
    yield from ((f"metadata.annotations.{key}", "Invalid value") for key in notes if not _KEY.fullmatch(key.lower()))
    if resource.kind == "Job":
        yield from _job_problems(name, obj["spec"])
    if resource.kind == "Pod":
        yield from _pod_problems("spec", obj["spec"])
    if resource.kind == "Secret":
        size = sum(len(each) * 3 // 4 for each in (obj.get("data") or {}).values())
        size += sum(len(each) for each in (obj.get("stringData") or {}).values())
        if size > 1 << 20:
            yield "data", f"Too long: may not be more than {1 << 20} bytes"


def _label_problems(field: str, labels: Json) -> Iterator[Problem]:
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            yield field, f'Invalid value: "{key}": name part must consist of alphanumeric characters, "-", "_" or "."'
        if not _VALUE.fullmatch(value):
            yield field, f'Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric'
        if len(value) > 63:
            yield field, f'Invalid value: "{value}": must be no more than 63 bytes'


def _job_problems(name: str, spec: Json) -> Iterator[Problem]:
    template = spec["template"]
    if len(name) > 63:
        yield "spec.template.labels", f'Invalid value: "{name}": must be no more than 63 bytes'
    yield from _label_problems("spec.template.labels", (template.get("metadata") or {}).get("labels") or {})
    if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        given = template["spec"].get("restartPolicy", "Always")
        yield (
            "spec.template.spec.restartPolicy",
            f'Unsupported value: "{given}": supported values: "OnFailure", "Never"',
        )
    indexed = spec.get("completionMode") == "Indexed"
    if indexed and spec.get("completions") is None:
        yield "spec.completions", "Required value: when completion mode is Indexed"
    if indexed and len(f"{name}-{(spec.get('completions') or 1) - 1}") > 63:
        yield "metadata.name", f'Invalid value: "{name}": will not able to create pod with invalid DNS label'
    if not indexed and spec.get("backoffLimitPerIndex") is not None:
        yield "spec.backoffLimitPerIndex", "Invalid value: requires indexed completion mode"
    for field in ("backoffLimit", "completions", "parallelism", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if (spec.get(field) or 0) < 0:
            yield f"spec.{field}", f"Invalid value: {spec[field]}: must be greater than or equal to 0"
    yield from _pod_problems("spec.template.spec", template["spec"])


def _pod_problems(field: str, spec: Json) -> Iterator[Problem]:
    volumes = [each["name"] for each in spec.get("volumes") or ()]
    names: list[str] = []
    if len(set(volumes)) < len(volumes):
        yield f"{field}.volumes", f"Duplicate value: {volumes}"
    yield from ((f"{field}.volumes", f'Invalid value: "{each}"') for each in volumes if not _is_label(each))
    if not spec.get("containers"):
        yield f"{field}.containers", "Required value"
    for volume in spec.get("volumes") or ():
        if len(volume) != 2:
            yield f"{field}.volumes", "Required value: must specify a volume type"
    for kind in ("initContainers", "containers"):
        for number, each in enumerate(spec.get(kind) or ()):
            names.append(each["name"])
            yield from _container_problems(f"{field}.{kind}[{number}]", each, volumes)
    yield from ((f"{field}.containers", f'Invalid value: "{each}": a lowercase RFC 1123 label must consist of')
                for each in names if not _is_label(each))  # fmt: skip
    if len(set(names)) < len(names):
        yield f"{field}.containers", f"Duplicate value: {names}"
    for part in ("hostname", "subdomain"):
        if spec.get(part) and not _is_label(spec[part]):
            yield f"{field}.{part}", f'Invalid value: "{spec[part]}": a lowercase RFC 1123 label must consist of'


def _container_problems(field: str, container: Json, volumes: list[str]) -> Iterator[Problem]:
    if not container.get("image", "").strip():
        yield f"{field}.image", "Required value"
    paths = [each["mountPath"] for each in container.get("volumeMounts") or ()]
    yield from _mount_problems(field, container.get("volumeMounts") or (), volumes)
    if len(set(paths)) < len(paths):
        yield f"{field}.volumeMounts.mountPath", "Invalid value: must be unique"
    for each in container.get("env") or ():
        if not each["name"] or "=" in each["name"]:
            yield f"{field}.env.name", f'Invalid value: "{each["name"]}": a valid environment variable name...'
        if each.get("value") and each.get("valueFrom"):
            yield f"{field}.env.valueFrom", "Invalid value: may not be specified when `value` is not empty"
    yield from _resource_problems(field, container.get("resources") or {})


def _mount_problems(field: str, mounts: Iterable[Json], volumes: list[str]) -> Iterator[Problem]:
    for mount in mounts:
        if mount["name"] not in volumes:
            yield f"{field}.volumeMounts", f'Not found: "{mount["name"]}"'
        if ":" in mount["mountPath"]:
            yield f"{field}.volumeMounts.mountPath", f"Invalid value: \"{mount['mountPath']}\": must not contain ':'"
        if mount.get("subPath", "").startswith("/") or ".." in mount.get("subPath", "").split("/"):
            yield f"{field}.volumeMounts.subPath", f'Invalid value: "{mount["subPath"]}": must be a relative path'


def _resource_problems(field: str, resources: Json) -> Iterator[Problem]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for key, value in [*limits.items(), *requests.items()]:
        try:
            if quantity(value) < 0:
                yield f"{field}.resources", f'Invalid value: "{value}": must be greater than or equal to 0'
        except ValueError as error:
            yield f"{field}.resources", f'Invalid value: "{value}": {error}'
            continue
        if key in limits and key in requests and quantity(requests[key]) > quantity(limits[key]):
            yield f"{field}.resources.requests", f'Invalid value: "{value}": must be less than or equal to {key} limit'
        if "/" in key and quantity(limits.get(key, -1)) != quantity(requests.get(key, limits.get(key, -1))):
            yield f"{field}.resources.limits", f"Required value: Limit must be set and equal for {key}"
        if key not in ("cpu", "memory", "ephemeral-storage") and "/" not in key and not key.startswith("hugepages-"):
            yield f"{field}.resources", f'Invalid value: "{key}": must be a standard resource type or fully qualified'


def _is_label(name: str) -> bool:
    return bool(_LABEL.fullmatch(name)) and len(name) <= 63


def unchangeable(resource: Resource, old: Json, new: Json) -> None:
    """Look whether a change is one that may be made.

    Raises:
        ApiError: it is not.
    """
    fields = {"Job": ["template", "selector", "completionMode", "backoffLimitPerIndex", "podFailurePolicy"]}
    fields["Job"] += [] if old.get("spec", {}).get("completionMode") == "Indexed" else ["completions"]
    fields["Pod"] = ["volumes", "nodeSelector", "restartPolicy", "hostname", "priorityClassName", "nodeName", "env"]
    suspended = resource.kind == "Job" and old["spec"].get("suspend")
    for field in fields.get(resource.kind, ()):
        if old["spec"].get(field) != new["spec"].get(field) and not (suspended and field == "template"):
            raise invalid(resource, old["metadata"]["name"], f"spec.{field}", "Invalid value: field is immutable")
    if old.get("immutable") and any(old.get(each) != new.get(each) for each in ("data", "binaryData")):
        raise invalid(
            resource, old["metadata"]["name"], "data", "Forbidden: field is immutable when `immutable` is set"
        )


def fill(resource: Resource, obj: Json) -> None:
    """Fill in what was not said."""
    if resource.kind != "Event":
        obj.pop("status", None)
    if resource.kind == "Job":
        _fill_job(obj)
    elif resource.kind == "Pod":
        _fill_pod(obj["spec"])
        obj["status"] = {"phase": "Pending", "qosClass": "Burstable"}
    elif resource.kind == "Secret":
        plain = {key: base64.b64encode(value.encode()).decode() for key, value in obj.pop("stringData", {}).items()}
        obj["data"] = {**(obj.get("data") or {}), **plain}
        obj.setdefault("type", "Opaque")
    elif resource.kind == "Service":
        obj["spec"].setdefault("clusterIP", "10.96.0.10")
        obj["spec"].setdefault("type", "ClusterIP")
        obj["status"] = {"loadBalancer": {}}
    elif resource.kind == "Namespace":
        obj["status"] = {"phase": "Active"}
    elif resource.kind == "PersistentVolumeClaim":
        obj["status"] = {"phase": "Bound"}


def _fill_job(obj: Json) -> None:
    spec, meta = obj["spec"], obj["metadata"]
    own = {JOB_UID: meta["uid"], JOB_NAME: meta["name"], "controller-uid": meta["uid"], "job-name": meta["name"]}
    template = spec["template"]
    template["metadata"] = dict(template.get("metadata") or {})
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **own}
    if meta.get("labels") is None and CONFIGURED not in (meta.get("annotations") or {}):
        meta["labels"] = dict(template["metadata"]["labels"])
    spec["selector"] = {"matchLabels": {JOB_UID: meta["uid"]}}
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec |= {"completions": 1, "parallelism": 1}
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    per_index = spec.get("backoffLimitPerIndex") is not None
    defaults = {"backoffLimit": 2147483647 if per_index else 6, "completionMode": "NonIndexed", "suspend": False}
    defaults |= {"manualSelector": False, "podReplacementPolicy": "TerminatingOrFailed"}
    obj["spec"] = defaults | {key: value for key, value in spec.items() if value is not None}
    obj["status"] = {}
    _fill_pod(template["spec"])


def _fill_pod(spec: Json) -> None:
    defaults = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
    defaults |= {"terminationGracePeriodSeconds": 30, "securityContext": {}}
    for key, value in defaults.items():
        if spec.get(key) is None:
            spec[key] = value
    for each in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        name, _, tag = each["image"].rpartition("/")[2].partition(":")
        latest = "@" not in name and tag in ("", "latest")
        own = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}
        own["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
        for key, value in own.items():
            if each.get(key) is None:
                each[key] = value
        if limits := each["resources"].get("limits"):
            each["resources"]["requests"] = {**limits, **(each["resources"].get("requests") or {})}
    for volume in spec.get("volumes") or ():
        for kind in ("secret", "configMap"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 420)
