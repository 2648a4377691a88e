"""What a broker does over HTTP: each job is one of Ray's own Jobs, which the cluster keeps."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightex.core import journal
from lightex.core.rundir import CANCELLED, ENDED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED
from lightex.dispatcher.engines.rayside import token
from lightex.dispatcher.engines.rayside.command import Order

_LOOK = 0.5  # seconds between two looks at all jobs
_LOOK_EACH = 0.005  # seconds more for each job that has not ended
_AGAIN = 2.0  # seconds between two tries to reach what is away
_TRIES = 5  # to have a job forgotten
_AT_ONCE = 8  # requests at once
# In the types of Ray's errors that come before the command. JOB_SUPERVISOR_ACTOR_START_FAILURE may come after it as
# well: Ray says so too where it has lost sight of what watches the job.
_NOT_STARTED = ("SETUP", "START_TIMEOUT", "UNSCHEDULABLE")
_NOT_FOUND = re.compile(r"(?:sh|bash): .*?(?:exec: )?([^:\s]+): (?:command )?not found")

State = dict[str, Any]
_GONE: State = {"state": LOST, "cause": "lost", "reason": "its job is not in the cluster any more"}

# Words of /bin/sh; all that comes from a config is an argument. Where a node sees the run, its output goes there.
_SCRIPT = (
    'if [ -d "$1" ]; then exec >> "$1/output.log" 2>&1; if [ "$2" -gt 1 ]; then echo "--- attempt $2 ---"; fi; fi; '
    'if [ -n "$3" ] && [ -d "$3" ]; then cd -- "$3"; elif [ -n "$4" ]; then cd -- "$4" || exit 126; fi; '
    'shift 4; exec "$@"'
)


class JobsApi:
    """A connection to a cluster's Jobs API; `states` are those of the jobs that were asked for."""

    def __init__(self, place: str, changed: Callable[[Iterable[str]], None]) -> None:
        self.place, self.states = place, dict[str, State]()
        self.complete = asyncio.Event()
        self._changed = changed
        self._client: Any = None
        self._threads = ThreadPoolExecutor(_AT_ONCE)
        self._making: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_end: set[str] = set()
        self._unpacked: dict[str, str] = {}
        self._scratch = tempfile.TemporaryDirectory(prefix="lx-ray-code-")

    def open(self) -> None:
        """Connect; whatever goes wrong is an exception of Ray's."""
        token.use_ours()
        from ray.job_submission import JobSubmissionClient

        self._client = JobSubmissionClient(self.place)

    async def follow(self) -> None:
        """Keep the states up to date: one question for all jobs."""
        while True:
            self.complete.set()
            asked = {name for name, state in self.states.items() if state["state"] not in ENDED} - self._making
            if asked:
                try:
                    found = await self._call(self._client.list_jobs)
                except (RuntimeError, OSError):  # it is away, or busy: it is waited for
                    await asyncio.sleep(_AGAIN)
                    continue
                jobs = {each.submission_id: each for each in found}
                for name in asked:
                    await self._look(name, jobs.get(name))
            await asyncio.sleep(_LOOK + _LOOK_EACH * len(asked))

    async def _look(self, name: str, job: Any) -> None:
        try:
            state = await self._state(name, job) if job else _GONE
        except OSError as error:  # there is no room for its output: the cluster keeps it until there is
            state = {"state": SUBMITTED, "reason": f"it has ended, its output cannot be written here: {error.strerror}"}
        if name in self._to_end and state["state"] in (SUBMITTED, RUNNING):  # Ray forgets it while a job is pending
            await self._stop(name)
        if state != self.states.get(name):
            self.states[name] = state
            self._changed([name])

    def expect(self, names: Iterable[str]) -> None:
        """These are asked for, which another process may have submitted."""
        for name in names:
            self.states.setdefault(name, {"state": SUBMITTED})

    async def facts(self) -> dict[str, Any]:
        """The cluster's version. Its nodes are not told over this API."""
        return {"ray": await self._call(self._client.get_version), "nodes": None}

    async def take(self, orders: Sequence[Order]) -> None:
        """Submit jobs, some at once."""
        new = [order for order in orders if order["name"] not in self.states]
        self._making |= {order["name"] for order in new}
        self.states |= {order["name"]: {"state": SUBMITTED} for order in new}
        for order in new:
            self._later(self._submit(order))

    async def _submit(self, order: Order) -> None:
        name = order["name"]
        try:
            while not await self._is_taken(order):
                await asyncio.sleep(_AGAIN)
        except Exception as error:  # noqa: BLE001  of one job: the others go on
            if "already exists" not in str(error):
                words = f"the Jobs API does not take it: {' '.join(str(error).split())[:300]}"
                self.states[name] = {"state": FAILED, "cause": "launch", "reason": words}
                self._changed([name])
        finally:
            self._making.discard(name)

    async def _is_taken(self, order: Order) -> bool:
        """Submit a job; False: the cluster is not ready for it."""
        try:
            await self._call(self._make, order)
        except RuntimeError as error:
            if "try again later" in str(error):
                return False
            raise
        except OSError:  # it is away
            return False
        return True

    def _make(self, order: Order) -> None:
        needs = dict(order["needs"])
        more: dict[str, Any] = {
            "entrypoint_num_cpus": needs.pop("CPU", 0) or None,
            "entrypoint_num_gpus": needs.pop("GPU", 0) or None,
            "entrypoint_memory": int(needs.pop("memory", 0)) or None,
            "entrypoint_resources": needs or None,
            "entrypoint_label_selector": dict(order["labels"]) or None,
        }
        seen = order["cwd"] if order["code"] in (None, "shared") else ""
        inner = order["cwd"] if order["code"] == "shared" else order["inner"]
        words = ["/bin/sh", "-c", _SCRIPT, "sh", order["run"], str(order["attempt"]), seen, inner, *order["command"]]
        self._client.submit_job(
            entrypoint=shlex.join(words),
            submission_id=order["name"],
            runtime_env=self._environment(order),
            metadata={"lightex.run": order["run"], "lightex.attempt": str(order["attempt"])},
            **{name: value for name, value in more.items() if value is not None},
        )

    def _environment(self, order: Order) -> dict[str, Any]:
        given = dict(order["runtime_env"])
        variables = {"PYTHONUNBUFFERED": "1", **given.get("env_vars", {}), **order["env"]}
        if order["archive"]:
            given["working_dir"] = self._code(order["archive"])
        return {**given, "env_vars": variables}

    def _code(self, archive: str) -> str:
        """The folder of a snapshot, which Ray's client sends to the cluster unless it is there."""
        if archive not in self._unpacked:
            folder = tempfile.mkdtemp(dir=self._scratch.name)
            with tarfile.open(archive) as tar:
                careful: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(folder, **careful)  # noqa: S202  lx has packed it
            self._unpacked[archive] = folder
        return self._unpacked[archive]

    async def knows(self, name: str) -> bool:
        """Whether there is such a job."""
        if name in self._making:
            return True
        try:
            await self._call(self._client.get_job_status, name)
        except RuntimeError as error:
            if "404" in str(error) or "does not exist" in str(error):
                return False
            raise
        return True

    async def end(self, names: Sequence[str], force: bool) -> None:  # noqa: ARG002  the cluster kills 3 s later
        """Have jobs stopped."""
        self._to_end |= set(names)
        for name in names:
            await self._stop(name)

    async def _stop(self, name: str) -> None:
        try:
            await self._call(self._client.stop_job, name)
        except (RuntimeError, OSError):  # it has ended, or the API is away: the next look tries again
            return

    async def forget(self, names: Sequence[str]) -> None:
        """The ends of these have been noted down: the cluster need not keep them."""
        for name in names:
            self.states.pop(name, None)
            self._to_end.discard(name)
            self._later(self._delete(name))

    async def _delete(self, name: str) -> None:
        """Have Ray forget a job, which it refuses for a moment after the end."""
        for _ in range(_TRIES):
            try:
                if await self._call(self._client.delete_job, name):
                    return
            except (RuntimeError, OSError):  # it is gone, or stays
                pass
            await asyncio.sleep(_AGAIN / 2)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    at_work = False
    """The cluster goes on without this process."""

    async def leave(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Let go of what is held here."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._scratch.cleanup()

    async def _call(self, what: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: what(*arguments))

    async def _state(self, name: str, job: Any) -> State:
        status, words = str(job.status.value), job.message
        mark: dict[str, Any] = {"host": getattr(job, "driver_node_id", None) or "ray", "bounds": [], "job": name}
        if status == "PENDING":
            return {"state": SUBMITTED, "reason": words}
        if status == "RUNNING":
            return {"state": RUNNING, "process": mark}
        log = await self._bring_log(name, job)
        if status == "SUCCEEDED":
            state: State = {"state": SUCCEEDED, "exit_code": 0}
        elif status == "STOPPED":
            state = {"state": CANCELLED, "cause": "cancelled", "reason": "it was stopped"}
        else:
            state = _failed(job, words, log)
        if job.start_time and job.end_time:
            state["duration"] = round((job.end_time - job.start_time) / 1000, 3)
        return {**state, "process": mark}

    async def _bring_log(self, name: str, job: Any) -> str:
        """Where a node has not written the output into the run's folder, bring it; returns its end.

        Raises:
            OSError: it cannot be written.
        """
        path = Path((job.metadata or {}).get("lightex.run", "/nowhere")) / "output.log"
        try:
            text = str(await self._call(self._client.get_job_logs, name))
        except (RuntimeError, OSError):  # the node that had it is gone
            text = ""
        before = f"Running entrypoint for job {name}: {job.entrypoint}\n"  # Ray's own words
        text = text.partition(before)[2] if before in text else text
        if text and path.parent.is_dir():
            attempt = int(job.metadata.get("lightex.attempt", 1))
            _append(path, f"--- attempt {attempt} ---\n{text}" if attempt > 1 else text)
        return path.read_text(errors="replace")[-2000:] if path.exists() else text[-2000:]


def _append(path: Path, text: str) -> None:
    """Add to a file, unless it ends so: another broker may have brought it.

    Raises:
        OSError: it cannot be written.
    """
    data = text.encode()
    descriptor = journal.open_for_append(path)
    try:
        if os.pread(descriptor, len(data), max(0, os.fstat(descriptor).st_size - len(data))) != data:
            journal.write_whole(descriptor, data)
    finally:
        os.close(descriptor)


def _failed(job: Any, words: str, log: str) -> State:
    code = getattr(job, "driver_exit_code", None)
    if code is None:  # its node is gone; or (Ray 2.60, now and then) it ended so soon that Ray itself did not see how
        launch = any(word in str(getattr(job, "error_type", None)) for word in _NOT_STARTED)
        return {"state": FAILED if launch else LOST, "cause": "launch" if launch else "lost", "reason": words[:300]}
    last = (log.strip().splitlines() or [""])[-1]
    if code in (126, 127) and (missing := _NOT_FOUND.search(last)):
        return {"state": FAILED, "cause": "launch", "reason": f"command not found: {missing[1]}", "exit_code": code}
    signal = -code if code < 0 else code - 128 if 128 < code < 160 else None
    return {"state": FAILED, "exit_code": None if signal else code, "signal": signal}
