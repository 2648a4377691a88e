"""The objects of a cluster and the history of their changes; what the API server refuses, and what it fills in."""

from __future__ import annotations

import base64
import bisect
import copy
import functools
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
from kubernetes_validate import utils as schemas
from referencing import Registry
from referencing import Resource as Document

from tests.services.kubernetes import api
from tests.services.kubernetes.api import OF_KIND, RESOURCES, ApiError, Json, Resource, now

Key = tuple[str, str, str]  # plural, namespace or "", name
FOREGROUND = "foregroundDeletion"

_VERSION = "1.37"
_LABEL = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"(?=.{0,63}$)(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@functools.cache
def _validator(resource: Resource) -> Any:
    """The validator that `kubernetes_validate.validate` would read from its files at each call."""
    folder = f"kubernetes-json-schema/v{_VERSION}.0-local-strict"
    version = re.sub(r"(\.[^/]*)?/", "-", resource.api_version)
    schema = schemas.schema_contents(f"{folder}/{resource.kind.lower()}-{version}.json", _VERSION)
    definitions = schemas.schema_contents(f"{folder}/_definitions.json", _VERSION)
    registry = Document.from_contents(definitions) @ (Document.from_contents(schema) @ Registry())
    return jsonschema.validators.Draft202012Validator(schema, registry=registry)


def check(resource: Resource, obj: Json) -> None:
    """Look whether an object is as it has to be; if not, it is an error."""
    name = str(obj["metadata"].get("name") or "")
    for field, message in _problems(resource, name, obj):
        raise ApiError(422, f'{resource.kind} "{name}" is invalid: {field}: {message}')


def _problems(resource: Resource, name: str, obj: Json) -> Iterator[tuple[str, str]]:
    """Fields, and what is wrong with them: what the schema says, and what it does not say of names and labels."""
    for error in _validator(resource).iter_errors(obj):
        yield ".".join(map(str, error.absolute_path)), error.message
    if not (_LABEL if resource.kind in ("Service", "Namespace") else _SUBDOMAIN).fullmatch(name):
        yield "metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case...'
    labels = list(obj["metadata"].get("labels", {}).items())
    if resource.kind == "Job":
        template = obj["spec"]["template"]
        labels += template.get("metadata", {}).get("labels", {}).items()
        indexed = obj["spec"].get("completionMode") == "Indexed"
        if len(f"{name}-{obj['spec']['completions'] - 1}" if indexed else name) > 63:  # a label, and a host's name
            yield "metadata.name", f'Invalid value: "{name}": must be no more than 63 bytes'
        if (policy := template["spec"].get("restartPolicy", "Always")) != "Never":
            yield "spec.template.spec.restartPolicy", f'Unsupported value: "{policy}": supported values: "Never"'
    for key, value in labels:
        if not (_KEY.fullmatch(key) and _VALUE.fullmatch(value)):
            yield "labels", f'Invalid value: "{key}: {value}": a valid label must consist of alphanumeric characters...'


def fill(obj: Json) -> None:
    """Fill in what was not said."""
    if obj["kind"] == "Job":
        own = {"controller-uid": obj["metadata"]["uid"], "job-name": obj["metadata"]["name"]}
        about = obj["spec"]["template"].setdefault("metadata", {})
        about["labels"] = about.get("labels", {}) | own | {f"batch.kubernetes.io/{key}": own[key] for key in own}
        defaults = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed"}
        obj["spec"] = defaults | {"suspend": False} | obj["spec"]
        obj["status"] = {}
    elif obj["kind"] == "Pod":
        obj["spec"] = {"terminationGracePeriodSeconds": 30, "securityContext": {}} | obj["spec"]
        obj["status"] = {"phase": "Pending"}
        for each in (*obj["spec"].get("initContainers", ()), *obj["spec"]["containers"]):
            each.setdefault("terminationMessagePath", "/dev/termination-log")
            resources = each.setdefault("resources", {})
            resources["requests"] = resources.get("limits", {}) | resources.get("requests", {})
    elif obj["kind"] == "Secret":
        plain = {key: base64.b64encode(value.encode()).decode() for key, value in obj.pop("stringData", {}).items()}
        obj["data"] = obj.get("data", {}) | plain
    elif obj["kind"] in ("Namespace", "PersistentVolumeClaim"):
        obj["status"] = {"phase": "Active" if obj["kind"] == "Namespace" else "Bound"}


@dataclass(frozen=True)
class Change:
    """One change of one object."""

    version: int
    kind: str  # ADDED, MODIFIED, DELETED
    key: Key
    obj: Json
    before: Json | None


def key_of(obj: Json) -> Key:
    """What an object is kept by."""
    return OF_KIND[obj["kind"]].plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def owners_of(obj: Json) -> list[Json]:
    """The ownerReferences of an object."""
    return obj["metadata"].get("ownerReferences", [])


