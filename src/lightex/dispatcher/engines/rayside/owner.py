"""The actor that owns all jobs of a user in a cluster: Ray ends a driver's tasks with it, this outlives who asked.

Ray gets this module by value, so that nodes need no LightEx: it imports nothing but Python's own modules, and Ray.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray as _ray
from ray.exceptions import (
    OutOfMemoryError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskUnschedulableError,
)
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

ray: Any = _ray  # typed in part only
Order = Mapping[str, Any]
State = dict[str, Any]
"""As JobState has it."""
News = tuple[tuple[int, int], dict[str, State], dict[str, dict[str, Any]]]
"""Since when there may be more, states, and what jobs use."""

_SILENT = 30.0  # seconds after which a broker that has not asked for anything is taken to be gone
_LOOK = 2.0  # seconds between two looks at what jobs wait for
_FORCE = 10.0  # seconds after which a command that was to be killed loses its worker
_ANSWERS = 5.0  # seconds that a node may take to answer


class Job:
    """A job and what is known of it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.state: State = {"state": "SUBMITTED"}
        self.version = 0
        self.since = time.monotonic()
        self.refs: list[Any] = []
        self.marks: dict[int, Mapping[str, Any]] = {}  # of the commands that have begun, by rank
        self.used: dict[int, Mapping[str, Any]] = {}  # what those use that have not ended, by rank
        self.over: set[int] = set()  # the ranks of those that have
        self.sampled = 0  # the number of the last sample
        self.met: dict[int, tuple[str, int]] = {}
        self.wish: str | None = None  # "end" or "kill"
        self.told: dict[int, str | None] = {}  # the wish that was told last, by rank
        self.changed = asyncio.Event()
        self.follower: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.state["state"] not in ("SUBMITTED", "RUNNING")

    @property
    def has_told(self) -> bool:
        """Whether all of its commands that run have told what they use."""
        return not self.ended and 0 < len(self.used) == len(self.marks.keys() - self.over)

    def wake(self) -> None:
        """Let those look who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Owner:
    """Starts jobs as tasks, and keeps their states until their ends have been noted down."""

    def __init__(self, run: Callable[..., State]) -> None:
        self._run = ray.remote(max_retries=0)(run)
        self._jobs: dict[str, Job] = {}
        self._version = self._samples = 0
        self._changed = asyncio.Event()
        self._brokers: dict[str, float] = {}
        self._closing = False
        self._looker: asyncio.Task[None] | None = None

    async def enter(self, broker: str) -> bool:
        """A broker has come; False: this owner is about to end, another one is to be made."""
        self._brokers[broker] = time.monotonic()
        self._looker = self._looker or asyncio.create_task(self._look())
        return not self._closing

    async def leave(self, broker: str) -> bool:
        """A broker goes; True: nobody needs this owner any more."""
        self._brokers.pop(broker, None)
        now = time.monotonic()
        self._closing = not self._jobs and all(now - last > _SILENT for last in self._brokers.values())
        return self._closing

    async def take(self, orders: Iterable[Order]) -> None:
        """Start jobs; those that are known by their names already are not started again."""
        for order in orders:
            if order["name"] not in self._jobs:
                job = self._jobs[order["name"]] = Job(order)
                job.follower = asyncio.create_task(self._follow(job))

    async def news(self, broker: str, since: tuple[int, int], wait: float) -> News:
        """What has changed since a version, and been sampled since a sample.

        Waits for a change some seconds at most, but not for a sample.
        """
        self._brokers[broker] = time.monotonic()
        version, sample = since
        if self._version <= version:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
        jobs = self._jobs.items()
        states = {name: job.state for name, job in jobs if job.version > version}
        used = {name: _sum(job.used.values()) for name, job in jobs if job.sampled > sample and job.has_told}
        return (max(version, self._version), self._samples), states, used

    async def used(self, name: str, rank: int, used: Mapping[str, Any]) -> None:
        """A command tells what it uses: `cores`, and `memory`, `read` and `written` in bytes."""
        job = self._jobs.get(name)
        if job and rank not in job.over:  # what is under way may come after the end
            self._samples += 1
            job.used[rank], job.sampled = used, self._samples

    async def end(self, names: Iterable[str], force: bool) -> None:
        """Ask jobs to end, or (force) end them."""
        for job in [self._jobs[name] for name in names if name in self._jobs]:
            if not job.ended:
                self._end(job, "kill" if force else "end")

    async def forget(self, names: Iterable[str]) -> None:
        """The ends of these have been noted down."""
        for name in names:
            if name in self._jobs and self._jobs[name].ended:
                del self._jobs[name]

    async def meet(self, name: str, rank: int, node: str, port: int) -> tuple[str, int]:
        """A node of a job that runs on several is there; waits for all, and returns where the first one is."""
        job = self._jobs[name]
        address = next(str(each["NodeManagerAddress"]) for each in ray.nodes() if each["NodeID"] == node)
        job.met[rank] = address, port
        if len(job.met) == job.order["nodes"]:
            job.wake()
        while len(job.met) < job.order["nodes"]:
            await job.changed.wait()
        return job.met[0]

    async def began(self, name: str, rank: int, mark: Mapping[str, Any]) -> str:
        """A command runs; returns when it is to "end", to be called again for "kill", or when its job is "over"."""
        job = self._jobs.get(name)
        if job and rank not in job.marks:
            job.marks[rank] = mark
            if len(job.marks) == job.order["nodes"] and not job.ended:
                self._set(job, {"state": "RUNNING", "process": _process(job)})
        while job and not job.ended:
            if job.wish and job.told.get(rank) != job.wish:
                job.told[rank] = job.wish
                return job.wish
            await job.changed.wait()
        return "over"

    def _set(self, job: Job, state: State) -> None:
        if job.marks:
            state = {**state, "process": _process(job)}
        self._version += 1
        job.state, job.version = state, self._version
        job.wake()
        self._changed.set()
        self._changed = asyncio.Event()

    def _end(self, job: Job, wish: str) -> None:
        first, job.wish = job.wish != wish, wish if job.wish != "kill" else "kill"
        job.wake()
        for rank, ref in enumerate(job.refs):
            if rank not in job.marks:  # it waits for room, or is about to start
                ray.cancel(ref)
        if not job.refs and job.follower:
            job.follower.cancel()
        if wish == "kill" and first:
            asyncio.get_running_loop().call_later(_FORCE, self._kill_workers, job)

    def _kill_workers(self, job: Job) -> None:
        if not job.ended:
            for ref in job.refs:
                ray.cancel(ref, force=True)

    async def _follow(self, job: Job) -> None:
        """Start a job, and wait for its end."""
        try:
            state = await (self._on_several(job) if job.order["nodes"] > 1 else self._on_one(job))
        except asyncio.CancelledError:
            state = _CANCELLED
        except Exception as error:  # noqa: BLE001  the owner must live on for all others
            state = {"state": "FAILED", "cause": "launch", "reason": f"Ray does not take it: {_first_line(error)}"}
        self._set(job, state)

    async def _on_one(self, job: Job) -> State:
        job.refs = [self._run.options(**_options(job.order)).remote(job.order, 0, _me())]
        return await self._end_of(job, 0)

    async def _on_several(self, job: Job) -> State:
        order, nodes = job.order, job.order["nodes"]
        labels = {"bundle_label_selector": [order["labels"]] * nodes} if order["labels"] else {}
        group = placement_group([order["needs"]] * nodes, strategy=order["placement"], **labels)
        try:
            await group.ready()
            job.refs = [
                self._run.options(**_options(order, group, rank)).remote(order, rank, _me()) for rank in range(nodes)
            ]
            ends = [asyncio.create_task(self._end_of(job, rank)) for rank in range(nodes)]
            first: State | None = None
            for each in asyncio.as_completed(ends):
                state = await each
                if state["state"] != "SUCCEEDED" and not first:
                    first = state
                    self._end(job, "end")
            return first or await ends[0]
        finally:
            remove_placement_group(group)

    async def _end_of(self, job: Job, rank: int) -> State:
        """How the command of one node ended."""
        try:
            return await self._how(job, rank)
        finally:
            job.over.add(rank)
            job.used.pop(rank, None)

    async def _how(self, job: Job, rank: int) -> State:
        try:
            state: State = await job.refs[rank]
        except TaskCancelledError:
            return _CANCELLED
        except RuntimeEnvSetupError as error:
            return {"state": "FAILED", "cause": "launch", "reason": f"its runtime environment: {_first_line(error)}"}
        except OutOfMemoryError as error:
            words = "out of memory: Ray has ended it because its node has no more"
            return {"state": "FAILED", "cause": "oom", "reason": f"{words} ({_first_line(error)})"}
        except TaskUnschedulableError as error:
            return {"state": "FAILED", "cause": "launch", "reason": f"Ray cannot place it: {_first_line(error)}"}
        except RayTaskError as error:
            return {"state": "FAILED", "cause": "launch", "reason": f"Ray could not run it: {_first_line(error.cause)}"}
        except ray.exceptions.RayError as error:  # the worker, its node, or an object of them is gone
            return await self._lost(job, rank, error)
        return state

    async def _lost(self, job: Job, rank: int, error: Exception) -> State:
        if job.wish == "kill":
            return {"state": "FAILED", "signal": 9}
        mark = job.marks.get(rank)
        if mark is None:
            return {
                "state": "LOST",
                "cause": "lost",
                "reason": f"its worker was lost before it began: {_first_line(error)}",
            }
        dead = await _is_lost(mark["node"])
        what = f"node {mark['host']} is lost" if dead else f"its worker on node {mark['host']} was killed"
        return {"state": "LOST", "cause": "lost", "reason": what}

    async def _look(self) -> None:
        """Say what jobs wait for."""
        while True:
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            waiting = [job for job in self._jobs.values() if job.state["state"] == "SUBMITTED" and now - job.since > 1]
            if waiting:
                nodes = [node for node in ray.nodes() if node["Alive"]]
                free = ray.available_resources()
                for job in waiting:
                    if (reason := _reason(job.order, nodes, free)) != job.state.get("reason"):
                        self._set(job, {"state": "SUBMITTED", "reason": reason})


_CANCELLED: State = {"state": "CANCELLED", "cause": "cancelled", "reason": "it was ended before it had started"}


def _me() -> Any:
    return ray.get_runtime_context().current_actor


def _options(order: Order, group: PlacementGroup | None = None, rank: int = 0) -> dict[str, Any]:
    """What Ray is told of a task."""
    needs = dict(order["needs"])
    found: dict[str, Any] = {
        "name": order["name"],
        "num_cpus": needs.pop("CPU", 0),
        "num_gpus": needs.pop("GPU", 0),
        "memory": int(needs.pop("memory", 0)) or None,
        "resources": needs or None,
        "runtime_env": dict(order["runtime_env"]) or None,
    }
    if group is not None:
        found["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    elif order["labels"]:
        found["label_selector"] = dict(order["labels"])
    return {name: value for name, value in found.items() if value is not None}


def _sum(used: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the commands of all nodes use."""
    found: dict[str, Any] = {}
    for one in used:
        found |= {name: (found.get(name) or 0) + value for name, value in one.items() if value is not None}
    return found


