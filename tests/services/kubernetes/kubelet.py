"""What becomes of pods where the test says it; and what all kubelets have in common: statuses, logs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.services.kubernetes.api import ApiError, Json, is_leaving, is_over, now, seconds, with_condition
from tests.services.kubernetes.store import Change

if TYPE_CHECKING:
    from tests.services.kubernetes import Cluster

_BEAT = 0.1  # seconds between two looks whether a followed log is still wanted


def containers_of(pod: Json) -> list[Json]:
    """Its containers, without those for its start."""
    return list(pod["spec"]["containers"])


def all_of(pod: Json) -> list[Json]:
    """Its containers, those for its start first."""
    return [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]


def entry(spec: Json, state: Json, *, restarts: int = 0, number: str = "", last: Json | None = None) -> Json:
    """A container as a pod's status has it."""
    running = "running" in state
    found = {"name": spec["name"], "state": state, "lastState": last or {}, "ready": running, "started": running,
             "restartCount": restarts, "image": spec["image"], "imageID": ""}  # fmt: skip
    return found | ({"containerID": f"docker://{number}"} if number else {})


def ended(code: int, reason: str | None = None, message: str | None = None, started: str | None = None) -> Json:
    """The state of a container that has ended."""
    why = reason or ("Completed" if code == 0 else "Error")
    found = {"exitCode": code, "reason": why, "startedAt": started or now(), "finishedAt": now()}
    return {"terminated": found | ({"message": message} if message else {})}


def with_ready(status: Json, ready: bool, reason: str = "ContainersNotReady", initialized: bool = True) -> Json:
    """A status with the conditions that kubelets write."""
    why = {} if ready else {"reason": reason, "message": "containers with unready status"}
    status = with_condition(status, "PodReadyToStartContainers")
    status = with_condition(status, "Initialized", "True" if initialized else "False")
    for kind in ("Ready", "ContainersReady"):
        status = with_condition(status, kind, "True" if ready else "False", **why)
    return status