class Store:
    """Objects are never changed in place: who has got one may keep it, and must not write to it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # is told of each change; whoever holds it is alone
        self.listeners: list[Callable[[Change], None]] = []  # are called with each change, by whoever makes it
        self.version = 1000  # of the newest change
        self._objects: dict[Key, Json] = {}  # the oldest first
        self._history: list[Change] = []
        self._forgotten = 0  # the newest version that watches cannot go on from any more

    # reading

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        """An object, or None."""
        return self._objects.get((plural, namespace if RESOURCES[plural].namespaced else "", name))

    def get(self, plural: str, namespace: str, name: str) -> Json:
        """An object; it is an error if it is not there."""
        if found := self.find(plural, namespace, name):
            return found
        raise ApiError(404, f'{plural} "{name}" not found')

    def current(self, obj: Json) -> Json | None:
        """An object as it is now; None: it is gone, though another one may have got its name."""
        found = self._objects.get(key_of(obj))
        return found if found and found["metadata"]["uid"] == obj["metadata"]["uid"] else None

    def select(self, plural: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Json]:
        """The objects that match, the oldest first."""
        matches = api.selector(labels, fields)
        with self.changed:
            found = [obj for key, obj in self._objects.items() if key[0] == plural and namespace in (None, key[1])]
        return [obj for obj in found if matches(obj)]

    def owned_by(self, owner: Json) -> list[Json]:
        """The objects that name an owner."""
        uid = owner["metadata"]["uid"]
        with self.changed:
            return [obj for obj in self._objects.values() if any(each["uid"] == uid for each in owners_of(obj))]

    def owner_of(self, obj: Json) -> Json | None:
        """The first owner of an object that is there."""
        for each in owners_of(obj):
            found = self.find(OF_KIND[each["kind"]].plural, obj["metadata"].get("namespace", ""), each["name"])
            if found and found["metadata"]["uid"] == each["uid"]:
                return found
        return None

    def after(self, version: int) -> list[Change]:
        """The changes since a version; it is an error if they are not kept any more."""
        with self.changed:
            if version < self._forgotten:
                raise ApiError(410, f"too old resource version: {version} ({self._forgotten})")
            return self._history[bisect.bisect_right(self._history, version, key=lambda change: change.version) :]

    def forget(self) -> None:
        """Keep no changes until now."""
        with self.changed:
            self.version += 1  # so that nobody has seen the newest one
            self._forgotten, self._history = self.version, []
            self.changed.notify_all()

    # writing

    def create(self, plural: str, namespace: str, obj: Json, dry_run: bool = False) -> Json:
        """Add an object, or only see that it could be."""
        resource = RESOURCES[plural]
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}} | copy.deepcopy(obj)
        meta = obj["metadata"]
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise ApiError(400, "the namespace of the object is not that of the request")
        check(resource, obj)
        with self.changed:
            if resource.namespaced:
                self.get("namespaces", "", namespace)
            if self.find(plural, namespace, meta["name"]):
                raise ApiError(409, f'{plural} "{meta["name"]}" already exists')
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            fill(obj)
            return obj if dry_run else self._put("ADDED", obj)

    def write(self, plural: str, namespace: str, name: str, make: Callable[[Json], Json]) -> Json:
        """Replace an object by what a function makes of it; nothing happens where that is the same."""
        with self.changed:
            old = self.get(plural, namespace, name)
            new = make(copy.deepcopy(old))
            return old if new == old else self._put("MODIFIED", new)

    def write_status(self, obj: Json, make: Callable[[Json], Json]) -> Json:
        """Replace the status of an object by what a function makes of it."""
        return self.write(*key_of(obj), lambda old: old | {"status": make(old.get("status", {}))})

    def write_meta(self, obj: Json, **fields: Any) -> Json:
        """Change fields of an object's metadata."""
        return self.write(*key_of(obj), lambda old: old | {"metadata": old["metadata"] | fields})

    def patch(self, plural: str, namespace: str, name: str, changes: Json) -> Json:
        """A merge patch, as users make them: not of the status, and the outcome has to be as it has to be."""

        def make(old: Json) -> Json:
            status = {"status": old.pop("status")} if "status" in old else {}
            new = api.merge(old, {key: value for key, value in changes.items() if key != "status"})
            check(RESOURCES[plural], new)
            return new | status

        return self.write(plural, namespace, name, make)

    def remove(self, obj: Json) -> Json:
        """Take an object away for good, if it is there."""
        with self.changed:
            return self._put("DELETED", copy.deepcopy(self.current(obj))) if self.current(obj) else obj

    def delete(self, obj: Json, **options: Any) -> Json:
        """Begin to take an object away, as DELETE does with its options; returns the object as it is then."""
        with self.changed:
            old = self.get(*key_of(obj))
            # Kept for old times' sake: whoever deletes a Job of batch/v1 and says nothing leaves its pods behind.
            policy = options.get("propagationPolicy") or ("Orphan" if old["kind"] == "Job" else "Background")
            if policy == "Orphan":
                for child in self.owned_by(old):
                    left = [each for each in owners_of(child) if each["uid"] != old["metadata"]["uid"]]
                    self.write_meta(child, ownerReferences=left)
            if old["kind"] == "Pod":
                return self._delete_pod(old, options.get("gracePeriodSeconds"))
            if policy != "Foreground":
                return self.remove(old)
            more = {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0, "finalizers": [FOREGROUND]}
            return old if api.is_leaving(old) else self.write_meta(old, **more)

    def _delete_pod(self, pod: Json, given: object) -> Json:
        """A pod that no kubelet has, or that has ended, goes at once; others when their kubelet is done with them."""
        grace = pod["spec"]["terminationGracePeriodSeconds"] if given is None else int(str(given))
        before = pod["metadata"].get("deletionGracePeriodSeconds")
        if grace == 0 or "nodeName" not in pod["spec"] or api.is_over(pod):
            return self.remove(pod)
        if before is not None and before <= grace:  # it can only be made shorter
            return pod
        return self.write_meta(pod, deletionTimestamp=now(grace), deletionGracePeriodSeconds=grace)

    def _put(self, kind: str, obj: Json) -> Json:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        key = key_of(obj)
        change = Change(self.version, kind, key, obj, self._objects.get(key))
        if kind == "DELETED":
            del self._objects[key]
        else:
            self._objects[key] = obj
        self._history.append(change)
        for listener in self.listeners:
            listener(change)
        self.changed.notify_all()
        return obj
