"""Runs as jobs: what their directories and configs say, in the words of the dispatcher."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightex.core import plugins
from lightex.core.errors import ConfigError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Build, Container, Experiment, Resources, Storage, Store
from lightex.dispatcher.engine import Engine
from lightex.dispatcher.job import Job
from lightex.namedconf.export import environment
from lightex.namedconf.layers import Source, change
from lightex.namedconf.overrides import parse
from lightex.namedconf.tree import to_tree


def load_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        NotFoundError: there is none, or a package that it needs is missing.
    """
    engine: Engine = plugins.load(plugins.ENGINES, name)()
    return engine


_CHANGEABLE = ("resources", "timeout", "stall", "grace", "retries", "backoff", "priority")


def changes_for(run: RunDir, overrides: Sequence[str]) -> dict[str, Any]:
    """What a further attempt at a run has otherwise than its config: how it runs, not what comes out.

    Returns:
        The changed fields of the config, whole.

    Raises:
        ConfigError: an override is not valid, or changes the result.
    """
    base: Experiment[None] = Experiment(name="run", command="true", **_chosen(run))
    for text in overrides:
        name = text.partition("=")[0].partition(".")[0]
        if name not in _CHANGEABLE:
            raise ConfigError(
                f"{text} is not for a retry, which is the same run again",
                f"valid: {', '.join(_CHANGEABLE)}",
                f"a new run with another config: lx clone {run.short_id} {text}",
            )
    asked = parse(overrides, base, {})
    if set(asked.paths) - set(asked.fixed):
        raise ConfigError("a retry takes one value each", f"several runs: lx clone {run.short_id} {overrides[0]}")
    tree = to_tree(change(base, asked.fixed, Source("command line")))
    return {name: tree[name] for name in {path.partition(".")[0] for path in asked.fixed}}


def _chosen(run: RunDir, new: bool = False) -> dict[str, Any]:
    """How a run runs: its config, as people have changed it since, of a new one nobody has."""
    config = dict(run.config)
    for event in () if new else run.events():
        config |= event.get("changes") or {}
    found = {name: config[name] for name in _CHANGEABLE if config.get(name) is not None}
    return found | {"resources": Resources(**(config.get("resources") or {}))}


def make_job(
    run: RunDir, attempt: int, code: str | None, *, retried: Mapping[str, int] | None = None, new: bool = False
) -> Job:
    """The job of a run, as its directory describes it.

    Args:
        run: the run.
        attempt: which attempt at it.
        code: the digest of its code.
        retried: how often it was tried again, by cause.
        new: it has just been made: its events are not looked at.

    Raises:
        StorageError: the directory is broken.
    """
    identity, config = run.identity, run.config
    after = tuple(run.path.parent.parent / name for name in identity.get("after", ()))
    project = Path(identity.get("project") or identity["cwd"])
    env = {
        "LX_RUN_DIR": str(run.path),
        "LX_RUN_ID": run.id,
        "LX_SWEEP": str(identity.get("sweep", run.id)),
        "LX_ATTEMPT": str(attempt),
        **({"LX_UPSTREAM": os.pathsep.join(map(str, after))} if after else {}),
        **(environment({"hp": config["hp"]}) if config.get("hp") is not None else {}),
        **identity["env"],
    }
    return Job(
        run=run,
        command=tuple(identity["command"]),
        env=env,
        cwd=Path(identity["cwd"]),
        project=project,
        storage=storage_of(run),
        container=_container(config.get("container")),
        options=(config.get("engine_options") or {}).get(str(identity.get("engine")), {}),
        inherit=_inherited(config),
        after=after,
        retried=retried or {},
        attempt=attempt,
        code=code,
        **_chosen(run, new),
    )


def _container(tree: Mapping[str, Any] | None) -> Container | None:
    """The container of a config that was written down."""
    if tree is None:
        return None
    image = tree["image"]
    return Container(**{**tree, "image": Build(**image) if isinstance(image, Mapping) else image})


def storage_of(run: RunDir) -> Storage:
    """The storage of a run's config.

    Raises:
        StorageError: the directory is broken.
    """
    tree = run.config.get("storage")
    if tree is None:
        return Storage()
    dirs = {name: _store(given) for name, given in (tree.get("dirs") or {}).items()}
    remote = tree.get("remote")
    return Storage(**{**tree, "dirs": dirs, "remote": None if remote is None else _store(remote)})


def _store(given: str | Mapping[str, Any]) -> str | Store:
    return given if isinstance(given, str) else Store(**given)


def _inherited(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables of our environment that a run gets wherever it runs, by its config and for its loggers."""
    names = list((config.get("container") or {}).get("inherit") or ())
    for logger in config.get("loggers") or ():
        sink = plugins.load(plugins.SINKS, logger if isinstance(logger, str) else logger["name"])
        names += sink.environment
    return tuple(dict.fromkeys(names))
