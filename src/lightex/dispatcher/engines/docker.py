"""Experiments as containers of this machine's docker daemon."""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from lightex.core.errors import ConfigError, LightexError, did_you_mean
from lightex.core.liveness import birth_mark, host
from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Container, Experiment, Storage
from lightex.core.units import format_size
from lightex.dispatcher.capacity import Capacity, this_machine
from lightex.dispatcher.engine import Engine, Finding, JobState, Usage
from lightex.dispatcher.engines import sampling
from lightex.dispatcher.engines.containers import call, daemon, end, examine, leftovers, options
from lightex.dispatcher.engines.containers.daemon import AwayError, DaemonError, connect, reaching
from lightex.dispatcher.engines.containers.image import Image
from lightex.dispatcher.engines.containers.images import Images
from lightex.dispatcher.engines.containers.images import check as check_image
from lightex.dispatcher.job import Job

_AGAIN = 0.5  # seconds between two tries to reach a daemon that is away
_PATIENCE = 10.0  # seconds that a job which was to be killed may be out of reach before it is given up
_WAIT = 300  # seconds that one question for the end of a container may last; then it is asked again
_SAMPLE = 1.0  # seconds between two looks at what containers use
_REMOVERS = 4  # removals at once: each takes the daemon some 10 ms, and nobody waits for them


_NEVER_BEGAN = JobState(CANCELLED, "cancelled", "it was ended before it had started")


@dataclass
class Attempt:
    """A container that this engine looks after, in a thread of its own.

    Attributes:
        handle: its name.
        run: whose it is.
        keep: whether the container stays after its end.
        process: what readers may know of it, once it runs.
        used: CPU seconds and peak memory, as of a second ago; the system forgets them with the container.
        begun: whether a container was asked for.
        stop: the signal that it is to end by; it may not have begun yet.
        stopped_at: when that was first wanted.
        lock: held while `begun` and `stop` are looked at together.
    """

    handle: str
    run: RunDir
    keep: bool = False
    process: dict[str, Any] = field(default_factory=dict)
    used: tuple[float | None, int | None] = (None, None)
    begun: bool = False
    stop: str | None = None
    stopped_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_given_up(self) -> bool:
        """Whether it was to be killed for so long that a daemon which is away is not waited for any more."""
        return self.stop == "SIGKILL" and time.monotonic() - self.stopped_at > _PATIENCE


