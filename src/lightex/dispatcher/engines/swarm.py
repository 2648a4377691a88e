"""Experiments as jobs of a docker swarm, over its nodes; project and runs are on a path that all nodes share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from lightex.core.errors import ConfigError
from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Build, Experiment
from lightex.core.units import format_size
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.engine import Engine, Finding, JobState, LaunchError
from lightex.dispatcher.engines.containers import call, daemon, end, service
from lightex.dispatcher.engines.containers.daemon import DaemonError, connect, reaching
from lightex.dispatcher.engines.containers.images import Images
from lightex.dispatcher.engines.containers.images import check as check_image
from lightex.dispatcher.job import Job

_LOOK = 0.5  # seconds between two looks; each asks for all services, all tasks and all nodes at once
_REMOVERS = 4
_WAITING = frozenset({"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"})


@dataclass(frozen=True)
class Nodes:
    """The nodes of a swarm at one moment, by id."""

    names: Mapping[str, str]
    down: frozenset[str]

    @classmethod
    def now(cls) -> Nodes:
        """Ask the manager."""
        found = connect().nodes()
        names = {each["ID"]: str(each["Description"]["Hostname"]) for each in found}
        return cls(names, frozenset(each["ID"] for each in found if each["Status"]["State"] != "ready"))


class SwarmEngine(Engine):
    """Makes a service for each job, and watches all of them with three questions a look. A handle is its name.

    A service is removed only when its end has been noted down.
    """

    python = "python3"

    def __init__(self) -> None:
        self._images = Images()
        self._looked = 0.0
        self._told: list[str] = []
        self._removers: ThreadPoolExecutor | None = None

    def capacity(self) -> Capacity | None:
        """None: the swarm queues by itself."""
        return None

    def check(self, experiment: Experiment[Any], project: Path) -> None:
        """See `Engine.check`: it has an image and options that a swarm knows, and what is to be mounted is there."""
        container = experiment.container
        if container is None:
            raise call.no_container(experiment.name)
        service.check(container.options)
        if container.keep:
            raise ConfigError("container.keep is for one machine: a swarm takes its containers away with their job")
        check_image(container.image, project)
        call.extra_mounts(container, project)
        call.check_dirs(experiment, project)

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:
        """Build images, and push them where nodes can pull them."""
        state = daemon.facts().get("Swarm") or {}
        if not state.get("ControlAvailable"):
            raise ConfigError(
                f"the daemon at {daemon.address()} is no manager of a swarm",
                "make it one: docker swarm init; or name a manager: DOCKER_HOST=ssh://manager",
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
        """Make a service; the swarm starts its task when a node has room."""
        handle = call.name_of(job)
        try:
            made, (labels, grace) = self._call(job), _placing(job)
            os.close(job.run.open_output(job.attempt))
            with reaching():
                connect().create_service(
                    service.specification(made, labels, grace),
                    name=handle,
                    labels=dict(made.labels),
                    mode=service.mode(1),
                )
        except (DaemonError, OSError) as error:
            raise LaunchError(f"the swarm does not take it: {error}") from error
        return handle, {}

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The service of that name."""
        handle = call.name_of(job)
        with reaching():
            try:
                connect().inspect_service(handle)
            except NotFound:
                return None
        return handle, {}

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """The states of all tasks, twice a second at most. A manager that is away is waited for."""
        while self._told:
            self._remove(self._told.pop())
        pause = self._looked + _LOOK - time.monotonic()
        if pause > 0:
            time.sleep(min(wait, pause))
            if pause > wait:
                return {}
        self._looked = time.monotonic()
        try:
            with reaching():
                found = {each["Spec"]["Name"]: each for each in connect().services({"label": "lightex.run"})}
                tasks = {task["ServiceID"]: task for task in sorted(connect().tasks(), key=lambda t: t["CreatedAt"])}
                nodes = Nodes.now()
        except DaemonError:
            return {}
        states = {}
        for handle in handles:
            if about := found.get(handle):
                states[handle] = self._state(about, tasks.get(about["ID"]), nodes)
            else:
                states[handle] = JobState(LOST, "lost", "its service was removed")
        self._told += [handle for handle, state in states.items() if state.state not in (SUBMITTED, RUNNING)]
        return states

    def cancel(self, handle: str, force: bool = False) -> None:  # noqa: ARG002  the swarm kills after the job's grace
        """Let the swarm stop the task: SIGTERM, and SIGKILL when its grace is over."""
        with suppress(DaemonError), reaching():
            self._scale_to_nothing(handle)

    def close(self) -> None:
        """Remove the services whose ends are noted down."""
        while self._told:
            self._remove(self._told.pop())
        if self._removers:
            self._removers.shutdown(wait=True)
            self._removers = None

    def manifest(self, job: Job) -> str:
        """The command line that makes the same service."""
        return service.shell_line(self._call(job), *_placing(job))

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
        return call.make_call(job, name, job.resources.gpu_count)

    def _state(self, about: Mapping[str, Any], task: Mapping[str, Any] | None, nodes: Nodes) -> JobState:
        stopped = service.is_stopped(about["Spec"])
        if task is None:
            return JobState(CANCELLED, reason="it was stopped in the swarm") if stopped else JobState(SUBMITTED)
        status, node = task["Status"], task.get("NodeID", "")
        said, state = status.get("Err") or status.get("Message"), status["State"]
        name = nodes.names.get(node, node)
        if state in _WAITING:
            waits = f"{said} on {name}" if node else said
            return JobState(SUBMITTED, reason=waits)
        if node in nodes.down and state == "running":
            return JobState(LOST, "lost", f"node {name} is down")
        container = status.get("ContainerStatus") or {}
        mark = {"host": name, "container": str(container.get("ContainerID", ""))[:12], "bounds": ["container"]}
        if state == "running":
            return JobState(RUNNING, process=mark)
        if state == "rejected":
            return JobState(FAILED, "launch", f"node {name} refused it: {said}")
        if state == "orphaned":
            return JobState(LOST, "lost", f"node {name} was away for too long", process=mark)
        return replace(self._end(about, stopped, int(container.get("ExitCode") or 0)), process=mark)

    def _end(self, about: Mapping[str, Any], stopped: bool, code: int) -> JobState:
        if code == 0:
            return JobState(CANCELLED if stopped else SUCCEEDED, exit_code=0)
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

    def _scale_to_nothing(self, handle: str) -> None:
        """The way to stop a replicated job: where it is only removed, its containers go on (moby/moby, 20.10)."""
        with suppress(NotFound):
            found = connect().inspect_service(handle)
            spec = found["Spec"]
            if not service.is_stopped(spec):
                connect().update_service(
                    found["ID"], found["Version"]["Index"], spec["TaskTemplate"], name=handle, labels=spec["Labels"],
                    mode=service.mode(0),
                )  # fmt: skip

    def _remove(self, handle: str) -> None:
        def remove() -> None:
            with suppress(DaemonError), reaching(), suppress(NotFound):
                self._scale_to_nothing(handle)
                connect().remove_service(handle)

        self._removers = self._removers or ThreadPoolExecutor(_REMOVERS)
        self._removers.submit(remove)


def _placing(job: Job) -> tuple[tuple[str, ...], float]:
    return job.resources.node_labels, job.grace


def _node(found: Mapping[str, Any]) -> Finding:
    about, state = found["Description"], found["Status"]["State"]
    resources = about["Resources"]
    labels = ", ".join(f"{name}={value}" for name, value in (found["Spec"].get("Labels") or {}).items())
    words = f"{resources['NanoCPUs'] / 1e9:g} cpus, {format_size(resources['MemoryBytes'])}, {labels or 'no labels'}"
    active = found["Spec"]["Availability"] == "active"
    ready = state == "ready" and active
    shown = state if active else found["Spec"]["Availability"]
    return Finding(about["Hostname"], True if ready else None, f"{shown}, {words}")