class Kubelet:
    """No kubelet: tests write the statuses; what is deleted goes after a moment."""

    cluster: Cluster

    def start(self, cluster: Cluster) -> None:
        """Begin to look after pods."""
        self.cluster = cluster
        self.logs: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        self._leaving: set[str] = set()
        cluster.store.listeners.append(self._see)

    def close(self) -> None:
        """End all."""

    def lose(self, node: str) -> None:
        """Forget a node, and all on it."""

    def _see(self, change: Change) -> None:
        """Called with each change, by whoever makes it."""
        obj, cluster = change.obj, self.cluster
        if change.key[0] != "pods" or not is_leaving(obj) or cluster.terminating is None:
            return
        meta = obj["metadata"]
        if meta["uid"] not in self._leaving and obj["spec"].get("nodeName") not in cluster.lost:
            self._leaving.add(meta["uid"])
            wait = min(cluster.terminating, meta["deletionGracePeriodSeconds"])
            cluster.controllers.later(wait, lambda: self._end(meta["namespace"], meta["name"], meta["uid"]))

    def _end(self, namespace: str, name: str, uid: str) -> None:
        store = self.cluster.store
        pod = store.get("pods", namespace, name)
        if pod["metadata"]["uid"] != uid or pod["spec"].get("nodeName") in self.cluster.lost:
            return
        if not is_over(pod):
            store.write_status("pods", namespace, name, lambda status: over(pod, status, dict.fromkeys(
                (each["name"] for each in containers_of(pod)), ended(143))))  # fmt: skip
        store.remove("pods", namespace, name)

    def add_log(self, pod: Json, container: str, text: str) -> None:
        """Add lines to what a container has written."""
        with self.cluster.store.changed:
            moment = datetime.now(UTC).timestamp()
            self.logs[pod["metadata"]["uid"], container] += [(moment, line) for line in text.splitlines(True)]
            self.cluster.store.changed.notify_all()

    def read_log(self, namespace: str, name: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """What a container has written, and writes if it is followed: now and then b"", where there is nothing new.

        Raises:
            ApiError: there is none.
        """
        pod, container = self.logged(namespace, name, query)
        key = (pod["metadata"]["uid"], container)
        with self.cluster.store.changed:
            lines = list(self.logs[key])
        at = len(lines)
        yield shown(lines, query)
        while query.get("follow") == "true":
            with self.cluster.store.changed:
                if at == len(self.logs[key]):
                    if self._has_ended(namespace, name, pod["metadata"]["uid"], container):
                        return
                    self.cluster.store.changed.wait(_BEAT)
                new, at = self.logs[key][at:], len(self.logs[key])
            yield shown(new, {key: value for key, value in query.items() if key == "timestamps"})

    def logged(self, namespace: str, name: str, query: Mapping[str, str]) -> tuple[Json, str]:
        """The pod and the container whose log is asked for.

        Raises:
            ApiError: there is none, or it has not started.
        """
        pod = self.cluster.store.get("pods", namespace, name)
        names = [each["name"] for each in containers_of(pod)]
        container = query.get("container") or ""
        if not container:
            if len(names) > 1:
                raise ApiError(
                    400, f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
                )
            container = names[0]
        if container not in [each["name"] for each in all_of(pod)]:
            raise ApiError(400, f"container {container} is not valid for pod {name}")
        node = pod["spec"].get("nodeName")
        if not node:
            raise ApiError(400, f"pod {name} does not have a host assigned")
        if node in self.cluster.lost:
            path = f"https://127.0.0.1:10250/containerLogs/{namespace}/{name}/{container}"
            raise ApiError(500, f'Get "{path}": dial tcp 127.0.0.1:10250: connect: no route to host')
        status = pod["status"]
        entries = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        found = next((each for each in entries if each["name"] == container), {})
        state = found.get("state") or {"waiting": {"reason": "ContainerCreating"}}
        if "waiting" in state and not found.get("lastState"):
            text = f'container "{container}" in pod "{name}" is waiting to start: '
            raise ApiError(400, text + (state["waiting"].get("message") or state["waiting"]["reason"]))
        return pod, container

    def _has_ended(self, namespace: str, name: str, uid: str, container: str) -> bool:
        pod = self.cluster.store.find("pods", namespace, name)
        if pod is None or pod["metadata"]["uid"] != uid or is_over(pod):
            return True
        entries = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
        return any(each["name"] == container and "terminated" in each["state"] for each in entries)


def shown(lines: list[tuple[float, str]], query: Mapping[str, str]) -> bytes:
    """Lines as they are asked for."""
    since = 0.0
    if text := query.get("sinceSeconds"):
        since = datetime.now(UTC).timestamp() - int(text)
    if text := query.get("sinceTime"):
        since = seconds(text)
    found = [(moment, line) for moment, line in lines if moment >= since]
    if text := query.get("tailLines"):
        found = found[max(0, len(found) - int(text)) :]
    if query.get("timestamps") in ("true", "1", "True"):
        stamps = (datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ") for moment, _ in found)
        data = "".join(stamp + line for stamp, (_, line) in zip(stamps, found, strict=True)).encode()
    else:
        data = "".join(line for _, line in found).encode()
    return data[: int(query["limitBytes"])] if "limitBytes" in query else data


def over(pod: Json, status: Json, states: Mapping[str, Json], *, failed: bool | None = None) -> Json:
    """The status of a pod that has ended, by the last states of its containers."""
    entries = {each["name"]: each for each in status.get("containerStatuses", ())}
    found = []
    for each in containers_of(pod):
        state = states[each["name"]]
        began = at_start(entries.get(each["name"]))
        with contextlib.suppress(KeyError):
            state = {"terminated": state["terminated"] | ({"startedAt": began} if began else {})}
        found.append(entry(each, state))
    bad = any(state.get("terminated", {}).get("exitCode", 1) for state in states.values()) if failed is None else failed
    status = status | {"phase": "Failed" if bad else "Succeeded", "containerStatuses": found}
    return with_ready(status, False, "PodFailed" if bad else "PodCompleted")


def at_start(found: Json | None) -> str | None:
    """When a container began, as its status has it."""
    return (found or {}).get("state", {}).get("running", {}).get("startedAt")
