"""What the API server refuses, and what it fills in."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from kubernetes_validate import utils as schemas
from referencing import Registry
from referencing import Resource as Document

from tests.services.kubernetes.api import JOB_NAME, JOB_UID, ApiError, Json, Resource, containers_of

_VERSION = "1.37"
_LABEL = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"(?=.{0,63}$)(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

Problem = tuple[str, str]  # the field, and what is wrong with it


@functools.cache
def _validator(kind: str, api_version: str) -> Any:
    """The validator that `kubernetes_validate.validate` would read from its files at each call."""
    folder = f"kubernetes-json-schema/v{_VERSION}.0-local-strict"
    schema = schemas.schema_contents(f"{folder}/{kind.lower()}-{api_version}.json", _VERSION)
    definitions = schemas.schema_contents(f"{folder}/_definitions.json", _VERSION)
    registry = Document.from_contents(definitions) @ (Document.from_contents(schema) @ Registry())
    return jsonschema.validators.Draft202012Validator(schema, registry=registry)


def check(resource: Resource, obj: Json) -> None:
    """Look whether an object is as it has to be; if not, it is an error."""
    name = str(obj["metadata"].get("name") or "")
    for field, message in _problems(resource, name, obj):
        raise ApiError(422, f'{resource.kind} "{name}" is invalid: {field}: {message}', name=name, kind=resource.kind)


def _problems(resource: Resource, name: str, obj: Json) -> Iterator[Problem]:
    """What the schema says, and the part of what it does not say that is easily done wrong."""
    if (obj["kind"], obj["apiVersion"]) != (resource.kind, resource.api_version):
        yield "kind", f"{obj['apiVersion']} {obj['kind']} is not what this address takes"
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", resource.api_version)
    for error in _validator(resource.kind, short).iter_errors(obj):
        yield ".".join(map(str, error.absolute_path)), error.message
    if not (_LABEL if resource.kind in ("Service", "Namespace") else _SUBDOMAIN).fullmatch(name):
        yield "metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case...'
    yield from _of_labels("metadata.labels", obj["metadata"])
    if resource.kind == "Job":
        template = obj["spec"]["template"]
        indexed = obj["spec"].get("completionMode") == "Indexed"
        if len(f"{name}-{obj['spec']['completions'] - 1}" if indexed else name) > 63:  # a label, and a host's name
            yield "metadata.name", f'Invalid value: "{name}": must be no more than 63 bytes'
        if (policy := template["spec"].get("restartPolicy", "Always")) != "Never":
            yield "spec.template.spec.restartPolicy", f'Unsupported value: "{policy}": supported values: "Never"'
        yield from _of_labels("spec.template.labels", template.get("metadata", {}))


def _of_labels(field: str, meta: Json) -> Iterator[Problem]:
    for key, value in meta.get("labels", {}).items():
        if not (_KEY.fullmatch(key) and _VALUE.fullmatch(value)):
            yield field, f'Invalid value: "{key}: {value}": a valid label must consist of alphanumeric characters...'


def fill(obj: Json) -> None:
    """Fill in what was not said."""
    if obj["kind"] == "Job":
        _fill_job(obj)
    elif obj["kind"] == "Pod":
        _fill_pod(obj)
        obj["status"] = {"phase": "Pending"}
    elif obj["kind"] == "Secret":
        plain = {key: base64.b64encode(value.encode()).decode() for key, value in obj.pop("stringData", {}).items()}
        obj["data"] = obj.get("data", {}) | plain
    elif obj["kind"] in ("Namespace", "PersistentVolumeClaim"):
        obj["status"] = {"phase": "Active" if obj["kind"] == "Namespace" else "Bound"}


def _fill_job(obj: Json) -> None:
    spec, meta = obj["spec"], obj["metadata"]
    own = {JOB_UID: meta["uid"], JOB_NAME: meta["name"], "controller-uid": meta["uid"], "job-name": meta["name"]}
    about = spec["template"].setdefault("metadata", {})
    about["labels"] = about.get("labels", {}) | own
    _fill_pod(spec["template"])
    defaults = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed"}
    obj["spec"] = defaults | {"suspend": False, "selector": {"matchLabels": {JOB_UID: meta["uid"]}}} | spec
    obj["status"] = {}


def _fill_pod(pod: Json) -> None:
    pod["spec"] = {"terminationGracePeriodSeconds": 30, "securityContext": {}} | pod["spec"]
    for container in containers_of(pod):
        latest = container["image"].rpartition("/")[2].partition(":")[2] in ("", "latest")
        own = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {}}
        own["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
        container.update(own | container)
        if limits := container["resources"].get("limits"):
            container["resources"]["requests"] = limits | container["resources"].get("requests", {})
