"""What `lx doctor` says of a cluster: whether it answers, each right that is needed, the namespace, images, stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.taxonomy import Build, Experiment
from lightex.dispatcher.engine import Finding
from lightex.dispatcher.engines.cluster import api, metrics, options, volumes
from lightex.dispatcher.engines.cluster.api import AwayError, Cluster, ClusterError, in_namespace
from lightex.dispatcher.engines.cluster.manifest import OURS
from lightex.storage import store
from lightex.storage.store import Place

Right = tuple[str, str, str]
"""A group of the API, a kind of object there, and what is done with it."""

NEEDED: tuple[Right, ...] = (
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
    ("batch", "jobs", "delete"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("", "pods", "deletecollection"),
)
"""Without these, nothing runs."""

HELPFUL: dict[Right, str] = {
    ("", "events", "list"): "without it, some words on why a run waits are missing",
    ("", "secrets", "create"): "needed where commands inherit variables (container.inherit, loggers, s3)",
    ("", "secrets", "get"): "the same",
    ("", "secrets", "patch"): "the same",
    ("", "secrets", "delete"): "the same",
    ("", "services", "create"): "needed for experiments on several nodes",
    ("", "services", "get"): "the same",
    ("", "services", "patch"): "the same",
    ("", "services", "delete"): "the same",
}
"""What only some experiments need, and what for."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def may(cluster: Cluster, namespace: str, right: Right) -> bool:
    """Whether we have a right in a namespace.

    Raises:
        ClusterError: that cannot be known.
    """
    group, resource, verb = right
    wanted = {"namespace": namespace, "group": group, "resource": resource, "verb": verb}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    return bool(cluster.ask("POST", _REVIEWS, body=body)["status"].get("allowed"))


def check_rights(cluster: Cluster, namespace: str) -> None:
    """Look whether the cluster answers and takes Jobs of ours.

    Raises:
        ClusterError: it does not.
    """
    right = NEEDED[0]
    if not may(cluster, namespace, right):
        raise ClusterError(
            f"you may not create Jobs in namespace {namespace} of {cluster.server}",
            'say another one: engine_options={"kubernetes": {"namespace": "..."}}',
            "or ask your cluster's admin; lx doctor -e kubernetes lists the rights that lx needs",
        )


def examine(experiments: Sequence[Experiment[Any]], project: Path) -> Iterator[Finding]:
    """Look at the cluster, and at what experiments want of it; what several want is said once."""
    seen: set[Finding] = set()
    for found in _all(experiments, project):
        if found not in seen:
            seen.add(found)
            yield found


def _all(experiments: Sequence[Experiment[Any]], project: Path) -> Iterator[Finding]:
    wanted = {repr(read): read for each in experiments for read in [_read(each)]} or {"": options.Options()}
    for read in wanted.values():
        if isinstance(read, LightexError):
            yield _bad("options", read)
            continue
        try:
            cluster = api.connect(read.context)
            namespace = read.namespace or cluster.namespace
            version = cluster.ask("GET", "/version")["gitVersion"]
            where = f"context {cluster.context}" if cluster.context else "the cluster that this runs in"
            yield Finding("cluster", True, f"Kubernetes {version} at {cluster.server} ({where})")
            yield from _rights(cluster, namespace)
            yield _metrics(cluster, namespace)
            yield from _named(cluster, namespace, read)
        except ClusterError as error:
            yield _bad("cluster", error)
    yield from _images(experiments, project)
    yield from _stores(experiments, project)


def _read(experiment: Experiment[Any]) -> options.Options | LightexError:
    try:
        return options.read(experiment.engine_options.get("kubernetes", {}))
    except LightexError as error:
        return error


def _rights(cluster: Cluster, namespace: str) -> Iterator[Finding]:
    lacks = [right for right in NEEDED if not may(cluster, namespace, right)]
    if len(lacks) < len(NEEDED):
        has = ", ".join(f"{verb} {kind}" for _, kind, verb in NEEDED if (_, kind, verb) not in lacks)
        yield Finding("rights", True, f"in namespace {namespace}: {has}")
    for _, kind, verb in lacks:
        words = f"you may not {verb} {kind} in namespace {namespace}, which lx needs: ask your cluster's admin"
        yield Finding("rights", False, words)
    for right, what_for in HELPFUL.items():
        if not may(cluster, namespace, right):
            _, kind, verb = right
            yield Finding("rights", None, f"you may not {verb} {kind} in namespace {namespace}: {what_for}")


