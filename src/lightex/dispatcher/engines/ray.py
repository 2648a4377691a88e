"""Experiments as tasks of Ray: on a Ray of this machine, on a cluster, or by a cluster's Jobs API."""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, LightexError
from lightex.core.taxonomy import Experiment
from lightex.dispatcher.engine import Engine, Finding, JobState, LaunchError, Usage
from lightex.dispatcher.engines import given
from lightex.dispatcher.engines.rayside import examine, needs, options
from lightex.dispatcher.engines.rayside.channel import Channel
from lightex.dispatcher.engines.rayside.link import Link
from lightex.dispatcher.engines.rayside.orders import order_of
from lightex.dispatcher.engines.rayside.place import LOCAL, is_jobs_api, place_of
from lightex.dispatcher.job import Job
from lightex.storage import store

if importlib.util.find_spec("ray") is None:  # it is imported by the broker alone
    raise ModuleNotFoundError("No module named 'ray'", name="ray")

_SLICE = 0.05  # seconds that one of several Rays is listened to before the next


class RayEngine(Engine):
    """Has each attempt started by an actor that outlives this process. A handle is "PLACE/NAME".

    Its end is kept there until it has been noted down: were this process killed before, the next one hears of it.
    """

    python = "python3"
    several_nodes = True
    most_open = options.Options.most_open

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self._places: dict[str | None, str] = {}

    def check(self, experiment: Experiment[Any], project: Path) -> None:
        """See `Engine.check`: its options are valid, and what it wants is to be had of the Ray that is meant."""
        read = options.read(experiment.engine_options.get("ray", {}))
        place = self._place(read)
        given.node_labels(experiment.resources)
        if experiment.resources.nodes > 1 and is_jobs_api(place):
            raise ConfigError(
                f"{experiment.name} wants {experiment.resources.nodes} nodes, and a job of Ray's Jobs API runs on one",
                "run it from a node of the cluster: engine_options.ray.address=HOST:6379",
            )
        for name, found in store.folders(experiment.storage, project).items():
            if found.kind == "s3" and place != LOCAL:
                raise ConfigError(
                    f"storage.dirs.{name}: {found.url} would be staged on this machine, which other nodes do not see",
                    "keep it on a file system that all nodes mount",
                )

    def prepare(
        self,
        experiments: Iterable[Experiment[Any]],
        project: Path,  # noqa: ARG002
        tell: Callable[[str], None],  # noqa: ARG002
    ) -> None:
        """Look whether the Ray answers, starting one where none is meant, and whether its nodes have what is needed."""
        known = {repr((each.resources, each.engine_options.get("ray"))): each for each in experiments}
        facts: dict[str, dict[str, Any]] = {}
        for each in known.values():
            read = options.read(each.engine_options.get("ray", {}))
            place = self._place(read)
            if place not in facts:
                link = Link(place)
                facts[place] = link.open()
                link.close()  # without a word: its broker stays for the supervisor
            nodes = facts[place]["nodes"]
            if nodes is not None and not read.autoscales and (lacks := needs.lacks(each.resources, read, nodes)):
                has = "; ".join(f"{node['name']}: {needs.described(node['total'])}" for node in nodes)
                grows = (
                    ()
                    if place == LOCAL
                    else ("nodes that come when they are needed: engine_options.ray.autoscales=true",)
                )
                raise ConfigError(f"{each.name} cannot run on the Ray at {place}: {lacks}", f"it has {has}", *grows)

    def submit(self, job: Job, gpus: Sequence[str]) -> tuple[str, Mapping[str, Any]]:  # noqa: ARG002
        """Order a job; Ray starts it when a node has room.

        Raises:
            LaunchError: its options are not valid any more, or its code cannot be packed.
        """
        try:
            read = options.read(job.options)
            place = self._place(read)
            order = order_of(job, read, place)
        except (LightexError, OSError) as error:
            raise LaunchError(str(error)) from error
        self.most_open = read.most_open
        self._channel(place).order(order)
        return f"{place}/{order['name']}", {}

    def find(self, job: Job) -> tuple[str, Mapping[str, Any]] | None:
        """The job of that name."""
        handle = job.handle or f"{self._place(options.read(job.options))}/{job.name}"
        place, _, name = handle.rpartition("/")
        link = self._channel(place).link
        if place == LOCAL and not link.lives:
            known = bool(link.kept([name]))
        else:
            if not link.is_open:
                link.open()
            known = link.ask("knows", name=name)
        return (handle, {}) if known else None

    def poll(self, handles: Sequence[str], wait: float) -> Mapping[str, JobState]:
        """What has changed. A Ray that is away is waited for."""
        places: dict[str, list[str]] = {}
        for handle in handles:
            place, _, name = handle.rpartition("/")
            places.setdefault(place, []).append(name)
        for place in {**places, **self._channels}:
            self._channel(place).sync(places.get(place, ()))
        deadline = time.monotonic() + wait
        while True:
            found: dict[str, JobState] = {}
            for place, names in places.items():
                left = max(0.0, deadline - time.monotonic())
                slice_ = left if len(places) == 1 else min(left, _SLICE)
                channel = self._channel(place)
                states = channel.hear(set(names), slice_)
                found |= {f"{place}/{name}": state for name, state in states.items()}
                if not channel.link.is_open and not found:
                    time.sleep(min(slice_, _SLICE))
            if found or time.monotonic() >= deadline:
                return found

    def cancel(self, handle: str, force: bool = False) -> None:
        """Have the command ended: SIGTERM, and SIGKILL after its grace; or (force) at once. It is told with `poll`."""
        place, _, name = handle.rpartition("/")
        self._channel(place).end(name, force)

    def usage(self, handles: Sequence[str]) -> Mapping[str, Usage]:
        """What the nodes have told since the last time; a Jobs API tells nothing."""
        found = {}
        for handle in handles:
            place, _, name = handle.rpartition("/")
            if place in self._channels and (used := self._channels[place].link.used.pop(name, None)):
                found[handle] = Usage(**used)
        return found

    def forget(self, handle: str) -> None:
        """Have it forgotten there."""
        place, _, name = handle.rpartition("/")
        self._channel(place).forget(name)

    def close(self) -> None:
        """A Ray of lx's own ends with the last who needs it."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def manifest(self, job: Job) -> str:
        """The command line that has the same done by the cluster's Jobs API."""
        read = options.read(job.options)
        place = self._place(read)
        order = order_of(job, read, "")
        host = "127.0.0.1" if place == LOCAL else place.rpartition(":")[0]
        address = place if is_jobs_api(place) else f"http://{host}:8265"
        variables = {**read.runtime_env.get("env_vars", {}), **order["env"]}
        about = jsonlib.dumps({**read.runtime_env, "env_vars": variables}).decode()
        known = dict(order["needs"])
        words = ["ray", "job", "submit", "--address", address, "--submission-id", order["name"]]
        words += ["--runtime-env-json", about, "--entrypoint-num-cpus", f"{known.pop('CPU', 0):g}"]
        words += [
            "--entrypoint-num-gpus",
            f"{known.pop('GPU', 0):g}",
            "--entrypoint-memory",
            f"{known.pop('memory', 0):.0f}",
        ]
        words += ["--entrypoint-resources", jsonlib.dumps(known).decode()] if known else []
        return shlex.join([*words, "--", "env", "-C", str(job.cwd), *job.command])

    def examine(self, experiments: Sequence[Experiment[Any]], project: Path) -> Iterable[Finding]:  # noqa: ARG002
        """The Ray that is meant: versions, nodes, and whether they have what is needed."""
        return examine.examine(experiments)

    def _place(self, read: options.Options) -> str:
        if read.address not in self._places:
            self._places[read.address] = place_of(read)
        return self._places[read.address]

    def _channel(self, place: str) -> Channel:
        if place not in self._channels:
            self._channels[place] = Channel(place)
        return self._channels[place]
