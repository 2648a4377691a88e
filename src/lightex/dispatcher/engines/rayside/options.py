"""What a config tells Ray in its own words: `engine_options={"ray": {...}}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lightex.core.errors import ConfigError
from lightex.dispatcher.engines import given as given_options

_GIVEN = "engine_options.ray"


@dataclass(frozen=True)
class Options:
    """What a config may say.

    Attributes:
        address: "HOST:PORT" of a cluster that this machine is a node of; "http://HOST:8265": its Jobs API; "local": a
            Ray of lx's own on this machine. None: RAY_ADDRESS, else what `ray start` has started here, else "local".
        resources: custom resources of nodes, by name.
        accelerator_type: of the node, such as "A100".
        runtime_env: Ray's runtime environment of the command: {"pip": ["torch"], "env_vars": {...}}.
        code: "shared": the project's folder, as nodes see it; "snapshot": the working tree as it is at the start is
            unpacked on the node. None: shared where the node has that folder, else a snapshot.
        placement: of several nodes (`resources.nodes`): "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD".
        autoscales: whether the cluster can grow: what no node has now is waited for, not refused.
        most_open: how many jobs Ray is given at once at the most; further ones wait with lx.
    """

    address: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    accelerator_type: str | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    code: Literal["shared", "snapshot"] | None = None
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "SPREAD"
    autoscales: bool = False
    most_open: int = 1000


def read(given: Mapping[str, Any]) -> Options:
    """The options of a config, checked.

    Raises:
        ConfigError: there is none of that name, or it has no such value.
    """
    options = given_options.read(Options, "ray", given)
    for name, amount in options.resources.items():
        if name in ("CPU", "GPU", "memory"):
            raise ConfigError(f"{_GIVEN}.resources: '{name}' is no custom resource", "say resources.cpus, gpus, memory")
        if not 0 < amount < float("inf"):
            raise ConfigError(f"{_GIVEN}.resources.{name} must be more than 0, got {amount:g}")
    return options
