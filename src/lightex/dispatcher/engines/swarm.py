"""Experiments as jobs of a docker swarm, over its nodes; project and runs are on a path that all nodes share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from lightex.core.errors import ConfigError, LightexError
from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Build, Experiment, Storage
from lightex.core.units import format_size
from lightex.dispatcher.cgroups import group_of
from lightex.dispatcher.engine import Engine, Finding, JobState, Usage
from lightex.dispatcher.engines import given, sampling
from lightex.dispatcher.engines.containers import call, daemon, end, leftovers, service
from lightex.dispatcher.engines.containers.daemon import DaemonError, connect, reaching
from lightex.dispatcher.engines.containers.image import inspect
from lightex.dispatcher.engines.containers.images import Images
from lightex.dispatcher.engines.containers.images import check as check_image
from lightex.dispatcher.job import Job
from lightex.storage import store

_LOOK = 0.5  # seconds between two looks; each asks for all services, all tasks and all nodes at once
_LOOK_EACH = 0.002  # seconds more for each job that is watched: the answers are as long as there are jobs
_AGAIN = 0.5  # seconds between two tries to reach a manager that is away
_AT_ONCE = 4  # services that are made or removed at once
_TAKEN_AWAY = "task rejected by constraint enforcer"  # moby/swarmkit: of a task that was placed, perhaps running
_WAITING = frozenset({"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"})


class SwarmEngine(Engine):
    """Makes a service for each job, and watches all of them with three questions a look. A handle is its name.

    A service is removed only when its end has been noted down.
    """

    python = "python3"

    def __init__(self) -> None:
        self._images = Images()
        self._looked = 0.0
        self._cancelled: set[str] = set()
        self._making: dict[str, Future[JobState | None]] = {}
        self._containers: dict[str, tuple[int, str]] = {}  # of what runs: the first process on its node, the container
        self._cleaned = False
        self._background = ThreadPoolExecutor(_AT_ONCE)

    @classmethod
    def folders(cls, storage: Storage, project: Path) -> Mapping[str, str]:
        """See `Engine.folders`; a folder of a file server that is not mounted here is mounted for the container."""
        return call.folders(storage, project)

    def check(self, experiment: Experiment[Any], project: Path) -> None:
        """See `Engine.check`: it has an image and options that a swarm knows, and what is to be mounted is there."""
        container = call.of(experiment)
        service.check(container.options)
        given.node_labels(experiment.resources)
        if container.keep:
            raise ConfigError("container.keep is for one machine: a swarm takes its containers away with their job")
        for name, place in store.folders(experiment.storage, project).items():
            if place.kind == "s3":
                raise ConfigError(
                    f"storage.dirs.{name}: {place.url} would be staged on this machine, which other nodes do not see",
                    "keep it on a file server (nfs://SERVER/FOLDER), which nodes mount",
                )
        check_image(container.image, project)
        call.check_places(experiment, container, project)

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:
        """Build images, and push them where nodes can pull them."""
        state = daemon.facts().get("Swarm") or {}
        if not state.get("ControlAvailable"):
            raise ConfigError(
                f"the daemon at {daemon.address()} is no manager of a swarm",
                "make it one: docker swarm init; or name a manager: docker context use NAME, or DOCKER_HOST",
            )
        for each in experiments:
            image = each.container.image if each.container else None
            if isinstance(image, Build) and not image.repository and int(state.get("Nodes") or 1) > 1:
                raise ConfigError(
                    f"the {state['Nodes']} nodes of the swarm cannot get an image that is built here",
                    'say where they pull it from: Build(repository="registry.example.com:5000/name")',
                )
            if isinstance(image, Build):
                self._images.ensure(image, project, tell)

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:  # noqa: ARG002
        """Begin to make a service; the swarm starts its task when a node has room."""
        handle = job.name
        self._making[handle] = self._background.submit(self._make, handle, job)
        return handle, {}

    def _make(self, handle: str, job: Job) -> JobState | None:
        """Make a service; returns why it could not be, or None. A manager that is away is waited for."""
        while handle not in self._cancelled:
            try:
                made = self._call(job)
                os.close(job.run.open_output(job.attempt))
                with reaching():
                    connect().create_service(
                        service.specification(made, job.resources.node_labels, job.grace),
                        name=handle,
                        labels=dict(made.labels),
                        mode=service.mode(1),
                    )
            except daemon.AwayError:
                time.sleep(_AGAIN)
                with suppress(daemon.AwayError):
                    if self.find(job):  # it has heard of it, though its answer was lost
                        return None
            except (LightexError, OSError) as error:
                return JobState(FAILED, "launch", f"the swarm does not take it: {error}")
            else:
                return None
        return JobState(CANCELLED, "cancelled", "it was ended before it had started")

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The service of that name."""
        handle = job.name
        with reaching():
            try:
                connect().inspect_service(handle)
            except NotFound:
                return None
        return handle, {}

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """The states of all tasks, twice a second at most. A manager that is away is waited for."""
        if not self._cleaned:  # what others have left
            self._cleaned = True
            self._background.submit(leftovers.remove_services)
        pause = self._looked + _LOOK + _LOOK_EACH * len(handles) - time.monotonic()
        if pause > 0:
            time.sleep(min(wait, pause))
            if pause > wait:
                return {}
        self._looked = time.monotonic()
        made = [handle for handle in handles if handle not in self._making]
        try:
            states = self._look(made)
        except DaemonError:
            return {}
        for handle in [handle for handle in handles if handle in self._making]:
            if not self._making[handle].done():
                states[handle] = JobState(SUBMITTED)
            elif failed := self._making.pop(handle).result():
                states[handle] = failed
        return states

    def _look(self, handles: Sequence[str]) -> dict[str, JobState]:
        """Ask for all services, all tasks and all nodes.

        Raises:
            DaemonError: the manager refuses, or does not answer.
        """
        with reaching():
            found = {each["Spec"]["Name"]: each for each in connect().services({"label": "lightex.run"})}
            # The first task of each: where a node is down, a swarm may make another one, which nobody has asked for.
            newest_first = sorted(connect().tasks(), key=lambda task: str(task["CreatedAt"]), reverse=True)
            tasks = {task["ServiceID"]: task for task in newest_first}
            nodes = {each["ID"]: each for each in connect().nodes()}
        gone = JobState(LOST, "lost", "its service was removed")
        states = {}
        for handle in handles:
            task = tasks.get(found[handle]["ID"]) if handle in found else None
            states[handle] = self._state(found[handle], task, nodes) if handle in found else gone
            if handle in self._cancelled and handle in found and not service.is_stopped(found[handle]["Spec"]):
                self._stop(handle)  # it was only being made when that was asked, or the manager was away
            about = (task or {}).get("Status", {}).get("ContainerStatus") or {}
            if states[handle].state == RUNNING and about.get("PID"):
                self._containers[handle] = int(about["PID"]), str(about["ContainerID"])
        return states

    def cancel(self, handle: str, force: bool = False) -> None:  # noqa: ARG002  the swarm kills after the job's grace
        """Let the swarm stop the task: SIGTERM, and SIGKILL when its grace is over."""
        if handle not in self._cancelled:
            self._cancelled.add(handle)
            self._stop(handle)

    def _stop(self, handle: str) -> None:
        with suppress(DaemonError), reaching():
            leftovers.stop_service(handle)

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:
        """What containers on this machine use; other nodes are not asked, and Docker does not tell of theirs."""
        found = {}
        for handle in handles:
            pid, container = self._containers.get(handle, (0, ""))
            # That number is another process here, where the container is on another machine.
            if container and container in (group_of("memory", pid) or ""):
                found[handle] = sampling.used_by(sampling.members_of_container(pid), pid)
        return found

    def forget(self, handle: str) -> None:
        """Remove its service."""
        self._cancelled.discard(handle)
        self._containers.pop(handle, None)
        self._background.submit(leftovers.remove_service, handle)

    def close(self) -> None:
        """Wait until the services are removed whose ends are noted down."""
        self._background.shutdown(wait=True)

    def manifest(self, job: Job) -> str:
        """The command line that makes the same service."""
        return service.shell_line(self._call(job), job.resources.node_labels, job.grace)

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:  # noqa: ARG002
        """The manager and its nodes."""
        try:
            state = daemon.facts().get("Swarm") or {}
            if not state.get("ControlAvailable"):
                return [Finding("swarm", False, f"{daemon.address()} is no manager of a swarm: docker swarm init")]
            with reaching():
                nodes = connect().nodes()
        except daemon.AwayError as error:
            return [Finding("daemon", False, "; ".join((error.message, *error.details)))]
        return [Finding("swarm", True, f"{len(nodes)} nodes, managed by {daemon.address()}"), *map(_node, nodes)]

    def _call(self, job: Job) -> call.Call:
        wanted = call.of(job).image
        project = job.project or job.cwd
        name = self._images.ensure(wanted, project, lambda _: None).name if isinstance(wanted, Build) else wanted
        here = inspect(name)  # a manager may not have what its nodes pull
        return call.make_call(job, name, job.resources.gpu_count, entrypoint=here.entrypoint if here else ())

    def _state(
        self, about: Mapping[str, Any], task: Mapping[str, Any] | None, nodes: Mapping[str, Mapping[str, Any]]
    ) -> JobState:
        stopped = service.is_stopped(about["Spec"])
        if task is None:
            return JobState(CANCELLED, "cancelled", "it was stopped in the swarm") if stopped else JobState(SUBMITTED)
        status, node = task["Status"], task.get("NodeID", "")
        said, state = status.get("Err") or status.get("Message"), status["State"]
        where = nodes.get(node, {})
        name = str(where.get("Description", {}).get("Hostname", node))
        if state in _WAITING:
            waits = f"{said} on {name}" if node else said
            return JobState(SUBMITTED, reason=waits)
        container = status.get("ContainerStatus") or {}
        mark = {"host": name, "container": str(container.get("ContainerID", ""))[:12], "bounds": ["container"]}
        if where.get("Status", {}).get("State") == "down" and state == "running":
            return JobState(LOST, "lost", f"node {name} is down", process=mark)
        if state == "running":
            return JobState(RUNNING, process=mark)
        if state == "rejected" and status.get("Message") == _TAKEN_AWAY:
            return JobState(LOST, "lost", f"node {name} may not go on with it: {said}", process=mark)
        if state == "rejected":
            return JobState(FAILED, "launch", f"node {name} refused it: {said}")
        if state == "orphaned":
            return JobState(LOST, "lost", f"node {name} was away for too long", process=mark)
        if state == "complete":
            return JobState(SUCCEEDED, exit_code=0, process=mark)
        return replace(self._end(about, stopped, int(container.get("ExitCode") or 0), said), process=mark)

    def _end(self, about: Mapping[str, Any], stopped: bool, code: int, said: str | None) -> JobState:
        """The end of a task that did not complete."""
        if code == 0:
            words = f"the swarm ended it: {said}"
            return JobState(CANCELLED, "cancelled") if stopped else JobState(FAILED, "killed", words, exit_code=0)
        signal = end.signal_of(code)
        ended = JobState(FAILED, exit_code=None if signal else code, signal=signal)
        limit = about["Spec"]["TaskTemplate"]["Resources"]["Limits"].get("MemoryBytes")
        if signal == 9 and limit and not stopped:
            words = f"killed (exit code 137), it seems by its memory limit of {format_size(limit)}"
            return replace(ended, cause="oom", reason=f"out of memory: {words} (a swarm does not tell)")
        template = about["Spec"]["TaskTemplate"]["ContainerSpec"]
        run = RunDir(about["Spec"]["Labels"]["lightex.run"])
        if code in end.NOT_STARTED and (why := end.not_started(run, template["Image"])):
            return replace(ended, cause="launch", reason=why)
        return ended


def _node(found: Mapping[str, Any]) -> Finding:
    about, state = found.get("Description") or {}, found["Status"]["State"]
    resources = about.get("Resources") or {}
    labels = ", ".join(f"{name}={value}" for name, value in (found["Spec"].get("Labels") or {}).items())
    cpus, memory = resources.get("NanoCPUs", 0) / 1e9, resources.get("MemoryBytes", 0)
    words = f"{cpus:g} cpus, {format_size(memory)}, {labels or 'no labels'}"
    active = found["Spec"]["Availability"] == "active"
    ready = state == "ready" and active
    shown = state if active else found["Spec"]["Availability"]
    return Finding(str(about.get("Hostname", found["ID"])), True if ready else None, f"{shown}, {words}")
