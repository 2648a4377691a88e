"""The objects of a cluster, and the history of their changes."""

from __future__ import annotations

import bisect
import copy
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.services.kubernetes import checks
from tests.services.kubernetes.api import (
    RESOURCES,
    ApiError,
    Json,
    about,
    field_selector,
    is_leaving,
    is_over,
    label_selector,
    not_found,
    now,
)

Key = tuple[str, str, str]  # plural, namespace or "", name
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # what generated names are made of
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True)
class Change:
    """One change of one object."""

    version: int
    kind: str  # ADDED, MODIFIED, DELETED
    key: Key
    obj: Json
    before: Json | None


def random_name() -> str:
    """Five letters, as generated names end with."""
    return "".join(random.choices(_LETTERS, k=5))


class Store:
    """Objects are never changed in place: who has got one may keep it, and must not write to it."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.listeners: list[Callable[[Change], None]] = []
        self.uids: dict[str, Key] = {}
        self._objects: dict[Key, Json] = {}
        self._owned: dict[str, set[Key]] = {}  # by the owner's uid
        self._history: list[Change] = []
        self._versions: list[int] = []
        self._forgotten = 0  # the newest version that watches cannot go on from any more
        self._counter = itertools.count(1000)
        self.version = next(self._counter)
        self._random = random_name

    # reading

    def get(self, plural: str, namespace: str, name: str) -> Json:
        """An object.

        Raises:
            ApiError: it is not there.
        """
        resource = RESOURCES[plural]
        if found := self._objects.get((plural, namespace if resource.namespaced else "", name)):
            return found
        raise not_found(resource, name)

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        """An object, or None."""
        return self._objects.get((plural, namespace if RESOURCES[plural].namespaced else "", name))

    def select(self, plural: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Json]:
        """The objects that match, by namespace and name."""
        label, field = label_selector(labels), field_selector(fields, plural)
        with self.changed:
            found = [obj for key, obj in self._objects.items() if key[0] == plural and namespace in (None, key[1])]
        return sorted(filter(lambda obj: label(obj) and field(obj), found), key=lambda obj: key_of(plural, obj))

    def owned_by(self, uid: str, plural: str | None = None) -> list[Json]:
        """The objects that name an owner."""
        with self.changed:
            return [self._objects[key] for key in sorted(self._owned.get(uid, ())) if plural in (None, key[0])]

    def after(self, version: int) -> list[Change]:
        """The changes since a version.

        Raises:
            ApiError: they are not kept any more.
        """
        with self.changed:
            if version < self._forgotten:
                raise ApiError(410, f"too old resource version: {version} ({self._forgotten + 1})")
            return self._history[bisect.bisect_right(self._versions, version) :]

    def forget(self) -> None:
        """Keep no changes until now."""
        with self.changed:
            self.version = next(self._counter)  # so that nobody has seen the newest one
            self._forgotten = self.version
            self._history, self._versions = [], []
            self.changed.notify_all()

    # writing

    def create(self, plural: str, namespace: str, obj: Json, dry: bool = False) -> Json:
        """Add an object.

        Raises:
            ApiError: it is there, or is not as it has to be, or its namespace is not there.
        """
        resource = RESOURCES[plural]
        obj = without_nulls(obj)
        given = obj.get("metadata") or {}
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, **obj, "metadata": dict(given)}
        meta = obj["metadata"]
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the "
                                    "request")  # fmt: skip
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"][:58] + self._random()
        checks.check(resource, obj)
        with self.changed:
            space = self.find("namespaces", "", namespace)
            if resource.namespaced and space is None:
                raise not_found(RESOURCES["namespaces"], namespace)
            if resource.namespaced and is_leaving(space):
                text = f'{resource.qualified} "{meta["name"]}" is forbidden: unable to create new content in namespace '
                text += f"{namespace} because it is being terminated"
                raise ApiError(403, text, **about(resource, meta["name"]))
            if self.find(plural, namespace, meta["name"]):
                raise ApiError(409, f'{resource.qualified} "{meta["name"]}" already exists', "AlreadyExists",
                               **about(resource, meta["name"]))  # fmt: skip
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
            meta.pop("deletionTimestamp", None)
            meta.pop("resourceVersion", None)
            checks.fill(resource, obj)
            return obj if dry else self._put("ADDED", key_of(plural, obj), obj)

    def write(self, plural: str, namespace: str, name: str, make: Callable[[Json], Json], dry: bool = False) -> Json:
        """Replace an object by what a function makes of it; nothing happens where that is the same.

        Raises:
            ApiError: it is not there, or its version is not what the new one says.
        """
        with self.changed:
            old = self.get(plural, namespace, name)
            new = make(copy.deepcopy(old))
            version = new["metadata"].get("resourceVersion", old["metadata"]["resourceVersion"])
            if version != old["metadata"]["resourceVersion"] or new["metadata"].get("uid") != old["metadata"]["uid"]:
                resource = RESOURCES[plural]
                text = f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
                text += "please apply your changes to the latest version and try again"
                raise ApiError(409, text, **about(resource, name))
            new["metadata"]["resourceVersion"] = version
            if new == old or dry:
                return new
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
            if is_leaving(new) and plural != "pods" and not new["metadata"].get("finalizers"):
                return self.remove(plural, namespace, name)
            return self._put("MODIFIED", key_of(plural, old), new)

    def write_status(self, plural: str, namespace: str, name: str, make: Callable[[Json], Json]) -> Json:
        """Replace the status of an object by what a function makes of it."""
        return self.write(plural, namespace, name, lambda obj: obj | {"status": make(obj.get("status", {}))})

    def remove(self, plural: str, namespace: str, name: str) -> Json:
        """Take an object away for good, if it is there."""
        with self.changed:
            old = self.find(plural, namespace, name)
            if old is None:
                return {}
            key = key_of(plural, old)
            last = self._put("DELETED", key, copy.deepcopy(old))
            del self._objects[key]
            self.uids.pop(old["metadata"]["uid"], None)
            for owner in owners_of(old):
                self._owned.get(owner, set()).discard(key)
            return last

    def delete(self, plural: str, namespace: str, name: str, options: Json, dry: bool = False) -> Json:
        """Begin to take an object away, as DELETE does; returns the object as it is then.

        Raises:
            ApiError: it is not there, or not the one that is meant.
        """
        with self.changed:
            old = self.get(plural, namespace, name)
            for field, value in (options.get("preconditions") or {}).items():
                if value is not None and value != old["metadata"][field]:
                    text = f"Precondition failed: {field} in precondition: {value}, in object meta: "
                    raise ApiError(409, text + old["metadata"][field], **about(RESOURCES[plural], name))
            if dry:
                return old
            # Kept for old times' sake: whoever deletes a Job of batch/v1 and says nothing leaves its pods behind.
            policy = options.get("propagationPolicy") or ("Orphan" if plural == "jobs" else "Background")
            if options.get("orphanDependents") is not None:
                policy = "Orphan" if options["orphanDependents"] else "Background"
            if policy == "Orphan":
                for child in self.owned_by(old["metadata"]["uid"]):
                    self._disown(child, old["metadata"]["uid"])
            if plural == "pods":
                return self._delete_pod(old, options.get("gracePeriodSeconds"))
            finalizers = set(old["metadata"].get("finalizers") or ())
            finalizers |= {FOREGROUND} if policy == "Foreground" else set()
            if not finalizers:
                return self.remove(plural, namespace, name)
            meta = {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0, "finalizers": sorted(finalizers)}
            return self.write(plural, namespace, name, lambda obj: obj | {"metadata": meta | obj["metadata"] | {
                "finalizers": meta["finalizers"]}})  # fmt: skip

    def _delete_pod(self, pod: Json, grace: int | None) -> Json:
        """A pod that no kubelet has, or that has ended, goes at once; others when their kubelet is done with them."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        given = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        if is_leaving(pod):
            given = min(given, pod["metadata"]["deletionGracePeriodSeconds"])
        if given == 0 or not pod["spec"].get("nodeName") or is_over(pod):
            return self.remove("pods", namespace, name)
        if is_leaving(pod) and given == pod["metadata"]["deletionGracePeriodSeconds"]:
            return pod
        meta = {"deletionTimestamp": now(time.time() + given), "deletionGracePeriodSeconds": given}
        return self.write("pods", namespace, name, lambda obj: obj | {"metadata": obj["metadata"] | meta})

    def _disown(self, child: Json, uid: str) -> None:
        left = [each for each in child["metadata"]["ownerReferences"] if each["uid"] != uid]
        meta = child["metadata"]
        resource = next(each for each in RESOURCES.values() if each.kind == child["kind"])
        self.write(resource.plural, meta.get("namespace", ""), meta["name"],
                   lambda obj: obj | {"metadata": obj["metadata"] | {"ownerReferences": left}})  # fmt: skip

    def _put(self, kind: str, key: Key, obj: Json) -> Json:
        self.version = next(self._counter)
        obj["metadata"]["resourceVersion"] = str(self.version)
        before = self._objects.get(key)
        for owner in owners_of(before or {}):
            self._owned.get(owner, set()).discard(key)
        for owner in owners_of(obj):
            self._owned.setdefault(owner, set()).add(key)
        self._objects[key] = obj
        self.uids[obj["metadata"]["uid"]] = key
        change = Change(self.version, kind, key, obj, before)
        self._history.append(change)
        self._versions.append(self.version)
        for listener in self.listeners:
            listener(change)
        self.changed.notify_all()
        return obj


def without_nulls(value: Any) -> Any:
    """A deep copy; what is null counts as not said."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


def owners_of(obj: Json) -> Iterator[str]:
    """The uids of an object's owners."""
    for each in obj.get("metadata", {}).get("ownerReferences") or ():
        yield each["uid"]


def key_of(plural: str, obj: Json) -> Key:
    """What an object is kept by."""
    meta = obj["metadata"]
    return plural, meta["namespace"] if RESOURCES[plural].namespaced else "", meta["name"]


def reference(obj: Json) -> dict[str, Any]:
    """An ownerReference to a controller."""
    meta = obj["metadata"]
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"],
            "controller": True, "blockOwnerDeletion": True}  # fmt: skip
