"""Experiments as Jobs of a Kubernetes cluster."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, LightexError
from lightex.core.liveness import host
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, SUBMITTED, RunDir
from lightex.core.taxonomy import Build, Container, Experiment, Storage
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.engine import Engine, Finding, JobState, LaunchError, UnreachableError
from lightex.dispatcher.engines.cluster import api, examine, manifest, options, volumes
from lightex.dispatcher.engines.cluster.api import AwayError, Cluster, ClusterError, Object, in_namespace
from lightex.dispatcher.engines.cluster.manifest import ATTEMPT, HOST, KEEP, REMOTE, RUN_DIR, Objects
from lightex.dispatcher.engines.cluster.namespace import Namespace
from lightex.dispatcher.engines.cluster.printing import as_yaml
from lightex.dispatcher.engines.containers import call
from lightex.dispatcher.engines.noted import is_noted, is_over
from lightex.dispatcher.job import Job
from lightex.storage import store

_AGAIN = 1.0  # seconds between two tries to reach what is away
_AT_ONCE = 8  # Jobs that are made or removed at once
_LOOK = 0.5  # seconds between two looks at what no watch tells of
_FORCE_AGAIN = 10.0  # seconds after which pods that were to be killed are taken away without their node's word
_MERGE = "application/merge-patch+json"


class KubernetesEngine(Engine):
    """Makes a Job for each attempt, and watches all of them together. A handle is "CONTEXT/NAMESPACE/NAME".

    A Job is removed only when its end has been noted down: were this process killed before, the next one finds it.
    """

    python = "python3"
    several_nodes = True

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closing = threading.Event()  # what waits for a server that is away, waits no longer
        self._namespaces: dict[tuple[str, str], Namespace] = {}
        self._making: dict[str, Future[JobState | None]] = {}
        self._reasons: dict[str, str] = {}
        self._cancelled: dict[str, float] = {}
        self._forced: dict[str, float] = {}
        self._last: dict[str, JobState] = {}
        self._held: set[str] = set()  # ended, but not all of them is back yet; or not to be known for now
        self._told: list[str] = []
        self._cleaned: set[tuple[str, str]] = set()
        self._most = options.Options().most_open
        self._pool: ThreadPoolExecutor | None = None
        self._images: Any = None
        self._luggage: Any = None
        self._returns: Any = None

    def capacity(self) -> Capacity | None:
        """None: the cluster queues by itself."""
        return None

    def takes_more(self, jobs: int) -> bool:
        """Whether there are fewer Jobs than `most_open`."""
        return jobs < self._most

    @classmethod
    def folders(cls, storage: Storage, project: Path) -> Mapping[str, str]:
        """See `Engine.folders`: paths as they are here; what is not to be seen here below /lx/dirs."""
        return volumes.folders(storage, project)

    def stage(self, storages: Iterable[Storage], project: Path, tell: Callable[[str], None]) -> None:
        """Nothing: what is kept elsewhere is brought to the nodes, by each pod."""

    def collect(self, job: Job, tell: Callable[[str], None]) -> None:
        """Nothing: each pod brings back what is written there."""

    def check(self, experiment: Experiment[Any], project: Path) -> None:
        """See `Engine.check`: it has an image that nodes can get, options that there are, and sees its folders."""
        container = experiment.container
        if container is None:
            raise call.no_container(experiment.name)
        read = options.read(experiment.engine_options.get("kubernetes", {}))
        for name in container.options:
            if name != "entrypoint":
                raise ConfigError(
                    f"container.options: '{name}' is an option of docker's",
                    'fields of a pod go there: engine_options={"kubernetes": {"pod": {...}}}',
                    "to run this once: container.options={}",
                )
        if isinstance(container.image, Build):
            _check_build(container.image, project)
        volumes.check(experiment, project)
        if read.lightex_image is None and _is_staged(experiment.storage, project):
            raise manifest.no_image()
        for each in experiment.resources.node_labels:
            if "=" not in each:
                raise ConfigError(f"resources.node_labels: '{each}' is no NAME=VALUE")

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:
        """Look whether the cluster answers, build and push images, and send the code where nodes do not see it."""
        known: dict[str, Experiment[Any]] = {}
        for each in experiments:
            looked_at = each.container, each.storage, each.engine_options.get("kubernetes", {})
            known.setdefault(repr(looked_at), each)
        for each in known.values():
            cluster, namespace = self._place(options.read(each.engine_options.get("kubernetes", {})))
            examine.check_rights(cluster, namespace)
            self._image(_container(each), project, tell)
            self._check_stores(each.storage, project, tell)

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:  # noqa: ARG002
        """Begin to make a Job; the cluster starts its pods when there is room.

        Raises:
            LaunchError: its options are not valid any more, or there is no such cluster.
        """
        try:
            read = options.read(job.options)
            cluster, namespace = self._place(read)
        except LightexError as error:
            raise LaunchError(str(error)) from error
        self._most = read.most_open
        handle = f"{cluster.context}/{namespace}/{manifest.name_of(job)}"
        self._namespace(cluster, namespace)
        self._making[handle] = self._in_background(lambda: self._make(handle, job, read))
        return handle, {}

    def _make(self, handle: str, job: Job, read: options.Options) -> JobState | None:
        """Make a Job; returns why it could not be, or None. What is away is waited for."""
        cluster, namespace, _ = self._parts(handle)
        try:
            while handle not in self._cancelled and not self._closing.is_set():
                try:
                    found = self._objects(job, read, namespace, lambda line: self._say(handle, line))
                    self._send_run(job)
                    made = self._create(cluster, found)
                except UnreachableError as error:
                    self._say(handle, error.message)
                    self._closing.wait(_AGAIN)
                    continue
                self._namespace(cluster, namespace).made(made)
                self._expect(handle, made)
                return None
            return JobState(CANCELLED, "cancelled", "it was ended before it had started")
        except (LightexError, OSError) as error:
            return JobState(FAILED, "launch", f"the cluster does not take it: {error}")
        finally:
            with self._changed:
                self._changed.notify_all()

    def _objects(self, job: Job, read: options.Options, namespace: str, tell: Callable[[str], None]) -> Objects:
        image = self._image(call.of(job), job.project or job.cwd, tell)
        travel = None
        if _is_staged(job.storage, job.project or job.cwd):
            travel = self._luggage_of().travel(job, tell)
        return manifest.objects(job, image, read, namespace, travel)

    def _create(self, cluster: Cluster, found: Objects) -> Object:
        """Make the objects of a job; what is there already was made by a try whose answer was lost."""
        about = found.job["metadata"]
        namespace, name = about["namespace"], about["name"]
        if found.secret:
            values = {each: base64.b64encode(value.encode()).decode() for each, value in found.secret.items()}
            labels = {each: about["labels"][each] for each in (*manifest.MANAGED, "lightex.user")}
            secret = {"metadata": {"name": name, "labels": labels}, "data": values}
            _create(cluster, "secrets", namespace, {"apiVersion": "v1", "kind": "Secret", **secret})
        if found.service:  # before its pods: a name that is asked for too early is unknown for a while
            _create(cluster, "services", namespace, found.service)
        made = _create(cluster, "jobs", namespace, found.job)
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": made["metadata"]["uid"]}
        change = {"metadata": {"ownerReferences": [owner]}}  # they go when the Job goes
        for kind, is_there in (("secrets", found.secret), ("services", found.service)):
            if is_there:
                cluster.ask("PATCH", in_namespace(kind, namespace, name), body=change, kind=_MERGE)
        return made

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The Job of that name."""
        cluster, namespace = self._place(options.read(job.options))
        name = manifest.name_of(job)
        try:
            cluster.ask("GET", in_namespace("jobs", namespace, name))
        except ClusterError as error:
            if error.status != 404:
                raise
            for kind in ("secrets", "services"):  # what has no Job is of a submission that was cut off
                with suppress(ClusterError):
                    cluster.ask("DELETE", in_namespace(kind, namespace, name))
            return None
        return f"{cluster.context}/{namespace}/{name}", {}

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """What has changed, as the watches tell it. A server that is away is waited for."""
        self._tidy()
        for handle in handles:
            cluster, namespace, _ = self._parts(handle)
            self._namespace(cluster, namespace)
        for place in self._namespaces.values():
            if stuck := place.look_for_warnings():
                for name in stuck:
                    self._last.pop(f"{place.cluster.context}/{place.name}/{name}", None)
        deadline = time.monotonic() + wait
        with self._changed:
            while not (found := self._news(handles)) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, _LOOK))
        self._told += [handle for handle, state in found.items() if state.state in ENDED]
        return found

    def _news(self, handles: Sequence[str]) -> dict[str, JobState]:
        """The states that have changed since they were told; the caller holds the condition."""
        for place in self._namespaces.values():
            before = f"{place.cluster.context}/{place.name}/"
            wanted = {each.removeprefix(before) for each in handles if each.startswith(before)}
            for name in place.take_changes(wanted):
                self._last.pop(before + name, None)
        found = {}
        for handle in handles:
            last = self._last.get(handle)
            if last is None or last.state in ENDED or handle in self._making or handle in self._held:
                state = self._state(handle)
                if state is not None and (state != last or state.state in ENDED):
                    self._last[handle] = found[handle] = state
        return found

    def _state(self, handle: str) -> JobState | None:
        making = self._making.get(handle)
        if making is not None:
            if not making.done():
                return JobState(SUBMITTED, reason=self._reasons.get(handle))
            del self._making[handle]
            self._reasons.pop(handle, None)
            if failed := making.result():
                return failed
        cluster, namespace, name = self._parts(handle)
        place = self._namespace(cluster, namespace)
        state = place.state(name)
        if state is None or state.state == SUBMITTED:
            if not place.error:
                return state
            self._held.add(handle)
            return JobState(SUBMITTED, reason=place.error.message)
        if job := place.job(name):
            self._expect(handle, job)
        if state.state in ENDED:
            return self._ended(handle, state)
        self._held.discard(handle)
        return state

    def _ended(self, handle: str, state: JobState) -> JobState | None:
        """The end of a job; None: not all of its run is back yet."""
        if self._returns:
            cluster, namespace, name = self._parts(handle)
            complete = self._namespace(cluster, namespace).is_brought_back(name)
            back, wrong = self._returns.is_back(handle, complete)
            if not back:
                self._held.add(handle)
                return None
            if wrong and state.state != LOST:
                state = replace(state, state=FAILED, cause="lost", reason=wrong)
        self._held.discard(handle)
        return state

    def _expect(self, handle: str, job: Object) -> None:
        """Have the run's directory come back, if nodes do not see it by themselves."""
        about = job["metadata"]
        notes = about.get("annotations", {})
        if REMOTE not in notes or notes.get(HOST) != host():
            return
        if self._returns is None:
            from lightex.dispatcher.engines.cluster.travel import Returns

            self._returns = Returns()
        nodes = int(job["spec"].get("completions") or 1)
        remote = jsonlib.loads(notes[REMOTE])
        self._returns.expect(handle, remote, Path(notes[RUN_DIR]), int(about["labels"][ATTEMPT]), nodes)

    def _tidy(self) -> None:
        """Remove what has ended and is noted down, the first time also what others have left."""
        while self._told:
            self._remove(self._told.pop())
        for key, place in self._namespaces.items():
            if place.listed and key not in self._cleaned:
                self._cleaned.add(key)
                with self._changed:
                    jobs = place.jobs
                for job in jobs:
                    notes, labels = job["metadata"].get("annotations", {}), job["metadata"]["labels"]
                    if notes.get(HOST) == host() and is_over(notes.get(RUN_DIR, ""), labels.get(ATTEMPT, "")):
                        self._delete_later(job)

    def _remove(self, handle: str) -> None:
        cluster, namespace, name = self._parts(handle)
        place = self._namespace(cluster, namespace)
        with self._changed:
            job = place.job(name)
            place.forget([name])
        for known in (self._last, self._cancelled, self._forced, self._reasons):
            known.pop(handle, None)
        self._held.discard(handle)
        noted = job is None
        if job:
            notes, labels = job["metadata"].get("annotations", {}), job["metadata"]["labels"]
            noted = RUN_DIR in notes and is_noted(RunDir(notes[RUN_DIR]), int(labels[ATTEMPT]))
            if noted:
                self._delete_later(job)
        if self._returns:
            self._returns.forget(handle, noted)

    def _delete_later(self, job: Object) -> None:
        about = job["metadata"]
        if about["labels"].get(KEEP) == "yes" or about.get("deletionTimestamp"):
            return
        place = next(each for each in self._namespaces.values() if each.name == about["namespace"])

        def delete() -> None:
            with suppress(ClusterError):  # it is gone, or stays until its time to live is over
                _delete_job(place.cluster, about["namespace"], about["name"])

        self._in_background(delete)

    def cancel(self, handle: str, force: bool = False) -> None:
        """Delete the Job: its pods get SIGTERM, and SIGKILL after their grace; or (force) have them killed."""
        now = time.monotonic()
        first = handle not in self._cancelled
        self._cancelled.setdefault(handle, now)
        if force:
            # What brings back the run's directory gets the time for that: the wrapper ends the command by itself.
            waits = manifest.RETURNS if self._returns and self._returns.is_expected(handle) else 0.0
            last = self._forced.get(handle, 0.0)
            if now < self._cancelled[handle] + waits or now < last + _FORCE_AGAIN:
                return
            self._forced[handle] = now
            self._in_background(lambda: self._kill(handle, 0 if last else 1))
        elif first:
            self._in_background(lambda: self._stop(handle))

    def _stop(self, handle: str) -> None:
        cluster, namespace, name = self._parts(handle)
        while not self._closing.is_set():
            try:
                _delete_job(cluster, namespace, name)
            except AwayError:
                self._closing.wait(_AGAIN)
            except ClusterError as error:  # somebody took the right away
                self._say(handle, error.message)
                return
            else:
                return

    def _kill(self, handle: str, grace: int) -> None:
        """Kill the pods of a Job; without a grace they are taken away also where their node does not answer."""
        cluster, namespace, name = self._parts(handle)
        with suppress(ClusterError):
            _delete_job(cluster, namespace, name)
        with suppress(ClusterError):
            path = in_namespace("pods", namespace)
            cluster.ask("DELETE", path, {"labelSelector": f"job-name={name}"}, {"gracePeriodSeconds": grace})

    def close(self) -> None:
        """Remove the Jobs whose ends are noted down."""
        self._tidy()
        self._closing.set()
        for place in self._namespaces.values():
            place.end()
        self._namespaces.clear()
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=False)
            self._pool = None
        if self._returns:
            self._returns.close()
            self._returns = None

    def manifest(self, job: Job) -> str:
        """The YAML that makes the same Job; code and run are in their store then."""
        read = options.read(job.options)
        cluster, namespace = self._place(read)
        found = self._objects(job, read, namespace, lambda _: None)
        self._send_run(job)
        return as_yaml(found, cluster.context)

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:
        """The cluster, each right that is needed, the namespace, images and stores."""
        return examine.examine(experiments, project)

    def _image(self, container: Container, project: Path, tell: Callable[[str], None]) -> str:
        """The name of an image that nodes can get; one that is to be built is built, and pushed."""
        if not isinstance(container.image, Build):
            return container.image
        if self._images is None:
            from lightex.dispatcher.engines.containers.images import Images  # it needs docker's SDK

            self._images = Images()
        return str(self._images.ensure(container.image, project, tell).name)

    def _luggage_of(self) -> Any:
        if self._luggage is None:
            from lightex.dispatcher.engines.cluster.travel import Luggage  # it needs an S3 client

            self._luggage = Luggage()
        return self._luggage

    def _send_run(self, job: Job) -> None:
        """Have the run's directory where nodes see it, with the first line of a further attempt."""
        remote = volumes.remote_of(job.storage, job.project or job.cwd)
        if remote is not None and remote.kind == "s3":
            from lightex.dispatcher.engines.cluster.travel import send_run

            send_run(job)
        elif not _is_staged(job.storage, job.project or job.cwd):
            os.close(job.run.open_output(job.attempt))

    def _check_stores(self, storage: Storage, project: Path, tell: Callable[[str], None]) -> None:
        if not _is_staged(storage, project):
            return
        from lightex.storage.bucket import Bucket

        remote = volumes.remote_of(storage, project)
        places = [place for place in store.folders(storage, project).values() if place.kind == "s3"]
        for place in [*places, *([remote] if remote and remote.kind == "s3" else [])]:
            Bucket.of(place).check()
        if remote and remote.kind == "s3":
            self._luggage_of().check(project, storage, tell)

    def _place(self, read: options.Options) -> tuple[Cluster, str]:
        cluster = api.connect(read.context)
        return cluster, read.namespace or cluster.namespace

    def _parts(self, handle: str) -> tuple[Cluster, str, str]:
        context, namespace, name = handle.rsplit("/", 2)
        return api.connect(context), namespace, name

    def _namespace(self, cluster: Cluster, name: str) -> Namespace:
        key = cluster.context, name
        if key not in self._namespaces:
            self._namespaces[key] = Namespace(cluster, name, self._changed)
        return self._namespaces[key]

    def _say(self, handle: str, line: str) -> None:
        with self._changed:
            self._reasons[handle] = line
            self._changed.notify_all()

    def _in_background(self, work: Callable[[], Any]) -> Future[Any]:
        self._pool = self._pool or ThreadPoolExecutor(_AT_ONCE)
        return self._pool.submit(work)


