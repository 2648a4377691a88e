"""Making what a job is in a cluster, and taking it away: images, code and run first, then Secret, Service and Job."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Build, Container, Experiment, Storage
from lightex.dispatcher.engines.cluster import manifest, options, volumes
from lightex.dispatcher.engines.cluster.api import AwayError, Cluster, ClusterError, Object, in_namespace
from lightex.dispatcher.engines.cluster.manifest import Objects
from lightex.dispatcher.engines.containers import call
from lightex.dispatcher.job import Job
from lightex.storage import store

_MERGE = "application/merge-patch+json"


class FullError(AwayError):
    """A quota is used up: there may be room later."""


class Maker:
    """Makes jobs for one supervisor, in as many threads as ask: an image is built, and a tree of code sent once."""

    def __init__(self) -> None:
        self._setting_up = threading.Lock()  # threads share what is made when it is first needed
        self._images: Any = None
        self._luggage: Any = None

    def prepare(
        self,
        experiment: Experiment[Any],
        project: Path,
        cluster: Cluster,
        namespace: str,
        tell: Callable[[str], None],
    ) -> None:
        """Get ready what an experiment needs, and have the server look at a Job of it, which it does not make.

        Raises:
            LightexError: something is not to be had, or the server would refuse the Job.
        """
        self._image(call.of(experiment), project, tell)
        self._check_stores(experiment.storage, project, tell)
        self._try(experiment, project, cluster, namespace)

    def objects(self, job: Job, read: options.Options, namespace: str, tell: Callable[[str], None]) -> Objects:
        """All that a job is; its image is built, and its code sent, if need be.

        Raises:
            LightexError: something is not to be had.
        """
        image = self._image(call.of(job), job.project or job.cwd, tell)
        travel = None
        if is_staged(job.storage, job.project or job.cwd):
            travel = self._luggage_of().travel(job, tell)
        return manifest.objects(job, image, read, namespace, travel)

    def create(self, cluster: Cluster, found: Objects) -> Object:
        """Make the objects of a job; what is there already was made by a try whose answer was lost.

        Raises:
            AwayError: the server is away, or there is no room (FullError).
            ClusterError: it refuses.
        """
        about = found.job["metadata"]
        namespace, name = about["namespace"], about["name"]
        if found.secret:
            values = {each: base64.b64encode(value.encode()).decode() for each, value in found.secret.items()}
            labels = {each: about["labels"][each] for each in (*manifest.MANAGED, "lightex.user")}
            secret = {"metadata": {"name": name, "labels": labels}, "data": values}
            _create(cluster, "secrets", namespace, {"apiVersion": "v1", "kind": "Secret", **secret})
        if found.service:  # before its pods: a name that is asked for too early is unknown for a while
            _create(cluster, "services", namespace, found.service)
        try:
            made = _create(cluster, "jobs", namespace, found.job)
        except AwayError:
            raise
        except ClusterError:
            delete_rest(cluster, namespace, name)
            raise
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": made["metadata"]["uid"]}
        change = {"metadata": {"ownerReferences": [owner]}}  # they go when the Job goes
        for kind, is_there in (("secrets", found.secret), ("services", found.service)):
            if is_there:
                cluster.ask("PATCH", in_namespace(kind, namespace, name), body=change, kind=_MERGE)
        return made

    def send_run(self, job: Job) -> None:
        """Have the run's directory where nodes see it, with the first line of a further attempt.

        Raises:
            LightexError: it cannot be sent, or written.
        """
        if copied := volumes.copied_by(job.storage, job.project or job.cwd):
            from lightex.dispatcher.engines.cluster.travel import send_run

            send_run(job, copied)
        elif not is_staged(job.storage, job.project or job.cwd):
            os.close(job.run.open_output(job.attempt))

    def _image(self, container: Container, project: Path, tell: Callable[[str], None]) -> str:
        """The name of an image that nodes can get; one that is to be built is built, and pushed."""
        if not isinstance(container.image, Build):
            return container.image
        with self._setting_up:
            if self._images is None:
                from lightex.dispatcher.engines.containers.images import Images  # it needs docker's SDK

                self._images = Images()
        return str(self._images.ensure(container.image, project, tell).name)

    def _luggage_of(self) -> Any:
        with self._setting_up:
            if self._luggage is None:
                from lightex.dispatcher.engines.cluster.travel import Luggage  # it needs an S3 client

                self._luggage = Luggage()
        return self._luggage

    def _try(self, experiment: Experiment[Any], project: Path, cluster: Cluster, namespace: str) -> None:
        """Have the server look at a Job of an experiment, which it does not make."""
        run = RunDir(project / "runs" / experiment.name / "000000-000000-lx-dry-run")
        job = Job(
            run=run,
            command=("true",),
            env={},
            cwd=(project / (experiment.cwd or "")).absolute(),
            resources=experiment.resources,
            project=project,
            storage=replace(experiment.storage, remote=None, dirs={}),
            container=experiment.container,
        )
        read = options.read(experiment.engine_options.get("kubernetes", {}))
        found = manifest.objects(job, "image", read, namespace, None)
        how = {"dryRun": "All", "fieldValidation": "Strict"}
        try:
            cluster.ask("POST", in_namespace("jobs", namespace), how, found.job)
        except AwayError:
            raise
        except ClusterError as error:
            if not _is_full(error):
                raise ConfigError(
                    f"namespace {namespace} does not take Jobs of {experiment.name}: {error.message}",
                    "engine_options.kubernetes, container and resources say what they are",
                ) from error

    def _check_stores(self, storage: Storage, project: Path, tell: Callable[[str], None]) -> None:
        if not is_staged(storage, project):
            return
        from lightex.storage.bucket import Bucket

        copied = volumes.copied_by(storage, project)
        places = [place for place in store.folders(storage, project).values() if place.kind == "s3"]
        for place in [*places, *([copied] if copied else [])]:
            Bucket.of(place).check()
        for name, place in store.folders(storage, project).items():
            if place.kind == "s3" and not place.store.write and next(iter(Bucket.of(place).list()), None) is None:
                raise ConfigError(
                    f"storage.dirs.{name}: there is nothing at {place.url}",
                    "correct the URL, or put the files there; Store(..., write=True) is for folders that runs fill",
                )
        if copied:
            self._luggage_of().check(project, copied, storage, tell)


def _create(cluster: Cluster, kind: str, namespace: str, body: Mapping[str, Any]) -> Object:
    """Make an object, which may be there already."""
    try:
        how = {"fieldManager": "lightex", "fieldValidation": "Strict"}
        return cluster.ask("POST", in_namespace(kind, namespace), how, body)
    except ClusterError as error:
        if _is_full(error):
            raise FullError(error.message, status=error.status) from error
        if error.status != 409:
            raise
        try:
            return cluster.ask("GET", in_namespace(kind, namespace, body["metadata"]["name"]))
        except ClusterError as other:
            if other.status != 404:
                raise
            raise AwayError(error.message, status=error.status) from error  # a conflict of the server's own


def _is_full(error: ClusterError) -> bool:
    return error.status == 403 and "exceeded quota" in error.message


def delete_rest(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete what a job has beside its Job, which would go with that."""
    for kind in ("secrets", "services"):
        with suppress(ClusterError):
            cluster.ask("DELETE", in_namespace(kind, namespace, name))


def delete_job(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a Job, which is there until its pods are gone; nothing happens if it is gone.

    Raises:
        ClusterError: it cannot be deleted.
    """
    try:
        cluster.ask("DELETE", in_namespace("jobs", namespace, name), body={"propagationPolicy": "Foreground"})
    except ClusterError as error:
        if error.status != 404:
            raise


def is_staged(storage: Storage, project: Path) -> bool:
    """Whether something goes to the nodes by s3."""
    places = store.folders(storage, project).values()
    return volumes.copied_by(storage, project) is not None or any(place.kind == "s3" for place in places)


def check_build(build: Build, project: Path) -> None:
    """Look whether an image can be built, and come to the nodes.

    Raises:
        ConfigError: it cannot.
    """
    from lightex.dispatcher.engines.containers.images import check

    check(build, project)
    if not build.repository:
        raise ConfigError(
            "the nodes of a cluster cannot get an image that is built here",
            'say where they pull it from: Build(repository="registry.example.com:5000/name")',
            'on one machine it can be given to them by hand (docs/kubernetes.md); then: Container("name:tag")',
        )
