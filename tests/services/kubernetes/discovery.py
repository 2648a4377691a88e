"""What a server says about itself: versions, groups, resources."""

from __future__ import annotations

from typing import Any

from tests.services.kubernetes.api import RESOURCES, Json, Resource

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def page(path: str, version: str) -> Json | None:
    """The answer at an address; None: it is not about the server."""
    words = path.strip("/")
    groups = sorted({each.group for each in RESOURCES.values() if each.group})
    if words == "version":
        major, minor = version.removeprefix("v").split(".")[:2]
        more = {"gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.26"}
        more |= {"compiler": "gc", "platform": "linux/amd64"}
        return {"major": major, "minor": minor, "gitVersion": version, **more}
    if words == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if words == "apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(each) for each in groups]}
    if words in {f"apis/{each}" for each in groups}:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(words.removeprefix("apis/"))}
    found = [each for each in RESOURCES.values() if each.path == words]
    if found:
        return {"kind": "APIResourceList", "groupVersion": found[0].api_version, "apiVersion": "v1",
                "resources": [each for resource in found for each in _resources(resource)]}  # fmt: skip
    if words == "openapi/v3":
        paths = {each.path: {"serverRelativeURL": f"/openapi/v3/{each.path}"} for each in RESOURCES.values()}
        return {"paths": paths}
    if words.startswith("openapi/v3/"):
        return _openapi(words.removeprefix("openapi/v3/"))
    return None


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(resource: Resource) -> list[Json]:
    own: dict[str, Any] = {"kind": resource.kind, "namespaced": resource.namespaced, "singularName": ""}
    found = [own | {"name": resource.plural, "verbs": _VERBS, "shortNames": list(resource.short)}]
    if resource.kind in ("Job", "Pod"):
        found.append(own | {"name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]})
    if resource.kind == "Pod":
        found.append(own | {"name": "pods/log", "verbs": ["get"]})
    return found


def _openapi(path: str) -> Json:
    """As much as kubectl asks for: that PATCH takes fieldValidation, so that the server looks for unknown fields."""
    paths = {}
    for each in RESOURCES.values():
        if each.path == path:
            kind = {"group": each.group, "version": each.version, "kind": each.kind}
            names = [
                {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("fieldValidation", "dryRun")
            ]
            place = f"/{each.path}/namespaces/{{namespace}}/{each.plural}/{{name}}"
            paths[place] = {"patch": {"parameters": names, "responses": {}, "x-kubernetes-group-version-kind": kind}}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": paths}