def _create(cluster: Cluster, kind: str, namespace: str, body: Mapping[str, Any]) -> Object:
    """Make an object, which may be there already."""
    try:
        how = {"fieldManager": "lightex", "fieldValidation": "Strict"}
        return cluster.ask("POST", in_namespace(kind, namespace), how, body)
    except ClusterError as error:
        if error.status != 409:
            raise
        return cluster.ask("GET", in_namespace(kind, namespace, body["metadata"]["name"]))


def _delete_job(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a Job, which is there until its pods are gone; nothing happens if it is gone."""
    try:
        cluster.ask("DELETE", in_namespace("jobs", namespace, name), body={"propagationPolicy": "Foreground"})
    except ClusterError as error:
        if error.status != 404:
            raise


def _container(experiment: Experiment[Any]) -> Container:
    if experiment.container is None:
        raise call.no_container(experiment.name)
    return experiment.container


def _is_staged(storage: Storage, project: Path) -> bool:
    """Whether something goes to the nodes by s3."""
    remote = volumes.remote_of(storage, project)
    places = [*store.folders(storage, project).values(), *([remote] if remote else [])]
    return any(place.kind == "s3" for place in places)


def _check_build(build: Build, project: Path) -> None:
    from lightex.dispatcher.engines.containers.images import check

    check(build, project)
    if not build.repository:
        raise ConfigError(
            "the nodes of a cluster cannot get an image that is built here",
            'say where they pull it from: Build(repository="registry.example.com:5000/name")',
            'on one machine it can be given to them by hand (docs/kubernetes.md); then: Container("name:tag")',
        )