def _process(job: Job) -> dict[str, Any]:
    """What readers may know of a job that runs or has run."""
    marks = [dict(job.marks[rank]) for rank in sorted(job.marks)]
    hosts = list(dict.fromkeys(mark["host"] for mark in marks))
    if len(hosts) > 1:
        return {"host": ", ".join(hosts), "bounds": []}
    return {name: value for name, value in marks[0].items() if name != "node"}


async def _is_lost(node: str) -> bool:
    """Whether a node is gone: Ray itself takes some 15 s to say so."""
    about = next((each for each in ray.nodes() if each["NodeID"] == node), None)
    if about is None or not about["Alive"]:
        return True
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(about["NodeManagerAddress"], about["NodeManagerPort"]), _ANSWERS
        )
    except (OSError, TimeoutError):
        return True
    writer.close()
    return False


def _reason(order: Order, nodes: Sequence[Mapping[str, Any]], free: Mapping[str, float]) -> str:
    """What a job waits for."""
    needs, count = order["needs"], order["nodes"]
    for name, amount in needs.items():
        most = max((node["Resources"].get(name, 0.0) for node in nodes), default=0.0)
        if most < amount:
            return f"no node has {_amount(name, amount)}; the most that one has is {_amount(name, most)}"
    short = [name for name, amount in needs.items() if free.get(name, 0.0) < amount * count]
    if short:
        has = ", ".join(f"{_amount(name, free.get(name, 0.0))} of {_total(name, nodes)}" for name in short)
        return (
            f"waits for {', '.join(_amount(name, needs[name] * count) for name in short)}; free in the cluster: {has}"
        )
    if order["runtime_env"]:
        return "waits for its runtime environment, or for a node that has all it needs"
    return "waits for a node that has all it needs at once"


def _total(name: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    return _amount(name, sum(node["Resources"].get(name, 0.0) for node in nodes))


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 2**30:.1f} GiB of memory"
    return f"{round(amount, 3):g} {name}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
