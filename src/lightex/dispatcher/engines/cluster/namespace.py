"""Our Jobs in one namespace: what the API server shows of them, by two watches for all of them together."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable

from lightex.core.rundir import SUBMITTED
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.cluster.api import Cluster, ClusterError, Object, in_namespace
from lightex.dispatcher.engines.cluster.manifest import selector
from lightex.dispatcher.engines.cluster.outcome import is_brought_back, is_leaving, state_of, stuck_by
from lightex.dispatcher.engines.cluster.watch import Watch

_STUCK = 10.0  # seconds without a start from which events are asked what holds a Job up
_PATIENCE = 3.0  # seconds without an answer to it: who polls waits
_EVENTS_EVERY = 15.0  # seconds between two such questions, each for all that waits


class Namespace:
    """What of ours there is in a namespace.

    Attributes:
        cluster: its cluster.
        name: its name.
    """

    def __init__(self, cluster: Cluster, name: str, changed: threading.Condition) -> None:
        self.cluster, self.name = cluster, name
        self._changed = changed
        self._jobs = Watch(cluster, "jobs", name, selector(), changed)
        self._pods = Watch(cluster, "pods", name, selector(), changed)
        self._pods_of: dict[str, dict[str, None]] = defaultdict(dict)
        self._waits_since: dict[str, float] = {}
        self._stuck: dict[str, tuple[str, float]] = {}
        self._warnings: dict[str, str] = {}
        self._asked = 0.0

    @property
    def error(self) -> ClusterError | None:
        """Why what is known is not up to date; None: it is."""
        return self._jobs.error or self._pods.error

    @property
    def listed(self) -> bool:
        """Whether all that is there is known."""
        return self._jobs.listed and self._pods.listed

    @property
    def jobs(self) -> list[Object]:
        """All Jobs; the caller holds the condition."""
        return list(self._jobs.objects.values())

    def made(self, job: Object) -> None:
        """A Job was made just now."""
        self._jobs.note(job)

    def job(self, name: str) -> Object | None:
        """A Job by its name, also one that was there; the caller holds the condition."""
        return self._jobs.objects.get(name) or self._jobs.removed.get(name)

    def take_changes(self, wanted: Collection[str]) -> set[str]:
        """The names of Jobs of which something has changed since the last call; the caller holds the condition.

        Those that are not wanted are forgotten as soon as they are gone: others run Jobs of this user too.
        """
        names = set(self._jobs.take_changes())
        for pod in self._pods.take_changes():
            found = self._pods.objects.get(pod) or self._pods.removed.get(pod)
            if found and (job := found["metadata"].get("labels", {}).get("job-name")):
                self._pods_of[job][pod] = None
                names.add(job)
        self.forget(name for name in names if name not in wanted and name not in self._jobs.objects)
        return names

    def state(self, name: str) -> JobState | None:
        """The state of a Job; None: not known yet. The caller holds the condition."""
        if not self.listed:
            return None
        known = list(self._pods_of.get(name, ()))
        pods = [self._pods.objects[pod] for pod in known if pod in self._pods.objects]
        gone = [self._pods.removed[pod] for pod in known if pod in self._pods.removed]
        stuck = 0.0
        if reason := stuck_by(pods):
            since = self._stuck.setdefault(name, (reason, time.monotonic()))
            if since[0] != reason and {since[0], reason} != {"ErrImagePull", "ImagePullBackOff"}:  # these take turns
                since = self._stuck[name] = reason, time.monotonic()
            stuck = time.monotonic() - since[1]
        else:
            self._stuck.pop(name, None)
        state = state_of(self._jobs.objects.get(name), pods, gone, self._warnings, time.time(), stuck)
        if state.state == SUBMITTED:
            self._waits_since.setdefault(name, time.monotonic())
        else:
            self._waits_since.pop(name, None)
        return state

    def depends_on_time(self, name: str) -> bool:
        """Whether the state of a Job may change without a word of the server. The caller holds the condition."""
        pods = [self._pods.objects[pod] for pod in self._pods_of.get(name, ()) if pod in self._pods.objects]
        return name in self._stuck or is_leaving(pods)

    def is_brought_back(self, name: str) -> bool:
        """Whether all pods of a Job say that they have brought back what they wrote; the caller holds the condition."""
        known = self._pods_of.get(name, ())
        pods = [self._pods.objects.get(pod) or self._pods.removed.get(pod) for pod in known]
        return bool(pods) and all(pod is not None and is_brought_back(pod) for pod in pods)

    def look_for_warnings(self) -> set[str]:
        """Ask, now and then, what events say of Jobs that do not start; returns those of which something is said.

        The caller does not hold the condition.
        """
        now = time.monotonic()
        stuck = {name for name, since in list(self._waits_since.items()) if now - since > _STUCK}
        if not stuck or now - self._asked < _EVENTS_EVERY:
            return set()
        self._asked = now
        try:
            asked = {"fieldSelector": "type=Warning", "limit": 500}
            found = self.cluster.ask("GET", in_namespace("events", self.name), asked, quiet=_PATIENCE)
        except ClusterError:  # without the right to see them, or for now: it is only for more words
            return set()
        with self._changed:
            pods = {pod for name in stuck for pod in self._pods_of.get(name, ())}
            told = sorted(found.get("items") or (), key=_when)
            about = {each["involvedObject"].get("name"): str(each.get("message")) for each in told}
            self._warnings = {name: words for name, words in about.items() if name in stuck or name in pods}
        return stuck

    def forget(self, names: Iterable[str]) -> None:
        """These Jobs are not asked for any more; the caller holds the condition."""
        for name in names:
            self._jobs.removed.pop(name, None)
            self._waits_since.pop(name, None)
            self._stuck.pop(name, None)
            for pod in self._pods_of.pop(name, ()):
                self._pods.removed.pop(pod, None)

    def end(self) -> None:
        """Watch no longer."""
        self._jobs.end()
        self._pods.end()


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
