"""The objects of a cluster, and the history of their changes."""

from __future__ import annotations

import bisect
import copy
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.services.kubernetes import admission, api
from tests.services.kubernetes.api import OF_KIND, RESOURCES, ApiError, Json, now, refusal

Key = tuple[str, str, str]  # plural, namespace or "", name
FOREGROUND = "foregroundDeletion"


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
    """Objects are never changed in place: who has got one may keep it, and must not write to it.

    Attributes:
        changed: is told of each change; whoever holds it is alone.
        listeners: are called with each change, by whoever makes it.
        version: of the newest change.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.listeners: list[Callable[[Change], None]] = []
        self.version = 1000
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
        raise refusal(404, RESOURCES[plural], name, "not found")

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

    def create(self, plural: str, namespace: str, obj: Json) -> Json:
        """Add an object."""
        resource = RESOURCES[plural]
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}} | copy.deepcopy(obj)
        meta = obj["metadata"]
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise ApiError(400, "the namespace of the provided object does not match the one of the request")
        admission.check(resource, obj)
        with self.changed:
            if resource.namespaced:
                self.get("namespaces", "", namespace)
            if self.find(plural, namespace, meta["name"]):
                raise refusal(409, resource, meta["name"], "already exists", "AlreadyExists")
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            admission.fill(obj)
            return self._put("ADDED", obj)

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
            admission.check(RESOURCES[plural], new)
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
