"""What is asked for, and what is done then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes import checks
from tests.services.kubernetes.api import (
    RESOURCES,
    ApiError,
    Json,
    Resource,
    about,
    field_selector,
    label_selector,
    merge,
    not_found,
)
from tests.services.kubernetes.store import Change, without_nulls

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass
class Request:
    """What is asked for."""

    verb: str
    resource: Resource
    namespace: str | None
    name: str | None
    part: str  # the subresource, or ""
    query: Mapping[str, str]
    body: Any = None

    @property
    def what(self) -> str:
        """As tests and roles name it."""
        return f"{self.resource.plural}/{self.part}" if self.part else self.resource.plural

    @property
    def space(self) -> str:
        """The namespace, or ""."""
        return self.namespace or ""

    @property
    def dry(self) -> bool:
        """Whether nothing is to be changed."""
        return self.query.get("dryRun") == "All"


def parse(method: str, path: str, query: Mapping[str, str]) -> Request:
    """Read an address.

    Raises:
        ApiError: there is nothing there.
    """
    words = path.strip("/").split("/")
    skip = 2 if words[0] == "api" else 3
    prefix, rest = "/".join(words[:skip]), words[skip:]
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get(rest[0]) if rest else None
    if resource is None or resource.path != prefix:
        raise ApiError(404, "the server could not find the requested resource")
    name, part = rest[1] if len(rest) > 1 else None, "/".join(rest[2:])
    verb = _VERBS.get(method, "")
    if method == "GET":
        verb = "get" if name else "watch" if query.get("watch") in ("1", "true", "True") else "list"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    return Request(verb, resource, namespace if resource.namespaced else None, name, part, query)


class Watch:
    """Which changes one watch is told of, and as what."""

    def __init__(self, request: Request) -> None:
        self.request = request
        query, plural = request.query, request.resource.plural
        self.label = label_selector(query.get("labelSelector", ""))
        self.field = field_selector(query.get("fieldSelector", ""), plural)
        self.bookmarks = query.get("allowWatchBookmarks") in ("1", "true", "True")
        self.all_first = query.get("sendInitialEvents") in ("1", "true", "True")

    def first(self, store: Any) -> list[tuple[str, Json]] | None:
        """What is told before all changes: what there is, where no version to go on from was said."""
        query = self.request.query
        if query.get("resourceVersion") not in (None, "", "0") and not self.all_first:
            return None
        found = store.select(self.request.resource.plural, self.request.namespace, query.get("labelSelector", ""),
                             query.get("fieldSelector", ""))  # fmt: skip
        events = [("ADDED", obj) for obj in found]
        if self.all_first:
            mark = self.bookmark(store.version)
            mark["metadata"]["annotations"] = {"k8s.io/initial-events-end": "true"}
            events.append(("BOOKMARK", mark))
        return events

    def bookmark(self, version: int) -> Json:
        """What says only how far the watch has got."""
        resource = self.request.resource
        meta = {"resourceVersion": str(version), "creationTimestamp": None}
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}

    def sees(self, change: Change) -> str | None:
        """How a change looks from here; None: not at all."""
        if change.key[0] != self.request.resource.plural or self.request.namespace not in (None, change.key[1]):
            return None
        is_in = change.kind != "DELETED" and self.label(change.obj) and self.field(change.obj)
        was_in = change.before is not None and self.label(change.before) and self.field(change.before)
        return {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get((is_in, was_in))


def act(cluster: Cluster, request: Request, content: str) -> tuple[int, Json]:
    """Do what is asked for; returns code and answer."""
    store, resource, plural = cluster.store, request.resource, request.resource.plural
    if plural == "selfsubjectaccessreviews":
        return 201, cluster.review(request.body)
    if request.verb == "list":
        with store.changed:
            query = request.query
            found = store.select(plural, request.namespace, query.get("labelSelector", ""),
                                 query.get("fieldSelector", ""))  # fmt: skip
            meta = {"resourceVersion": str(store.version)}
        items = [{key: value for key, value in each.items() if key not in ("kind", "apiVersion")} for each in found]
        return 200, {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta,
                     "items": items}  # fmt: skip
    if request.verb == "deletecollection":
        return 200, _delete_all(cluster, request)
    if request.part == "eviction" and request.verb == "create":
        store.delete("pods", request.space, str(request.name), (request.body or {}).get("deleteOptions") or {})
        return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}
    if request.verb == "create" and request.name is None:
        return 201, cluster.admit(plural, request.space, request.body, request.dry)
    if request.part not in ("", "status") or request.name is None or request.verb == "create":
        raise ApiError(405, "the server does not allow this method on the requested resource")
    if request.verb == "get":
        return 200, store.get(plural, request.space, request.name)
    if request.verb == "delete":
        return 200, _delete(cluster, request, request.name)
    return _change(cluster, request, content)


def _options(request: Request) -> Json:
    found = dict(request.body or {})
    if "propagationPolicy" in request.query:
        found.setdefault("propagationPolicy", request.query["propagationPolicy"])
    if "gracePeriodSeconds" in request.query:
        found.setdefault("gracePeriodSeconds", int(request.query["gracePeriodSeconds"]))
    return found


def _delete(cluster: Cluster, request: Request, name: str) -> Json:
    plural, store = request.resource.plural, cluster.store
    options = _options(request)
    dry = request.dry or "All" in (options.get("dryRun") or ())
    found = store.delete(plural, request.space, name, options, dry)
    if plural == "pods" or store.find(plural, request.space, name):
        return found
    details = about(request.resource, name) | {"uid": found["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _delete_all(cluster: Cluster, request: Request) -> Json:
    plural, query = request.resource.plural, request.query
    found = cluster.store.select(plural, request.space, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    for each in found:
        cluster.store.delete(plural, request.space, each["metadata"]["name"], _options(request), request.dry)
    meta = {"resourceVersion": str(cluster.store.version)}
    return {"kind": f"{request.resource.kind}List", "apiVersion": request.resource.api_version, "metadata": meta,
            "items": found}  # fmt: skip


def _change(cluster: Cluster, request: Request, content: str) -> tuple[int, Json]:
    """PUT and PATCH, of an object or of its status."""
    resource, store, name = request.resource, cluster.store, str(request.name)
    applies = "apply-patch" in content
    if request.verb == "patch" and not (applies or "merge-patch" in content):
        raise ApiError(415, "the body of the request was in an unknown format - accepted media types here include: "
                            "application/merge-patch+json, application/strategic-merge-patch+json")  # fmt: skip
    if applies and store.find(resource.plural, request.space, name) is None:
        return 201, cluster.admit(resource.plural, request.space, request.body, request.dry)

    def make(old: Json) -> Json:
        new = request.body
        if request.verb == "patch":
            new = merge(old, request.body, strategic="strategic" in content or applies)
        if request.part == "status":
            return old | {"status": new.get("status", {})}
        kept = {key: old["metadata"][key] for key in _KEPT if key in old["metadata"]}
        new = without_nulls({**new, "metadata": {"uid": old["metadata"]["uid"], **new.get("metadata", {}), **kept}})
        new |= {"status": old["status"]} if "status" in old else {}
        checks.unchangeable(resource, old, new)
        checks.check(resource, {key: value for key, value in new.items() if key != "status"})
        return new

    if request.verb == "update" and store.find(resource.plural, request.space, name) is None:
        raise not_found(resource, name)
    return 200, store.write(resource.plural, request.space, name, make, request.dry)


_KEPT = ("creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "namespace", "name")
