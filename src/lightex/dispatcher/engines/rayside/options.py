"""What a config tells Ray in its own words: `engine_options={"ray": {...}}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from lightex.core.errors import ConfigError, did_you_mean

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
    names = [each.name for each in fields(Options)]
    for name in given:
        if name not in names:
            raise ConfigError(
                f"{_GIVEN}: there is no '{name}'.{did_you_mean(name, names)}", f"valid: {', '.join(names)}"
            )
    try:
        options: Options = TypeAdapter(Options).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{_GIVEN}.{where}: {first['msg'].lower()}", f"given: {first['input']!r}") from error
    if options.most_open < 1:
        raise ConfigError(f"{_GIVEN}.most_open must be 1 or more, got {options.most_open}")
    for name, amount in options.resources.items():
        if name in ("CPU", "GPU", "memory"):
            raise ConfigError(f"{_GIVEN}.resources: '{name}' is no custom resource", "say resources.cpus, gpus, memory")
        if not 0 < amount < float("inf"):
            raise ConfigError(f"{_GIVEN}.resources.{name} must be more than 0, got {amount:g}")
    return options
