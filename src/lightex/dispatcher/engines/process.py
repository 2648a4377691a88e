"""Experiments as processes of this machine, each the leader of a session of its own."""

from __future__ import annotations

import math
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import Any

from lightex.core.liveness import lives, process_mark
from lightex.core.rundir import FAILED, LOST, SUCCEEDED
from lightex.core.units import format_size, parse_size
from lightex.dispatcher.capacity import Capacity, this_machine
from lightex.dispatcher.engine import Engine, JobState, LaunchError, Usage
from lightex.dispatcher.engines import sampling
from lightex.dispatcher.engines.cage import Cage, Cages, bound, machine_oom_kills
from lightex.dispatcher.engines.environment import environment
from lightex.dispatcher.engines.peek import collect, peek
from lightex.dispatcher.engines.strays import end_strays, marks, processes_of
from lightex.dispatcher.job import Job
from lightex.dispatcher.proc import Mark, Sessions

_LOOK = 1.0  # seconds between two looks for what escaped from ended jobs, and for the kernel's kills
_POLL = 0.01  # seconds between two looks where the system cannot tell of a process's end (no pidfd)


class ProcessEngine(Engine):
    """Starts commands as processes. A handle is the process's id and its birth mark: "PID:BORN"."""

    children = True

    def __init__(self) -> None:
        self._environment = environment()
        self._encoded = _encoded(self._environment)  # once, and not for each process
        self._processes: dict[str, subprocess.Popen[bytes] | None] = {}  # None: another process started it
        self._cages = Cages()
        self._caged: dict[str, Cage] = {}
        self._marks: dict[str, Mark] = {}  # what the environments of jobs' processes hold
        self._ended: set[Mark] = set()  # the same of jobs that something may have escaped from
        self._sessions = Sessions()
        self._oom_kills, self._looked = machine_oom_kills(), time.monotonic()
        self._to_collect: dict[str, int] = {}
        self._poller = select.poll()
        self._pidfds: dict[int, str] = {}

    def capacity(self) -> Capacity | None:
        """What this process may use of this machine."""
        return this_machine()

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
        """Start the command; its output goes to the run's output file.

        Raises:
            LaunchError: there is no such command or folder, or it may not be run.
        """
        given = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), **job.env}
        if "OMP_NUM_THREADS" not in self._environment:
            given.setdefault("OMP_NUM_THREADS", str(max(1, math.ceil(job.resources.cpus))))
        path = given.get("PATH", self._environment.get("PATH", os.defpath))
        memory = parse_size(job.resources.memory or 0)
        cage = self._cages.get(job.resources.cpus, memory)
        try:
            with cage.entered() if cage else nullcontext():
                process = _start(job, {**self._encoded, **_encoded(given)}, path)
        except BaseException:
            if cage:
                self._cages.give_back(cage)
            raise
        mark = process_mark(process.pid, zombies=True) | {"bounds": ["cgroup"] if cage else []}
        if memory and not (cage and cage.memory):
            bound(process.pid, memory)
            mark["bounds"].append("rlimit")
        handle = f"{process.pid}:{mark['born']}"
        self._processes[handle] = process
        if cage:
            self._caged[handle] = cage
        self._marks[handle] = marks(job)
        self._watch(process.pid, handle)
        return handle, mark

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The first to have begun a session of those of this user's processes that the run's environment marks."""
        leaders = []
        for pid in processes_of({marks(job)}):
            with suppress(ProcessLookupError):
                if os.getsid(pid) == pid and (mark := process_mark(pid, zombies=True))["born"]:
                    leaders.append(mark)
        if not leaders:
            return None
        # Others are those of what it has started: torchrun begins one for each worker.
        first = min(leaders, key=lambda mark: (int(mark["born"]), mark["pid"]))
        return f"{first['pid']}:{first['born']}", first

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """Wait until a process ends, at most `wait` seconds; returns those that have ended since."""
        self._cages.tend()
        if time.monotonic() - self._looked > _LOOK:
            self._oom_kills, self._looked = machine_oom_kills(), time.monotonic()
            end_strays(self._ended)
        gone = self._adopt([handle for handle in handles if handle not in self._processes])
        if gone:
            return {handle: JobState(LOST) for handle in gone}
        if self._pidfds:
            ended = [descriptor for descriptor, _ in self._poller.poll(wait * 1000)]
            found = [self._pidfds[descriptor] for descriptor in ended]
            for descriptor in ended:
                self._poller.unregister(descriptor)
                os.close(descriptor)
                del self._pidfds[descriptor]
            return {handle: self._reap(handle) for handle in found}
        deadline = time.monotonic() + wait
        while not (found := [handle for handle in handles if self._has_ended(handle)]):
            if time.monotonic() >= deadline:
                return {}
            time.sleep(_POLL)
        return {handle: self._reap(handle) for handle in found}

    def cancel(self, handle: str, force: bool = False) -> None:
        """Signal the whole process group: SIGTERM, or SIGKILL if forced."""
        if handle in self._processes or lives(handle):
            _signal_group(_pid(handle), signal.SIGKILL if force else signal.SIGTERM)

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:
        """What the processes of each use: those of its control group, or of its session."""
        plain = [_pid(handle) for handle in handles if handle not in self._caged]
        sessions = self._sessions.members(plain)
        found = {}
        for handle in handles:
            pid, cage = _pid(handle), self._caged.get(handle)
            members = sampling.members_of_group(cage.folders[0]) if cage else sessions[pid]
            if members:
                found[handle] = sampling.used_by(members, pid)
        return found

    def manifest(self, job: Job) -> str:
        """The command with its environment, for a shell."""
        return (
            f"cd {shlex.quote(str(job.cwd))} && {shlex.join(['env', *(f'{k}={v}' for k, v in job.env.items())])} "
            + (shlex.join(job.command))
        )

    def forget(self, handle: str) -> None:
        """Collect it."""
        if pid := self._to_collect.pop(handle, None):
            collect(pid)

    def close(self) -> None:
        """End what escaped from what has ended."""
        end_strays(self._ended)
        self._cages.close()

    def _watch(self, pid: int, handle: str) -> None:
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(pid)
            self._pidfds[descriptor] = handle
            self._poller.register(descriptor, select.POLLIN)

    def _adopt(self, handles: Sequence[str]) -> list[str]:
        """Watch processes that this one did not start; returns those that are gone."""
        gone = []
        for handle in handles:
            if not lives(handle):
                gone.append(handle)
                continue
            self._processes[handle] = None
            if cage := self._cages.find(_pid(handle)):
                self._caged[handle] = cage
            try:
                self._watch(_pid(handle), handle)
            except ProcessLookupError:
                del self._processes[handle]
                gone.append(handle)
        return gone

    def _has_ended(self, handle: str) -> bool:
        if self._processes[handle] is None:
            return not lives(handle)
        return os.waitid(os.P_PID, _pid(handle), os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _reap(self, handle: str) -> JobState:
        """How a process ended. What it left behind in its group goes first: it would hold what was leased."""
        process = self._processes.pop(handle)
        _signal_group(_pid(handle), signal.SIGKILL)
        if mark := self._marks.pop(handle, None):
            self._ended.add(mark)
        cage = self._caged.pop(handle, None)
        oom_kills = cage.oom_kills() if cage else 0
        if cage:
            self._cages.give_back(cage)
        if process is None:  # not a child of this process
            return JobState(LOST)
        # It is collected only when the caller has noted its end down: were the caller killed before, nobody could tell.
        code, seconds, memory = peek(process.pid)
        process.returncode = code
        self._to_collect[handle] = process.pid
        return JobState(
            state=SUCCEEDED if code == 0 else FAILED,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            peak_memory=memory,
            cpu_seconds=round(seconds, 3),
            **self._memory_ran_out(code, cage, oom_kills),
        )

    def _memory_ran_out(self, code: int, cage: Cage | None, oom_kills: int) -> dict[str, Any]:
        """Cause and reason, where the kernel has killed for memory."""
        if code != 0 and cage and oom_kills:
            whom = "killed" if code == -signal.SIGKILL else f"exit code {code} after a process of it was killed"
            limit = f" of {format_size(cage.memory[1])}" if cage.memory else ""
            return {"cause": "oom", "reason": f"out of memory: {whom} by its memory limit{limit} (cgroup)"}
        if code == -signal.SIGKILL and machine_oom_kills() > self._oom_kills:
            return {"cause": "oom", "reason": "out of memory: killed by the kernel, this machine has no more"}
        return {}


def _encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _start(job: Job, environment: Mapping[bytes, bytes], path: str) -> subprocess.Popen[bytes]:
    """Start a job's command; its output goes to the run's output file.

    Raises:
        LaunchError: there is no such command or folder, or it may not be run.
    """
    output = job.run.open_output(job.attempt)
    try:
        return subprocess.Popen(
            job.command,
            executable=_find(job.command[0], path),
            cwd=job.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError as error:
        raise LaunchError(_why_not(job, error, path)) from error
    except ValueError as error:  # a null byte in an argument
        raise LaunchError(f"cannot start {job.command[0]!r}: {error}") from error
    finally:
        os.close(output)


@lru_cache(maxsize=256)
def _find(command: str, path: str | None) -> str | None:
    """Where a command lies, looked up once: else every start tries every folder of PATH. None: leave it to exec."""
    return None if os.sep in command else shutil.which(command, path=path)


def _pid(handle: str) -> int:
    return int(handle.partition(":")[0])


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # ended; or (macOS) only a zombie is left
        return


def _why_not(job: Job, error: OSError, path: str) -> str:
    if not job.cwd.is_dir():
        return f"cannot start it: the working directory {job.cwd} does not exist"
    if isinstance(error, FileNotFoundError):
        where = "" if os.sep in job.command[0] else f" on PATH ({path})"
        return f"command not found: {job.command[0]}{where}"
    return f"cannot start {job.command[0]}: {error.strerror}"
