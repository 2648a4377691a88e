"""What a broker does on a cluster of Ray: the owner of all jobs there is an actor, which it finds or makes."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lightex.core.liveness import user
from lightex.core.rundir import ENDED, LOST, SUBMITTED
from lightex.dispatcher.capacity import this_machine
from lightex.dispatcher.engines.rayside import token
from lightex.dispatcher.engines.rayside.place import LOCAL

_NAMESPACE = "lightex"
_PROTOCOL = 2  # of owners: one of another version is left alone
_FIRST = (-1, 0)  # since when there may be news: a question that does not wait
_WAIT = 5.0  # seconds that a question for news may take
_AGAIN = 1.0  # seconds between two tries to reach an owner that does not answer
_OBJECTS = 80_000_000  # bytes of the object store of a Ray of our own, which holds next to nothing

State = dict[str, Any]


class Cluster:
    """A connection to a cluster; `states` are those of all jobs of its owner."""

    def __init__(
        self,
        place: str,
        changed: Callable[[Iterable[str]], None],
        used: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.place, self.states = place, dict[str, State]()
        self._changed, self._used = changed, used
        self._id = f"{socket.gethostname()}-{uuid.uuid4().hex}"
        self._folder: str | None = None
        self._owner: Any = None
        self._ray: Any = None
        self._since = _FIRST
        self.complete = asyncio.Event()

    def open(self) -> None:
        """Connect, or start a Ray; whatever goes wrong is an exception of Ray's."""
        if self.place == LOCAL:
            # Without this Ray listens on all addresses of the machine, whatever it is told of 127.0.0.1.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            token.make()
        else:
            token.use_ours()
        os.environ.pop("RAY_ADDRESS", None)
        self._ray = ray = importlib.import_module("ray")  # typed in part only
        quiet: dict[str, Any] = {"namespace": _NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
        if self.place != LOCAL:
            ray.init(address=self.place, **quiet)
            return
        capacity = this_machine()
        top = tempfile.gettempdir()
        self._folder = tempfile.mkdtemp(prefix="lx-ray-", dir=top if len(top) < 20 else "/tmp")  # noqa: S108 sockets
        ray.init(
            address="local",
            num_cpus=max(1, int(capacity.cpus)),
            include_dashboard=False,
            object_store_memory=_OBJECTS,
            _memory=capacity.memory,
            _node_ip_address="127.0.0.1",
            _temp_dir=self._folder,
            **quiet,
        )

    async def follow(self) -> None:
        """Keep the states up to date."""
        gone = self._ray.exceptions
        await self._enter()
        while True:
            try:
                since, news, used = await self._owner.news.remote(self._id, self._since, _WAIT)
            except gone.ActorUnavailableError:  # it may come back
                await asyncio.sleep(_AGAIN)
            except gone.RayActorError:
                await self._lose_owner()
            else:
                self._since = since
                self.states |= news
                self._changed(news)
                self.complete.set()
                if used:
                    self._used(used)

    async def facts(self) -> dict[str, Any]:
        """Versions, and the living nodes."""
        nodes = [
            {"name": each["NodeManagerHostname"], "total": each["Resources"], "labels": each.get("Labels") or {}}
            for each in self._ray.nodes()
            if each["Alive"]
        ]
        return {"ray": self._ray.__version__, "nodes": nodes}

    async def take(self, orders: Sequence[dict[str, Any]]) -> None:
        """Have jobs started."""
        await self.complete.wait()
        for order in orders:
            self.states.setdefault(order["name"], {"state": SUBMITTED})
        await self._owner.take.remote(orders)

    def expect(self, names: Iterable[str]) -> None:
        """Nothing: the owner tells of all its jobs."""

    async def knows(self, name: str) -> bool:
        """Whether there is such a job."""
        await self.complete.wait()
        return name in self.states

    async def end(self, names: Sequence[str], force: bool) -> None:
        """Ask jobs to end, or (force) end them."""
        await self._owner.end.remote(names, force)

    async def forget(self, names: Sequence[str]) -> None:
        """The ends of these have been noted down."""
        for name in names:
            self.states.pop(name, None)
        await self._owner.forget.remote(names)

    @property
    def at_work(self) -> bool:
        """Whether jobs would be lost that have not ended, were this process to end."""
        return self.place == LOCAL and any(state["state"] not in ENDED for state in self.states.values())

    async def leave(self) -> None:
        """Let go of the owner, which ends when nobody needs it."""
        if self.place != LOCAL and self._owner is not None and await self._owner.leave.remote(self._id):
            self._ray.kill(self._owner)

    def close(self) -> None:
        """Disconnect; a Ray of our own ends."""
        if self._ray:
            self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _enter(self) -> None:
        """Find the owner, or make one."""
        ray = self._ray
        owner, run = by_value(ray)
        make = ray.remote(owner).options(
            name=f"owner-{_PROTOCOL}-{user()}",
            # One that is detached gets no worker that Ray has started before; in a Ray of our own nothing outlives us.
            lifetime=None if self.place == LOCAL else "detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=0,
            max_concurrency=100_000,  # each command that runs waits in it for its end
            # Where the head is gone all of Ray is; any other node may go, and would take the owner along. A soft
            # affinity to it is now and then passed over while a node joins.
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(_head(ray), soft=False),
        )
        while True:
            self._owner = make.remote(run)
            try:
                if await self._owner.enter.remote(self._id):
                    return
            except ray.exceptions.RayActorError:  # it has ended since it was found
                pass
            await asyncio.sleep(_AGAIN / 5)

    async def _lose_owner(self) -> None:
        """The owner is gone, and Ray has ended all that it had started."""
        gone = {"state": LOST, "cause": "lost", "reason": "the process of lx in the cluster that kept it was lost"}
        lost = [name for name, state in self.states.items() if state["state"] not in ENDED]
        self.states |= {name: {**self.states[name], **gone} for name in lost}
        self._changed(lost)
        self._since = _FIRST
        await self._enter()


def by_value(ray: Any) -> tuple[type, Callable[..., State]]:
    """The owner, and what runs a command on a node: Ray takes along all that they need."""
    from lightex.core import liveness
    from lightex.dispatcher import proc
    from lightex.dispatcher.engines.rayside import command, owner

    for module in (owner, command, proc, liveness):
        ray.cloudpickle.register_pickle_by_value(module)
    return owner.Owner, command.run


def _head(ray: Any) -> str:
    """The id of the cluster's head node, which Ray marks by a resource; where none is marked, of our own node."""
    heads = (node["NodeID"] for node in ray.nodes() if node["Alive"] and "node:__internal_head__" in node["Resources"])
    return str(next(heads, None) or ray.get_runtime_context().get_node_id())