def _metrics(cluster: Cluster, namespace: str) -> Finding:
    """Whether what runs use can be seen while they run."""
    try:
        cluster.ask("GET", metrics.API)  # first: without the right, a cluster that has none answers 403 as well
        cluster.ask("GET", metrics.of_pods(namespace), {"labelSelector": f"{OURS}=lightex"})
    except ClusterError as error:
        whys = {
            404: "the cluster has no metrics API (metrics-server)",
            403: f"you may not list pods of metrics.k8s.io in namespace {namespace}",
        }
        why = whys.get(error.status or 0, f"the metrics API does not tell: {error.message}")
        return Finding("metrics", None, f"{why}: what runs use is known at their end only")
    return Finding("metrics", True, "what runs use is told while they run")


def _named(cluster: Cluster, namespace: str, read: options.Options) -> Iterator[Finding]:
    """What options name in the cluster: it is there, or not, or not for us to see."""
    yield _there(cluster, "namespace", f"/api/v1/namespaces/{namespace}", namespace)
    if read.service_account:
        path = in_namespace("serviceaccounts", namespace, read.service_account)
        yield _there(cluster, "service account", path, read.service_account)
    if read.priority_class:
        path = f"/apis/scheduling.k8s.io/v1/priorityclasses/{read.priority_class}"
        yield _there(cluster, "priority class", path, read.priority_class)
    if read.queue:
        path = f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{namespace}/localqueues/{read.queue}"
        yield _there(cluster, "queue", path, read.queue)
    for name in (*read.secrets, *read.pull_secrets, *filter(None, [read.s3_secret])):
        yield _there(cluster, "secret", in_namespace("secrets", namespace, name), name)


def _there(cluster: Cluster, what: str, path: str, name: str) -> Finding:
    try:
        cluster.ask("GET", path)
    except AwayError:
        raise
    except ClusterError as error:
        if error.status == 404:
            return Finding(what, False, f"there is no {what} '{name}' in the cluster")
        return Finding(what, None, f"{name}: {error.message}")
    return Finding(what, True, name)


def _images(experiments: Sequence[Experiment[Any]], project: Path) -> Iterator[Finding]:
    for image in {repr(each.container.image): each.container.image for each in experiments if each.container}.values():
        if isinstance(image, str):
            yield Finding("image", None, f"{image}: nodes pull it; whether they can shows with the first run")
        elif not image.repository:
            yield Finding("image", False, 'it is built here, and nodes cannot get it: say Build(repository="...")')
        else:
            yield from _built(image, project)


def _built(image: Build, project: Path) -> Iterator[Finding]:
    try:
        from lightex.dispatcher.engines.containers import images

        name, found = images.look(image, project)
    except ModuleNotFoundError:
        yield Finding("image", False, "it is to be built, which needs docker: pip install 'lightex[docker]'")
    except LightexError as error:
        yield _bad("image", error)
    else:
        yield Finding("image", True if found else None, f"{name} {'is' if found else 'will be'} built and pushed")


def _stores(experiments: Sequence[Experiment[Any]], project: Path) -> Iterator[Finding]:
    seen: dict[str, Finding] = {}
    for each in experiments:
        try:
            places = {f"dirs.{name}": place for name, place in store.folders(each.storage, project).items()}
            if remote := volumes.remote_of(each.storage, project):
                places["remote"] = remote
            elif each.container:
                seen["same"] = Finding("storage", None, f"nodes are to see {project} as this machine does")
            read = options.read(each.engine_options.get("kubernetes", {}))
            for name, place in places.items():
                seen.setdefault(place.url, _store(name, place, read))
        except LightexError as error:
            seen.setdefault(error.message, _bad("storage", error))
    yield from seen.values()


def _store(name: str, place: Place, read: options.Options) -> Finding:
    if place.kind == "pvc":
        cluster = api.connect(read.context)
        path = in_namespace("persistentvolumeclaims", read.namespace or cluster.namespace, place.host)
        try:
            phase = cluster.ask("GET", path)["status"].get("phase")
        except ClusterError as error:
            return Finding("storage", False if error.status == 404 else None, f"{name}: {place.url}: {error.message}")
        return Finding("storage", True if phase == "Bound" else None, f"{name}: {place.url} is {phase}")
    if place.kind == "s3":
        try:
            from lightex.storage.bucket import Bucket

            Bucket.of(place).check()
        except LightexError as error:
            return _bad("storage", error)
        if not read.lightex_image:
            return Finding("storage", False, f"{name}: {place.url} answers, but lightex_image names no image")
        return Finding("storage", True, f"{name}: {place.url} answers; {read.lightex_image} brings it to nodes")
    if place.kind == "path":
        there = bool(place.here and place.here.exists())
        words = "is here; nodes are to see it too" if there else "is not here"
        return Finding("storage", None if there else False, f"{name}: {place.url} {words}")
    here = f"seen here at {place.here}" if place.here else "not mounted here"
    return Finding("storage", None, f"{name}: {place.url}, {here}")


def _bad(what: str, error: LightexError) -> Finding:
    return Finding(what, False, "; ".join((error.message, *error.details)))
