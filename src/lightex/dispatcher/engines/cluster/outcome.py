"""How it is with a Job, by what the API server shows of it and of its pods."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.units import format_size
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.cluster.api import Object
from lightex.dispatcher.engines.cluster.manifest import COMMAND, RETURN, RUN_DIR, STAGE
from lightex.dispatcher.engines.containers import end

_SETTLED = 60.0  # seconds after which what keeps a container from starting will not go away by itself
_PATIENCE = 300.0  # the same of a registry that does not answer
_CLOCKS = 2.0  # seconds that the clocks of this machine and of the cluster may differ
_LONG = 5.0  # seconds from which the cluster's clock, which has only whole ones, tells better how long it ran

# Reasons of waiting containers by which Kubernetes tries again for ever (pkg/kubelet/container, pkg/kubelet/images).
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PULLING = frozenset({"ImagePullBackOff", "ErrImagePull", "RegistryUnavailable", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NO_IMAGE = re.compile(
    r"not found|manifest unknown|unauthorized|denied|forbidden|no match for platform|does not exist", re.I
)
_DEADLINE = "DeadlineExceeded"
_BESIDES = re.compile(r" preemption: .*$| no new claims to deallocate,")  # what the scheduler says beside the reason

# Why pods are taken from their nodes (https://kubernetes.io/docs/concepts/workloads/pods/disruptions/).
_DISRUPTIONS = {
    "DeletionByTaintManager": "node {node} is lost, or is tainted now",
    "DeletionByPodGC": "node {node} is gone",
    "PreemptionByScheduler": "it was preempted on node {node}: what is more important needs its place",
    "EvictionByEvictionAPI": "it was evicted from node {node}, which is drained",
    "TerminationByKubelet": "it was evicted from node {node}",
}
_USED = re.compile(r"lx peak_memory=(\d*) cpu_us=(\d*) cpu_ns=(\d*)")


def state_of(
    job: Object | None,
    pods: Sequence[Object],
    gone: Sequence[Object] = (),
    warnings: Mapping[str, str] | None = None,
    now: float = 0.0,
    stuck: float = 0.0,
) -> JobState:
    """The state of one job.

    Args:
        job: the Job; None: it is not there any more.
        pods: its pods.
        gone: those that it had, as they were seen last.
        warnings: what events say that holds up Jobs and pods, by their names.
        now: seconds since the epoch.
        stuck: seconds since one of its containers is known not to start (see `stuck_by`).
    """
    conditions = _conditions(job or {})
    # The two watches are independent: the word on its pods may be yet to come.
    if job is None and not _has_ended(pods, now):
        return JobState(RUNNING, process=_mark(job, pods)) if _has_begun(pods) else JobState(SUBMITTED)
    is_over = job is None or "Failed" in conditions or "deletionTimestamp" in job["metadata"]
    # Of a Job that goes on, what has gone does not matter: a queue may have taken its pods, and gives it others.
    pods = sorted([*pods, *gone] if is_over else pods, key=_index)
    failed = _first_failure(job, pods)
    if job is None:
        return _without_its_job(pods, failed)
    if "Complete" in conditions and _has_ended(pods, now):
        return _succeeded(job, pods)
    if "Failed" in conditions and _has_ended(pods, now):
        why = conditions["Failed"]
        return (failed if why.get("reason") != _DEADLINE else None) or _by_the_job(job, pods, why)
    if _DEADLINE in (each.get("reason") for each in conditions.values()):  # its pods are on their way out
        return JobState(RUNNING, process=_mark(job, pods)) if _has_begun(pods) else JobState(SUBMITTED)
    if failed and _has_ended(pods, now) and not job["spec"].get("suspend"):  # a queue takes its pods to give it others
        return failed
    if "Complete" in conditions or job["metadata"].get("deletionTimestamp"):  # the word on its pods is yet to come
        return JobState(RUNNING, process=_mark(job, pods)) if _has_begun(pods) else JobState(SUBMITTED)
    return _under_way(job, pods, warnings or {}, stuck)


def _without_its_job(pods: Sequence[Object], failed: JobState | None) -> JobState:
    """How a job ended that was deleted."""
    if pods and all(pod.get("status", {}).get("phase") == "Succeeded" for pod in pods):
        return _succeeded(None, pods)
    if failed and not (failed.cause is None and failed.signal in (9, 15) and _are_deleted(pods)):
        return failed
    words = "its Job was deleted in the cluster"
    return JobState(CANCELLED, "cancelled", words, process=_mark(None, pods)) if pods else JobState(LOST, "lost", words)


def _under_way(job: Object, pods: Sequence[Object], warnings: Mapping[str, str], stuck: float) -> JobState:
    """Of a job that has not ended: it runs, it waits for something, or it can never start."""
    if job["spec"].get("suspend"):
        queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
        return JobState(SUBMITTED, reason=f"queue {queue} has not admitted it" if queue else "it is suspended")
    if not pods:
        return JobState(SUBMITTED, reason=warnings.get(job["metadata"]["name"]))
    for pod in pods:
        if words := _cannot_start(pod, stuck):
            return JobState(FAILED, "launch", words, process=_mark(job, pods) if _has_begun(pods) else None)
    if _has_begun(pods) and len(pods) >= int(job["spec"].get("completions") or 1):
        return JobState(RUNNING, process=_mark(job, pods))
    waits = (_waits_for(pod, warnings) for pod in pods)
    return JobState(SUBMITTED, reason=next(filter(None, waits), None))


def _waits_for(pod: Object, warnings: Mapping[str, str]) -> str | None:
    """What a pod waits for whose command does not run yet."""
    status, node = pod.get("status", {}), pod["spec"].get("nodeName")
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _BESIDES.sub("", str(condition.get("message") or condition.get("reason")))
    for container in _statuses(pod):
        state = container.get("state", {})
        if container["name"] == STAGE and "running" in state:
            return f"its folders are brought to {node}"
        if words := state.get("waiting", {}).get("message"):
            return f"{words} (on {node})"
    if warning := warnings.get(pod["metadata"]["name"]):
        return f"{warning} (on {node})" if node else warning
    return f"it starts on {node}" if node else None


def stuck_by(pods: Iterable[Object]) -> str | None:
    """What keeps a container of these pods from starting, though it is tried; None: nothing."""
    reasons = (each.get("state", {}).get("waiting", {}).get("reason") for pod in pods for each in _statuses(pod))
    return next((reason for reason in reasons if reason in _PULLING or reason in _CONFIG), None)


def is_leaving(pods: Iterable[Object]) -> bool:
    """Whether a pod is to go, which may show by the clock only."""
    return any(pod["metadata"].get("deletionTimestamp") for pod in pods)


def _cannot_start(pod: Object, waited: float) -> str | None:
    """Why a container of a pod will never start; None: it may."""
    for container in _statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, words = waiting.get("reason"), str(waiting.get("message") or waiting.get("reason"))
        image = container.get("image")
        hopeless = reason in _PULLING and (_NO_IMAGE.search(words) or waited > _PATIENCE)
        if reason in _HOPELESS or hopeless:
            return f"there is no image {image} for it: {words}"
        if reason in _CONFIG and waited > _SETTLED:
            return f"container {container['name']} cannot start: {words}"
    return None


def _first_failure(job: Object | None, pods: Iterable[Object]) -> JobState | None:
    """How the node that failed first ended; None: none has."""
    ends = []
    for pod in pods:
        if found := _failure(job, pod):
            moment, state = found
            # One that was deleted was ended because another one had failed; moments are whole seconds.
            ends.append(("deletionTimestamp" in pod["metadata"], moment, state))
    return min(ends, key=lambda each: each[:2])[2] if ends else None


def _failure(job: Object | None, pod: Object) -> tuple[str, JobState] | None:
    """How a pod failed, and when; None: it has not."""
    status = pod.get("status", {})
    mark = _mark(job, [pod])
    command = _terminated(pod, COMMAND)
    moment = str((command or {}).get("finishedAt") or "9")
    if command and command.get("exitCode"):
        # What was killed because another node had failed, or its node was taken from it, says nothing by itself.
        disrupted = (
            _disruption(pod) if command["exitCode"] in (137, 143) and command.get("reason") != "OOMKilled" else None
        )
        return moment, _lost(disrupted, mark) if disrupted else _exit(job, pod, command, mark)
    if words := _disruption(pod):
        return moment, _lost(words, mark)
    staged = _terminated(pod, STAGE)
    if staged and staged.get("exitCode"):
        said = str(staged.get("message") or staged.get("reason")).strip()
        return str(staged.get("finishedAt")), JobState(FAILED, "launch", f"its folders could not be brought: {said}")
    returned = _terminated(pod, RETURN)
    if returned and returned.get("exitCode"):
        said = str(returned.get("message") or returned.get("reason")).strip()
        words = f"what it wrote could not be brought back: {said}"
        return str(returned.get("finishedAt")), JobState(FAILED, "lost", words, process=mark)
    if status.get("phase") == "Failed":
        words = f"{status.get('reason')}: {status.get('message')}" if status.get("message") else status.get("reason")
        return moment, JobState(FAILED, "launch", str(words or "its pod failed"), process=mark)
    return None


def _lost(words: str, mark: Mapping[str, Any] | None) -> JobState:
    return JobState(LOST, "lost", words, process=mark)


def _disruption(pod: Object) -> str | None:
    """Why a pod was taken from its node; None: it was not."""
    status, node = pod.get("status", {}), pod["spec"].get("nodeName", "?")
    said = status.get("message")
    if status.get("reason") == "Evicted":
        return f"it was evicted from node {node}: {said}"
    if status.get("reason") == "NodeLost":
        return f"node {node} is lost"
    if condition := _conditions(pod).get("DisruptionTarget"):
        why = str(condition.get("reason"))
        return _DISRUPTIONS.get(why, f"it was taken from node {{node}} ({why})").format(node=node)
    return None


def _are_deleted(pods: Iterable[Object]) -> bool:
    return all(pod["metadata"].get("deletionTimestamp") for pod in pods)


def _is_overdue(pod: Object, now: float) -> bool:
    """Whether a pod that was taken from its node should be gone: a node that is lost never says so."""
    gone = _seconds(pod["metadata"].get("deletionTimestamp"))  # the end of its grace
    return gone is not None and now > gone + _CLOCKS and _disruption(pod) is not None


def _exit(job: Object | None, pod: Object, terminated: Mapping[str, Any], mark: Mapping[str, Any] | None) -> JobState:
    """The end of a command that did not succeed."""
    code = int(terminated["exitCode"])
    signal = end.signal_of(code)
    state = _with_usage(JobState(FAILED, exit_code=None if signal else code, signal=signal, process=mark), terminated)
    container = next(each for each in pod["spec"]["containers"] if each["name"] == COMMAND)
    if terminated.get("reason") == "OOMKilled":
        limit = container["resources"].get("limits", {}).get("memory")
        bound = f"its memory limit of {format_size(int(limit))}" if str(limit).isdigit() else "its node's memory"
        whom = "killed" if signal == 9 else f"exit code {code} after a process of it was killed"
        return replace(state, cause="oom", reason=f"out of memory: {whom} by {bound} (container)")
    if terminated.get("reason") in ("StartError", "ContainerCannotRun"):
        return JobState(FAILED, "launch", f"it did not start: {terminated.get('message')}")
    if code in end.NOT_STARTED and job:
        run = RunDir(job["metadata"]["annotations"][RUN_DIR])
        if run.path.is_dir() and (why := end.not_started(run, container["image"])):
            return replace(state, cause="launch", reason=why)
    return state


def _succeeded(job: Object | None, pods: Sequence[Object]) -> JobState:
    state = JobState(SUCCEEDED, exit_code=0, process=_mark(job, pods))
    return _with_usage(state, _terminated(pods[0], COMMAND) or {}) if pods else state


def _by_the_job(job: Object, pods: Sequence[Object], condition: Mapping[str, Any]) -> JobState:
    """The end of a job whose pods do not say why."""
    words = condition.get("message") or condition.get("reason")
    mark = _mark(job, pods) if pods else None
    if condition.get("reason") == _DEADLINE:
        return JobState(FAILED, "timeout", f"its deadline in the cluster was exceeded: {words}", process=mark)
    if pods and _are_deleted(pods):
        return JobState(CANCELLED, "cancelled", "its pod was deleted in the cluster", process=mark)
    return JobState(LOST, "lost", str(words), process=mark)


def _with_usage(state: JobState, terminated: Mapping[str, Any]) -> JobState:
    """A state with what the wrapper says was used, and how long the command ran."""
    began, ended = _seconds(terminated.get("startedAt")), _seconds(terminated.get("finishedAt"))
    if began and ended and ended - began > _LONG:
        state = replace(state, duration=ended - began)
    if used := _USED.search(str(terminated.get("message") or "")):
        peak, micro, nano = (int(text) if text else None for text in used.groups())
        cpu = micro / 1e6 if micro is not None else nano / 1e9 if nano is not None else None
        state = replace(state, peak_memory=peak, cpu_seconds=None if cpu is None else round(cpu, 3))
    return state


def _mark(job: Object | None, pods: Sequence[Object]) -> dict[str, Any]:
    """What readers may know of it."""
    nodes = [pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")]
    mark: dict[str, Any] = {"host": ", ".join(dict.fromkeys(nodes)), "bounds": ["container"]}
    if job:
        mark |= {"job": job["metadata"]["name"], "namespace": job["metadata"]["namespace"]}
    return mark | {"pods": [pod["metadata"]["name"] for pod in pods]}


def _has_begun(pods: Sequence[Object]) -> bool:
    """Whether the command runs, or has run, on all nodes."""
    states = [
        container.get("state", {}) for pod in pods for container in _statuses(pod) if container["name"] == COMMAND
    ]
    return len(states) == len(pods) and all("running" in state or "terminated" in state for state in states)


def is_brought_back(pod: Object) -> bool:
    """Whether the container that takes back what was written has done so."""
    returned = _terminated(pod, RETURN)
    return returned is not None and returned.get("exitCode") == 0


def _conditions(found: Object) -> dict[str, dict[str, Any]]:
    """The conditions that hold of a Job or a pod, by type."""
    conditions = found.get("status", {}).get("conditions") or ()
    return {each["type"]: each for each in conditions if each["status"] == "True"}


def _has_ended(pods: Sequence[Object], now: float) -> bool:
    """Whether no container goes on, as far as that can be known."""
    return all(pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or _is_overdue(pod, now) for pod in pods)


def _statuses(pod: Object) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _terminated(pod: Object, name: str) -> dict[str, Any] | None:
    found = (each.get("state", {}).get("terminated") for each in _statuses(pod) if each["name"] == name)
    # What never started is said to have ended with 137 when its pod is deleted.
    return next((each for each in found if each and each.get("reason") != "ContainerStatusUnknown"), None)


def _index(pod: Object) -> int:
    return int(pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", 0))


def _seconds(text: str | None) -> float | None:
    """A moment of Kubernetes, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp() if text else None
