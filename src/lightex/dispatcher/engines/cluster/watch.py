"""What a cluster has of ours, kept up to date by one watch for all objects of a kind.

The client's own informer (version 37) tries again without a pause while a server is away, and waits for ever on a
connection whose other end is gone; so this does by itself what
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

from lightex.core import jsonlib
from lightex.dispatcher.engines.cluster.api import Cluster, ClusterError, Object, in_namespace

_SECONDS = 240  # that one watch lasts; then the server ends it and it is asked for again
_QUIET = 270.0  # seconds without a word after which a connection is dead; a watch has ended by then
_PAUSES = (0.5, 15.0)  # seconds before a further try, at first and at the most
_PAGE = 500  # objects of one answer to a list
_GONE = 410  # the changes since then are not known any more: all is to be listed again


class Watch:
    """Keeps the objects of one kind, in a thread of its own.

    Attributes:
        objects: by name; a removed one is kept with `removed` for as long as somebody may ask how it ended.
        listed: whether there was a list: from then on, what is not there does not exist.
        error: why it is not up to date, while it is not.
    """

    def __init__(
        self, cluster: Cluster, kind: str, namespace: str, selector: str, changed: threading.Condition
    ) -> None:
        self._cluster, self._path, self._selector = cluster, in_namespace(kind, namespace), selector
        self._changed = changed
        self._version: str | None = None
        self._ended = False
        self._failures = 0
        self._dirty: dict[str, None] = {}
        self._noted: set[str] = set()  # since the last list was asked for: it may not know of them
        self.objects: dict[str, Object] = {}
        self.removed: dict[str, Object] = {}
        self.listed = False
        self.error: ClusterError | None = None
        threading.Thread(target=self._run, name=f"watch {kind}", daemon=True).start()

    def note(self, found: Object) -> None:
        """Take an object that an answer to another question has shown."""
        with self._changed:
            name = found["metadata"]["name"]
            if name not in self.objects and name not in self.removed:
                self._noted.add(name)
                self._take(name, found)

    def take_changes(self) -> list[str]:
        """Names of objects that have changed since the last call; the caller holds the condition."""
        names = list(self._dirty)
        self._dirty.clear()
        return names

    def end(self) -> None:
        """Watch no longer; its thread ends with the next word of the server, or with this process."""
        self._ended = True

    def _run(self) -> None:
        least, most = _PAUSES
        while not self._ended:
            try:
                if self._version is None:
                    self._list()
                self._follow()
                time.sleep(least)
            except (ClusterError, ValueError, LookupError, TypeError) as error:
                if isinstance(error, ClusterError) and error.status == _GONE:
                    self._version = None
                    continue
                if not isinstance(error, ClusterError):  # what it said is not to be understood
                    self._version = None
                self._fail(error)
                pause = min(most, least * 2 ** (self._failures - 1)) * random.uniform(0.5, 1)  # noqa: S311  no secret
                time.sleep(pause)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failures += 1
            if not isinstance(error, ClusterError):
                error = ClusterError(f"the cluster says what is not understood: {error!r}")
            self.error = error
            self._changed.notify_all()

    def _work(self) -> None:
        """It answers as it should; the caller holds the condition."""
        self._failures, self.error = 0, None

    def _list(self) -> None:
        found: dict[str, Object] = {}
        more: dict[str, str] = {}
        with self._changed:
            self._noted.clear()
        while True:
            answer = self._cluster.ask("GET", self._path, {"labelSelector": self._selector, "limit": _PAGE, **more})
            found |= {each["metadata"]["name"]: each for each in answer.get("items") or ()}
            token = answer["metadata"].get("continue")
            if not token:
                break
            more = {"continue": token}
        with self._changed:
            for name in self.objects.keys() - found.keys() - self._noted:
                self._remove(name, self.objects[name])
            for name, each in found.items():
                if _version(each) != _version(self.objects.get(name)):
                    self._take(name, each)
            self.listed, self._version = True, answer["metadata"]["resourceVersion"]
            self._work()
            self._changed.notify_all()

    def _follow(self) -> None:
        """Read changes until the server ends the watch. What comes with an error is raised."""
        asked = {"watch": True, "allowWatchBookmarks": True, "timeoutSeconds": _SECONDS}
        since = {"labelSelector": self._selector, "resourceVersion": self._version}
        with self._cluster.stream(self._path, {**asked, **since}, _QUIET) as answer:
            with self._changed:
                self._work()
            rest = b""
            for part in answer.stream(65536):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    self._heed(jsonlib.loads(line))
                if self._ended:
                    return

    def _heed(self, change: Mapping[str, Any]) -> None:
        kind, found = change["type"], change["object"]
        if kind == "ERROR":
            raise ClusterError(str(found.get("message")), status=int(found.get("code") or 0))
        self._version = found["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        with self._changed:
            name = found["metadata"]["name"]
            self._noted.discard(name)
            if kind == "DELETED":
                self._remove(name, found)
            else:
                self._take(name, found)
            self._changed.notify_all()

    def _take(self, name: str, found: Object) -> None:
        found["metadata"].pop("managedFields", None)  # half of it, and of no use here
        self.objects[name] = found
        self.removed.pop(name, None)
        self._dirty[name] = None

    def _remove(self, name: str, last: Object) -> None:
        self.objects.pop(name, None)
        self.removed[name] = last
        self._dirty[name] = None


def _version(found: Object | None) -> str | None:
    return found["metadata"].get("resourceVersion") if found else None