class DockerEngine(Engine):
    """Starts commands in containers. A handle is the name of a container, which is the same for the same attempt.

    A thread follows each container: it gets the image, starts, and sees the end. A container is
    removed only when its end has been noted down: were this process killed before, the next one finds it.
    """

    python = "python3"

    def __init__(self) -> None:
        self._images = Images()
        self._attempts: dict[str, Attempt] = {}
        self._news: queue.SimpleQueue[tuple[str, JobState]] = queue.SimpleQueue()
        self._sampled = time.monotonic()
        self._cleaned = False
        self._removers = ThreadPoolExecutor(_REMOVERS)

    def capacity(self) -> Capacity | None:
        """This machine's, or what a daemon elsewhere has to give."""
        if daemon.is_local():
            return this_machine()
        told = daemon.facts()
        return Capacity(float(told["NCPU"]), int(told["MemTotal"]), tuple)

    @classmethod
    def folders(cls, storage: Storage, project: Path) -> Mapping[str, str]:
        """See `Engine.folders`; a folder of a file server that is not mounted here is mounted for the container."""
        return call.folders(storage, project)

    def check(self, experiment: Experiment[Any], project: Path) -> None:
        """See `Engine.check`: it has an image, and what is to be mounted is there."""
        container = call.of(experiment)
        options.check(container.options)
        check_image(container.image, project)
        call.check_places(experiment, container, project)

    def prepare(self, experiments: Iterable[Experiment[Any]], project: Path, tell: Callable[[str], None]) -> None:
        """Pull or build the images of experiments."""
        for container in {repr(each.container): each.container for each in experiments if each.container}.values():
            _check_names(container)
            self._images.ensure(container.image, project, tell)

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
        """Begin to start a container; `poll` tells when it runs, or why it does not."""
        handle = job.name
        attempt = Attempt(handle, job.run, keep=call.of(job).keep)
        self._in_a_thread(attempt, lambda attempt: self._start(attempt, job, gpus))
        return handle, {}

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The container of that name. One that was made and never started is taken away: nothing has run."""
        handle = job.name
        with reaching():
            found = self._inspect(handle)
            if found and found["State"]["Status"] != "created":
                return handle, _mark(found)
            if found:
                connect().remove_container(handle, force=True)
        return None

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """What has changed, as the threads tell it."""
        if not self._cleaned:
            self._cleaned = True
            self._removers.submit(leftovers.remove_containers)
        if time.monotonic() - self._sampled > _SAMPLE:
            self._sample()
        found: dict[str, JobState] = {}
        if unknown := [handle for handle in handles if handle not in self._attempts]:
            found = dict.fromkeys(self._adopt(unknown), JobState(LOST))
        deadline = time.monotonic() + (0.0 if found else wait)
        while not found or not self._news.empty():
            try:
                handle, state = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if handle in self._attempts and handle in handles:
                found[handle] = state
        return found

    def cancel(self, handle: str, force: bool = False) -> None:
        """Send SIGTERM to the container's init, which passes it on to all, or SIGKILL."""
        signal = "SIGKILL" if force else "SIGTERM"
        if attempt := self._attempts.get(handle):
            with attempt.lock:
                if not attempt.begun and not attempt.stop:  # it may wait for an image for long
                    self._news.put((handle, _NEVER_BEGAN))
                attempt.stop, attempt.stopped_at = signal, attempt.stopped_at or time.monotonic()
        with suppress(DaemonError), reaching():  # not there yet, or gone, or ended
            connect().kill(handle, signal=signal)

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:
        """What containers of this machine use; a daemon elsewhere is not asked."""
        found = {}
        for handle in handles:
            attempt = self._attempts.get(handle)
            if attempt and (pid := attempt.process.get("pid")) and birth_mark(pid) == attempt.process.get("born"):
                found[handle] = sampling.used_by(sampling.members_of_container(pid), pid)
        return found

    def forget(self, handle: str) -> None:
        """Remove its container, unless it is to be kept."""
        attempt = self._attempts.pop(handle, None)
        if attempt and not attempt.keep:
            self._removers.submit(leftovers.remove_container, handle)

    def close(self) -> None:
        """Wait until the containers are removed whose ends are noted down."""
        self._removers.shutdown(wait=True)

    def manifest(self, job: Job) -> str:
        """The command line that runs the same container."""
        image = self._images.ensure(call.of(job).image, job.project or job.cwd, lambda _: None)
        return call.shell_line(self._call(job, image, job.resources.gpu_count))

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:
        """The daemon, the rights, the GPUs' runtime, the images and the mounts."""
        return examine.examine(experiments, project)

    def _call(self, job: Job, image: Image, gpus: Sequence[str] | int) -> call.Call:
        path, root = image.env.get("PYTHONPATH"), daemon.is_rootless()
        return call.make_call(job, image.name, gpus, path=path, entrypoint=image.entrypoint, root=root)

    def _in_a_thread(self, attempt: Attempt, work: Callable[[Attempt], JobState]) -> None:
        def tell_the_end() -> None:
            try:
                state = work(attempt)
            except AwayError as error:
                state = JobState(LOST, "lost", error.message)
            except LightexError as error:
                state = JobState(FAILED, "launch", str(error))
            except Exception as error:  # noqa: BLE001  a thread that ended without a word would hold its lease for ever
                state = JobState(FAILED, "launch", f"{type(error).__name__}: {error}")
            self._news.put((attempt.handle, state))

        self._attempts[attempt.handle] = attempt
        threading.Thread(target=tell_the_end, name=attempt.handle, daemon=True).start()

    def _start(self, attempt: Attempt, job: Job, gpus: Sequence[str]) -> JobState:
        """Start a container and see it to its end. A daemon that is away is waited for."""

        def tell(line: str) -> None:
            self._news.put((attempt.handle, JobState(SUBMITTED, reason=line)))

        while not attempt.stop or attempt.begun:
            try:
                image = self._images.ensure(call.of(job).image, job.project or job.cwd, tell)
                if not self._launch(attempt, job, image, gpus):
                    break
            except AwayError as error:
                if attempt.is_given_up:
                    raise
                tell(error.message)
                time.sleep(_AGAIN)
            else:
                self._news.put((attempt.handle, JobState(RUNNING, process=attempt.process)))
                return self._follow(attempt)
        return _NEVER_BEGAN

    def _launch(self, attempt: Attempt, job: Job, image: Image, gpus: Sequence[str]) -> bool:
        """Make the container and start it. What a try before this one has got to is not done again.

        Returns:
            False: it was to end before it could begin.
        """
        with attempt.lock:
            again, attempt.begun = attempt.begun, attempt.begun or not attempt.stop
            if not attempt.begun:
                return False
        if image.log:
            shutil.copyfile(image.log, job.run.build_log)
        with reaching():
            found = self._inspect(attempt.handle) if again else None
            if found is None:
                if not again:
                    os.close(job.run.open_output(job.attempt))
                connect().create_container(**call.creation(self._call(job, image, gpus)))
            if found is None or found["State"]["Status"] == "created":
                self._start_made(attempt.handle)
            if attempt.stop:  # it came while the container started
                self.cancel(attempt.handle, force=attempt.stop == "SIGKILL")
            attempt.process = _mark(connect().inspect_container(attempt.handle))
        return True

    def _start_made(self, handle: str) -> None:
        try:
            connect().start(handle)
        except APIError:
            with suppress(APIError):
                connect().remove_container(handle, force=True)
            raise

    def _inspect(self, handle: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = connect().inspect_container(handle)
        except NotFound:
            return None
        return found

    def _follow(self, attempt: Attempt) -> JobState:
        """Wait until a container ends; then say how it did. A daemon that is away is waited for."""
        while True:
            try:
                with reaching():
                    client = connect()
                    attempt.process = attempt.process or _mark(client.inspect_container(attempt.handle))
                    client.wait(attempt.handle, timeout=_WAIT)
                    return _end(attempt, client.inspect_container(attempt.handle))
            except AwayError:
                if attempt.is_given_up:
                    raise
            except DaemonError as error:
                if isinstance(error.__cause__, NotFound):
                    return JobState(LOST, "lost", "its container was removed", process=attempt.process)
            time.sleep(_AGAIN)

    def _adopt(self, handles: Sequence[str]) -> list[str]:
        """Follow containers that another process has started; returns those that are not there."""
        try:
            with reaching():
                names = {"label": "lightex.run", "name": list(handles)}
                found = connect().containers(all=True, filters=names)
        except DaemonError:
            return []  # it is asked again
        there = {each["Names"][0].lstrip("/"): each for each in found if each["State"] != "created"}
        for handle in handles:
            if about := there.get(handle):
                run, keep = RunDir(about["Labels"]["lightex.run"]), about["Labels"].get("lightex.keep") == "yes"
                self._in_a_thread(Attempt(handle, run, keep=keep, begun=True), self._follow)
        return [handle for handle in handles if handle not in there]

    def _sample(self) -> None:
        self._sampled = time.monotonic()
        for attempt in self._attempts.values():
            if (pid := attempt.process.get("pid")) and (used := sampling.counted(pid)) != (None, None):
                attempt.used = used


def _mark(found: Mapping[str, Any]) -> dict[str, Any]:
    """What readers may know of a container.

    Its init is a process of this machine unless the daemon is elsewhere, or in a virtual machine: there another process
    may have that number here.
    """
    mark = {"host": host(), "container": found["Name"].lstrip("/"), "image": found["Image"], "bounds": ["container"]}
    pid = found["State"]["Pid"]
    with suppress(OSError):
        if pid and found["Id"] in Path(f"/proc/{pid}/cgroup").read_text() and (born := birth_mark(pid)):
            mark |= {"pid": pid, "born": born}
    return mark


def _end(attempt: Attempt, found: Mapping[str, Any]) -> JobState:
    """How a container ended."""
    state = found["State"]
    code = int(state["ExitCode"])
    signal = end.signal_of(code)
    ended = JobState(
        state=SUCCEEDED if code == 0 else FAILED,
        exit_code=None if signal else code,
        signal=signal,
        process=attempt.process or _mark(found),
        cpu_seconds=round(attempt.used[0], 3) if attempt.used[0] else None,
        peak_memory=attempt.used[1],
        duration=_seconds(state["StartedAt"], state["FinishedAt"]),
    )
    if code and state.get("OOMKilled"):
        limit = int(found["HostConfig"].get("Memory") or 0)
        whom = "killed" if signal == 9 else f"exit code {code} after a process of it was killed"
        reason = f"out of memory: {whom} by its memory limit of {format_size(limit)} (container)"
        return replace(ended, cause="oom", reason=reason)
    if code and (why := _not_started(attempt, found["Config"]["Image"], code)):
        return replace(ended, cause="launch", reason=why)
    return ended


def _check_names(container: Container) -> None:
    """Look whether the daemon has the network and the runtime that a container asks for.

    Raises:
        ConfigError: it has not.
    """
    with reaching():
        networks = {each["Name"] for each in connect().networks()}
    runtimes = set(daemon.facts().get("Runtimes") or ())
    runtime = container.options.get("runtime")
    shared = container.network.startswith("container:")
    for what, name, valid in (("network", container.network, networks), ("options.runtime", runtime, runtimes)):
        if name is not None and name not in valid and not (what == "network" and shared):
            raise ConfigError(
                f"container.{what}: docker has no '{name}'.{did_you_mean(str(name), valid)}",
                f"it has: {', '.join(sorted(valid))}",
            )


def _seconds(began: str, ended: str) -> float | None:
    """How long it ran, by the daemon's clock; None: shorter than it takes the daemon to write down that it began."""
    try:
        passed = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
        return max(0.0, round(passed.total_seconds(), 3)) or None
    except ValueError:
        return None


def _not_started(attempt: Attempt, image: str, code: int) -> str | None:
    """Why a command did not start; None: it did, and ended with such an exit code itself."""
    if code in end.NOT_STARTED and (why := end.not_started(attempt.run, image)):
        return why
    said = ""
    with suppress(APIError):  # not all log drivers let their logs be read
        said = connect().logs(attempt.handle, tail=5).decode(errors="replace").strip()
    if "exec /bin/sh" in said:  # what is here comes from before the command: its own output goes to the run
        return f"the image {image} has no /bin/sh, which lx needs to keep the output: {said}"
    return f"it did not start: {said}" if said else None
