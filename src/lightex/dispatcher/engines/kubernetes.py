"""Experiments as Jobs of a Kubernetes cluster."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, LightexError, UnreachableError
from lightex.core.liveness import host
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, RUNNING, SUBMITTED
from lightex.core.taxonomy import Build, Experiment, Storage
from lightex.dispatcher.engine import Engine, Finding, JobState, LaunchError, Usage
from lightex.dispatcher.engines import given
from lightex.dispatcher.engines.cluster import api, examine, manifest, metrics, options, volumes
from lightex.dispatcher.engines.cluster.api import AwayError, Cluster, ClusterError, Object, in_namespace
from lightex.dispatcher.engines.cluster.making import FullError, Maker, check_build, delete_job, delete_rest, is_staged
from lightex.dispatcher.engines.cluster.manifest import ATTEMPT, HOST, KEEP, REMOTE, RUN_DIR
from lightex.dispatcher.engines.cluster.namespace import Namespace
from lightex.dispatcher.engines.cluster.printing import as_yaml
from lightex.dispatcher.engines.containers import call
from lightex.dispatcher.engines.gathering import Gathering
from lightex.dispatcher.engines.noted import is_over
from lightex.dispatcher.job import Job

_AGAIN = 1.0  # seconds between two tries to reach what is away
_AT_ONCE = 8  # Jobs that are made or removed at once
_LOOK = 0.5  # seconds between two looks at what no watch tells of
_QUOTA_AGAIN = 5.0  # the same where a quota is used up
_PATIENCE = 10.0  # seconds that a job which was to be killed may be out of reach before it is given up
_FORCE_AGAIN = 10.0  # seconds after which pods that were to be killed are taken away without their node's word


class KubernetesEngine(Engine):
    """Makes a Job for each attempt, and watches all of them together. A handle is "CONTEXT/NAMESPACE/NAME".

    A Job is removed only when its end has been noted down: were this process killed before, the next one finds it.
    """

    python = "python3"
    several_nodes = True
    most_open = options.Options.most_open

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closing = threading.Event()  # what waits for a server that is away, waits no longer
        self._namespaces: dict[tuple[str, str], Namespace] = {}
        self._making: dict[str, Future[JobState | None]] = {}
        self._reasons: dict[str, str] = {}
        self._cancelled: dict[str, float] = {}
        self._forced: dict[str, float] = {}
        self._to_be_killed: dict[str, float] = {}  # since when
        self._wrong: dict[str, str] = {}  # why a run's directory cannot come back
        self._last: dict[str, JobState] = {}
        self._held: set[str] = set()  # ended, but not all of them is back yet; or not to be known for now
        self._cleaned: set[tuple[str, str]] = set()
        self._makers = ThreadPoolExecutor(_AT_ONCE)
        self._removers = ThreadPoolExecutor(_AT_ONCE)  # of their own: room for what waits may come by them
        self._maker = Maker()
        self._returns: Any = None
        self._gatherings: dict[tuple[str, str], Gathering] = defaultdict(Gathering)

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
        container = call.of(experiment)
        read = options.read(experiment.engine_options.get("kubernetes", {}))
        for name in container.options:
            if name != "entrypoint":
                raise ConfigError(
                    f"container.options: '{name}' is an option of docker's",
                    'fields of a pod go there: engine_options={"kubernetes": {"pod": {...}}}',
                    "to run this once: container.options={}",
                )
        if isinstance(container.image, Build):
            check_build(container.image, project)
        volumes.check(experiment, project)
        if read.lightex_image is None and is_staged(experiment.storage, project):
            raise manifest.no_image()
        given.node_labels(experiment.resources)

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:
        """Look whether the cluster answers, build and push images, and send the code where nodes do not see it."""
        known = {
            repr((each.container, each.storage, each.engine_options.get("kubernetes"))): each for each in experiments
        }
        for each in known.values():
            cluster, namespace = self._place(options.read(each.engine_options.get("kubernetes", {})))
            examine.check_rights(cluster, namespace)
            self._maker.prepare(each, project, cluster, namespace, tell)

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
        self.most_open = read.most_open
        handle = f"{cluster.context}/{namespace}/{job.name}"
        self._namespace(cluster, namespace)
        self._making[handle] = self._makers.submit(self._make, handle, job, read)
        return handle, {}

    def _make(self, handle: str, job: Job, read: options.Options) -> JobState | None:
        """Make a Job; returns why it could not be, or None. What is away is waited for."""
        cluster, namespace, _ = self._parts(handle)
        try:
            while handle not in self._cancelled and not self._closing.is_set():
                try:
                    found = self._maker.objects(job, read, namespace, lambda line: self._say(handle, line))
                    self._maker.send_run(job)
                    made = self._maker.create(cluster, found)
                except UnreachableError as error:
                    self._say(handle, str(error))
                    self._closing.wait(_QUOTA_AGAIN if isinstance(error, FullError) else _AGAIN)
                    continue
                if not self._closing.is_set():
                    self._namespace(cluster, namespace).made(made)
                return None
            return JobState(CANCELLED, "cancelled", "it was ended before it had started")
        except (LightexError, OSError) as error:
            return JobState(FAILED, "launch", f"the cluster does not take it: {error}")
        except Exception as error:  # noqa: BLE001  it would end the supervisor, and with it all others
            return JobState(FAILED, "launch", f"{type(error).__name__}: {error}")
        finally:
            with self._changed:
                self._changed.notify_all()

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The Job of that name."""
        if job.handle:  # it is where it was made, whatever the kubeconfig says now
            cluster, namespace, name = self._parts(job.handle)
        else:
            (cluster, namespace), name = self._place(options.read(job.options)), job.name
        try:
            cluster.ask("GET", in_namespace("jobs", namespace, name))
        except ClusterError as error:
            if error.status != 404:
                raise
            delete_rest(cluster, namespace, name)  # what has no Job is of a submission that was cut off
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
            again = handle in self._making or handle in self._held or handle in self._to_be_killed
            if last is None or last.state in ENDED or again:
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
        if place.error and self._is_given_up(handle):
            return JobState(LOST, "lost", f"it was to be killed, and {place.error.message}")
        self._held.discard(handle)
        if place.error or place.depends_on_time(name):
            self._held.add(handle)
        if state is None or state.state == SUBMITTED:
            return JobState(SUBMITTED, reason=place.error.message) if place.error else state
        if job := place.job(name):
            self._expect(handle, job)
        return self._ended(handle, state) if state.state in ENDED else state

    def _is_given_up(self, handle: str) -> bool:
        """Whether a job was to be killed for so long that what is away is not waited for any more."""
        since = self._to_be_killed.get(handle)
        return since is not None and time.monotonic() - since > _PATIENCE

    def _ended(self, handle: str, state: JobState) -> JobState | None:
        """The end of a job; None: not all of its run is back yet."""
        if self._returns:
            cluster, namespace, name = self._parts(handle)
            complete = self._namespace(cluster, namespace).is_brought_back(name)
            back, wrong = self._returns.is_back(handle, complete)
            if not back and not (wrong and self._is_given_up(handle)):
                self._held.add(handle)
                return None
            self._wrong |= {handle: wrong} if wrong else {}
        if (wrong := self._wrong.get(handle)) and state.state != LOST:
            state = replace(state, state=FAILED, cause="lost", reason=f"what it wrote is not all here: {wrong}")
        return state

    def _expect(self, handle: str, job: Object) -> None:
        """Have the run's directory come back, if nodes do not see it by themselves."""
        about = job["metadata"]
        notes = about.get("annotations", {})
        if REMOTE not in notes or handle in self._wrong:
            return
        nodes = int(job["spec"].get("completions") or 1)
        remote = jsonlib.loads(notes[REMOTE])
        try:
            if self._returns is None:
                from lightex.dispatcher.engines.cluster.travel import Returns

                self._returns = Returns()
            self._returns.expect(handle, remote, Path(notes[RUN_DIR]), int(about["labels"][ATTEMPT]), nodes)
        except (LightexError, ImportError) as error:  # told with its end; what it wrote stays in the store
            self._wrong[handle] = str(error)

    def _tidy(self) -> None:
        """Remove what others have left, once in each namespace."""
        for key, place in self._namespaces.items():
            if place.listed and key not in self._cleaned:
                self._cleaned.add(key)
                with self._changed:
                    jobs = place.jobs
                for job in jobs:
                    notes, labels = job["metadata"].get("annotations", {}), job["metadata"]["labels"]
                    if notes.get(HOST) == host() and is_over(notes.get(RUN_DIR, ""), labels.get(ATTEMPT, "")):
                        self._delete_later(place, job)

    def forget(self, handle: str) -> None:
        """Delete its Job, and what of its run is in a store."""
        cluster, namespace, name = self._parts(handle)
        place = self._namespace(cluster, namespace)
        with self._changed:
            job = place.job(name)
            place.forget([name])
        for known in (self._last, self._cancelled, self._forced, self._to_be_killed, self._reasons, self._wrong):
            known.pop(handle, None)
        self._held.discard(handle)
        if job:
            self._delete_later(place, job)
        if self._returns:
            self._returns.forget(handle)

    def _delete_later(self, place: Namespace, job: Object) -> None:
        about = job["metadata"]
        if about["labels"].get(KEEP) == "yes" or about.get("deletionTimestamp"):
            return

        def delete() -> None:
            with suppress(ClusterError):  # it is gone, or stays until its time to live is over
                delete_job(place.cluster, about["namespace"], about["name"])

        self._removers.submit(delete)

    def cancel(self, handle: str, force: bool = False) -> None:
        """Delete the Job: its pods get SIGTERM, and SIGKILL after their grace; or (force) have them killed."""
        now = time.monotonic()
        first = handle not in self._cancelled
        self._cancelled.setdefault(handle, now)
        if first:
            self._removers.submit(self._stop, handle)
        if force:
            self._to_be_killed.setdefault(handle, now)
            # What brings back the run's directory gets the time for that: the wrapper ends the command by itself.
            last_state = self._last.get(handle)
            returns = self._returns is not None and self._returns.is_expected(handle)
            waits = manifest.RETURNS if returns and last_state and last_state.state == RUNNING else 0.0
            last = self._forced.get(handle, 0.0)
            if now < self._cancelled[handle] + waits or now < last + _FORCE_AGAIN:
                return
            self._forced[handle] = now
            self._removers.submit(self._kill, handle, 0 if last else 1)

    def _stop(self, handle: str) -> None:
        cluster, namespace, name = self._parts(handle)
        while True:
            try:
                delete_job(cluster, namespace, name)
            except AwayError:
                if self._closing.wait(_AGAIN):
                    return
            except ClusterError as error:  # somebody took the right away
                self._say(handle, error.message)
                return
            else:
                return

    def _kill(self, handle: str, grace: int) -> None:
        """Kill the pods of a Job; without a grace they are taken away also where their node does not answer."""
        cluster, namespace, name = self._parts(handle)
        with suppress(ClusterError):
            delete_job(cluster, namespace, name)
        with suppress(ClusterError):
            path = in_namespace("pods", namespace)
            cluster.ask("DELETE", path, {"labelSelector": f"job-name={name}"}, {"gracePeriodSeconds": grace})

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:
        """What the metrics API of the cluster says, when it has something new; nothing where it has none."""
        names = defaultdict(list)
        for handle in handles:
            context, namespace, name = handle.rsplit("/", 2)
            names[context, namespace].append(name)
        found: dict[str, Usage] = {}
        for (context, namespace), wanted in names.items():
            question = partial(metrics.used, context, namespace)
            news = self._gatherings[context, namespace].news(question, metrics.EVERY, wanted)
            found |= {f"{context}/{namespace}/{name}": usage for name, usage in news.items()}
        return found

    def close(self) -> None:
        """Wait until the Jobs are removed whose ends are noted down."""
        for gathering in self._gatherings.values():
            gathering.close()
        self._gatherings.clear()
        self._closing.set()
        for place in self._namespaces.values():
            place.end()
        self._namespaces.clear()
        self._makers.shutdown(wait=True)
        self._removers.shutdown(wait=True)
        if self._returns:
            self._returns.close()
            self._returns = None

    def manifest(self, job: Job) -> str:
        """The YAML that makes the same Job; code and run are in their store then."""
        read = options.read(job.options)
        cluster, namespace = self._place(read)
        found = self._maker.objects(job, read, namespace, lambda _: None)
        self._maker.send_run(job)
        return as_yaml(found, cluster.context)

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:
        """The cluster, each right that is needed, the namespace, images and stores."""
        return examine.examine(experiments, project)

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
