"""What goes on by itself: jobs make pods, owners that are gone take what is theirs along, deadlines pass."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes.api import OF_KIND, ApiError, is_leaving
from tests.services.kubernetes.jobs import JobController
from tests.services.kubernetes.nodes import Scheduler
from tests.services.kubernetes.store import FOREGROUND, Change, Key, key_of, owners_of

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster


class Controllers:
    """One thread that looks at what has changed, and does what is due."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.store = cluster, cluster.store
        self.jobs, self.scheduler = JobController(cluster, self.later), Scheduler(cluster)
        self.paused = threading.Event()
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._kept: list[Change] = []
        self._closing = False
        self.store.listeners.append(self._changes.put)
        self.thread = threading.Thread(target=self._run, name="controllers", daemon=True)
        self.thread.start()

    def later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Do something after a while."""
        with self.store.changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), work))
        self._changes.put(None)

    def close(self) -> None:
        """Do nothing any more."""
        self._closing = True
        self._changes.put(None)
        self.thread.join(5)

    def _run(self) -> None:
        while not self._closing:
            try:
                self._step()
            except Exception as error:
                self.cluster.errors.append(error)

    def _step(self) -> None:
        with self.store.changed:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 1.0
        with contextlib.suppress(queue.Empty):
            if change := self._changes.get(timeout=min(wait, 1.0)):
                self._kept.append(change)
            while change := self._changes.get_nowait():
                self._kept.append(change)
        if self.paused.is_set():
            time.sleep(0.01)
            return
        changes, self._kept = self._kept, []
        self._do_what_is_due()
        jobs: dict[Key, None] = {}
        for change in changes:
            self._collect(change)
            jobs |= self._concerned(change)
        for _, namespace, name in jobs:
            with self.store.changed, contextlib.suppress(ApiError):
                self.jobs.look_at(namespace, name)
        if any(change.key[0] in ("pods", "nodes", "persistentvolumeclaims") for change in changes):
            with self.store.changed:
                self.scheduler.schedule()

    def _concerned(self, change: Change) -> dict[Key, None]:
        """The Jobs that have to be looked at."""
        if change.key[0] == "jobs":
            return {change.key: None}
        if change.key[0] != "pods":
            return {}
        self.jobs.note(change)
        keys = [self.store.uids.get(owner) for owner in owners_of(change.obj)]
        return {key: None for key in keys if key and key[0] == "jobs"}

    def _do_what_is_due(self) -> None:
        while True:
            with self.store.changed:
                if not self._due or self._due[0][0] > time.monotonic():
                    return
                work = heapq.heappop(self._due)[2]
            with contextlib.suppress(ApiError):  # what it was about is gone
                work()

    def _collect(self, change: Change) -> None:
        """Garbage collection: of what a gone owner has left, of what is to go before its owner, of namespaces."""
        obj = change.obj
        with self.store.changed, contextlib.suppress(ApiError):
            if change.kind == "DELETED":
                for child in self.store.owned_by(obj["metadata"]["uid"]):
                    self._let_go(child)
                for owner in owners_of(obj):
                    self._look_at_leaving(owner)
                return
            owners = list(owners_of(obj))
            if owners and self.store.find(*change.key) and not any(each in self.store.uids for each in owners):
                self._let_go(obj)
            if is_leaving(obj) and FOREGROUND in (obj["metadata"].get("finalizers") or ()):
                for child in self.store.owned_by(obj["metadata"]["uid"]):
                    self._let_go(child)
                self._look_at_leaving(obj["metadata"]["uid"])

    def _let_go(self, obj: Any) -> None:
        if not is_leaving(obj):
            with contextlib.suppress(ApiError):
                self.store.delete(*key_of(OF_KIND[obj["kind"]].plural, obj), {"propagationPolicy": "Background"})

    def _look_at_leaving(self, uid: str) -> None:
        """An owner that waits for what it owns goes when that is gone."""
        key = self.store.uids.get(uid)
        owner = self.store.find(*key) if key else None
        waits = owner and FOREGROUND in (owner["metadata"].get("finalizers") or ())
        if key and owner and waits and not self.store.owned_by(uid):
            left = [each for each in owner["metadata"]["finalizers"] if each != FOREGROUND]
            self.store.write(*key, lambda obj: obj | {"metadata": obj["metadata"] | {"finalizers": left}})
