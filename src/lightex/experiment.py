"""What named configs stand for: experiments, checked and ready to be recorded. Nothing is written here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from lightex.core import plugins
from lightex.core.errors import ConfigError, LightexError, NotFoundError, did_you_mean
from lightex.core.journal import jsonable
from lightex.core.root import Root
from lightex.core.rundir import SUCCEEDED, RunDir
from lightex.core.taxonomy import Build, Experiment, Logger, Resources
from lightex.dispatcher.engine import Engine
from lightex.jobs import load_engine
from lightex.namedconf.check import from_tree
from lightex.namedconf.fingerprint import fingerprint
from lightex.namedconf.layers import Source
from lightex.namedconf.quick import parse
from lightex.namedconf.registry import Named, Registry
from lightex.namedconf.resolve import Expansion, expand
from lightex.namedconf.search import Search
from lightex.namedconf.space import plain
from lightex.namedconf.sweep import Sweep
from lightex.namedconf.template import render, render_text
from lightex.namedconf.tree import to_tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SECRET = re.compile(r"(?i).*(_KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)")


@dataclass(frozen=True)
class Planned:
    """One experiment, ready to be recorded and run."""

    config: Experiment[Any]
    tree: dict[str, Any]
    varied: dict[str, Any]
    fingerprint: str
    command: list[str]
    env: dict[str, str]
    cwd: Path


@dataclass(frozen=True)
class Plan:
    """All experiments of one `lx run`, checked; of a search, its base."""

    name: str
    expansion: Expansion
    project: Path
    overrides: tuple[str, ...]
    experiments: list[Planned]

    @property
    def search(self) -> Search | None:
        """What chooses the experiments as they go, around the one in `experiments`; None: they are all there."""
        return self.expansion.search

    @property
    def engine(self) -> str:
        """The name of the engine."""
        return self.experiments[0].config.engine

    def without(self, fingerprints: set[str]) -> Plan:
        """The plan less the experiments with these fingerprints."""
        left = [item for item in self.experiments if item.fingerprint not in fingerprints]
        return replace(self, experiments=left)


def make_plan(
    registry: Registry, name: str, overrides: Sequence[str] = (), samples: int | None = None, seed: int = 0
) -> Plan:
    """Enumerate and check everything that `lx run NAME OVERRIDES` would run. Nothing is written.

    Raises:
        ConfigError: a config, an override, a template or a combination of them is not valid.
        NotFoundError: there is no such config, engine or logger.
    """
    return _plan(registry.get(name), registry.values(), registry.folder, overrides, samples, seed)


def plan_value(value: Experiment[Any] | Sweep, project: Path, source: Source) -> Plan:
    """Enumerate and check experiments that a program has made.

    Args:
        value: one, or a sweep.
        project: the folder that paths are relative to.
        source: where they were made.

    Raises:
        ConfigError: see `make_plan`.
        NotFoundError: there is no such engine or logger.
    """
    kind, base = ("sweep", value.parts[0][0]) if isinstance(value, Sweep) else ("config", value)
    return _plan(Named(base.name, value, kind, source, None), {}, project)


def plan_clone(registry: Registry, run: RunDir, overrides: Sequence[str]) -> Plan:
    """Enumerate and check what has the config of a run, with overrides.

    Raises:
        ConfigError: the config does not fit its class any more, or an override is not valid.
        NotFoundError: its config is not to be found any more.
    """
    reference = run.identity.get("config_reference")
    if reference is None and not run.identity.get("sweep"):
        raise ConfigError(f"run {run.short_id} was begun by a program, not by lx: it has no config", "run that again")
    if reference is None:
        raise ConfigError(
            f"run {run.short_id} was submitted from Python, where its classes are", "submit it there again"
        )
    named = registry.get(str(reference))
    config = from_tree(run.config, named.base, str(run.config_file))
    return _plan(
        replace(named, value=config, source=Source(f"run {run.short_id}")),
        registry.values(),
        registry.folder,
        overrides,
    )


def _plan(
    named: Named,
    parts: Mapping[str, Any],
    project: Path,
    overrides: Sequence[str] = (),
    samples: int | None = None,
    seed: int = 0,
) -> Plan:
    expansion = expand(named, overrides, parts, samples=samples, seed=seed)
    if expansion.search:
        _check_search(expansion.search)
    experiments = [planned(point.config, point.varied, project) for point in expansion.points]
    _check_distinct(experiments)
    engines = {item.config.engine for item in experiments}
    if len(engines) > 1:
        raise ConfigError(f"a sweep runs on one engine, this one names {', '.join(sorted(engines))}")
    plan = Plan(expansion.name, expansion, project, tuple(overrides), experiments)
    _check_possible(plan)
    return plan


def dependencies(plan: Plan, root: Root) -> dict[str, list[RunDir]]:
    """The runs, of earlier sweeps, that experiments of a plan depend on, by what they wrote; own names are left out.

    Raises:
        ConfigError: what a run depends on is neither an experiment of the plan nor a run, or depends on it in turn.
    """
    names = {item.config.name for item in plan.experiments}
    wanted = {item.config.name: set(item.config.depends_on) for item in plan.experiments}
    try:
        TopologicalSorter(wanted).prepare()
    except CycleError as error:
        raise ConfigError(f"depends_on goes round in a circle: {' -> '.join(error.args[1])}") from error
    found = {}
    for given in set().union(*wanted.values()) - names:
        try:
            found[given] = root.find(given)
        except NotFoundError as error:
            raise ConfigError(
                f"depends_on: '{given}' is neither an experiment of this sweep nor a run.{did_you_mean(given, names)}",
                f"experiments of this sweep: {', '.join(sorted(names))}",
                f"runs: {error.message}",
            ) from error
    return found


def succeeded_before(plan: Plan, root: Root) -> set[str]:
    """The fingerprints of those experiments of a plan that succeeded in an earlier sweep."""
    wanted = {item.fingerprint for item in plan.experiments}
    found: set[str] = set()
    for experiment in {item.config.name for item in plan.experiments}:
        for run in root.runs_of(experiment):
            try:
                mark = run.identity.get("fingerprint")
                if mark in wanted - found and (events := run.events()) and events[-1].get("state") == SUCCEEDED:
                    found.add(mark)
            except LightexError:  # a broken run has not succeeded
                continue
    return found


def planned(config: Experiment[Any], varied: Mapping[str, Any], project: Path) -> Planned:
    """An experiment, checked.

    Args:
        config: what it is.
        varied: what it has of its own, by path.
        project: the folder that its paths are relative to.

    Raises:
        ConfigError: its name, its command or an environment variable is not valid.
    """
    if not _NAME.fullmatch(config.name):
        raise ConfigError(f"name: {config.name!r} cannot name a folder", "use letters, digits, '.', '_' and '-'")
    if (config.command is None) == (config.target is None):
        found = "neither" if config.command is None else "both"
        raise ConfigError(f"{config.name}: an experiment has a command or a target, this one has {found}")
    engine: type[Engine] = plugins.load(plugins.ENGINES, config.engine)
    context = {
        "hp": config.hp,
        "dirs": dict(engine.folders(config.storage, project)),
        "name": config.name,
        "resources": config.resources,
        "tags": config.tags,
    }
    if config.command is not None:
        command = render(config.command, context)
        if not command:
            raise ConfigError(f"{config.name}: the command is empty: {config.command!r}")
    else:
        command = [engine.python, "-m", "lightex.target", str(config.target)]
    for name in config.env:
        _refuse_secret(f"env.{name}", name)
    if config.container and isinstance(config.container.image, Build):
        for name in config.container.image.args:
            _refuse_secret(f"container.image.args.{name}", name)
    tree = to_tree(config)
    return Planned(
        config=config,
        tree=tree,
        varied={name: jsonable(plain(value)) for name, value in varied.items()},
        fingerprint=fingerprint(config, tree),
        command=command,
        env={name: render_text(text, context) for name, text in config.env.items()},
        cwd=(project / (config.cwd or "")).absolute(),
    )


def _check_search(search: Search) -> None:
    if not search.base.metric:
        raise ConfigError(
            "a search needs to know what is good", 'give its base a metric="val.acc" (that its runs log) and mode="max"'
        )
    from lightex.study import check

    check(search)


def _check_distinct(experiments: Sequence[Planned]) -> None:
    seen: dict[str, int] = {}
    for number, item in enumerate(experiments, start=1):
        first = seen.setdefault(item.fingerprint, number)
        if first != number:
            raise ConfigError(
                f"experiments {first} and {number} of {len(experiments)} are equal: {item.varied}",
                "the same config twice gives the same result: take one out, or vary a seed (hp.seed=0,1)",
            )


def _check_possible(plan: Plan) -> None:
    """What can be known before anything starts: that the engine, the loggers and the resources exist."""
    if not plan.experiments:
        raise ConfigError(f"{plan.name} has no experiments")
    for logger in {repr(each): each for item in plan.experiments for each in item.config.loggers}.values():
        _check_logger(logger)
    engine = load_engine(plan.engine)
    looked_at = ("container", "storage", "resources", "engine_options", "cwd")
    distinct = {repr([getattr(item.config, name) for name in looked_at]): item.config for item in plan.experiments}
    for config in distinct.values():
        _check_engine(engine, config)
        engine.check(config, plan.project)
    capacity = engine.capacity()
    needs: dict[Resources, Planned] = {item.config.resources: item for item in plan.experiments}
    for resources, item in needs.items():
        if capacity and (lacks := capacity.lacks(resources)):
            raise ConfigError(
                f"{item.config.name} can never run on this machine: it {lacks}",
                f"given: {resources}",
                "lower resources.*, or run it elsewhere (-e ENGINE)",
            )


def _check_engine(engine: Engine, config: Experiment[Any]) -> None:
    """What an engine need not look for itself."""
    known = plugins.names(plugins.ENGINES)
    for name in config.engine_options:
        if name not in known:
            raise ConfigError(
                f"engine_options: there is no engine '{name}'.{did_you_mean(name, known)}", f"valid: {', '.join(known)}"
            )
    if config.resources.nodes > 1 and not engine.several_nodes:
        raise ConfigError(
            f"{config.name} wants {config.resources.nodes} nodes, and the engine {config.engine} runs a command on one",
            f"run it on one of these: {', '.join(filter(_has_several_nodes, known)) or 'none is installed'}",
        )


def _has_several_nodes(engine: str) -> bool:
    try:
        return bool(plugins.load(plugins.ENGINES, engine).several_nodes)
    except NotFoundError:  # its package is not installed
        return False


def _check_logger(logger: str | Logger) -> None:
    name, options = (logger, {}) if isinstance(logger, str) else (logger.name, logger.options)
    for option in options:
        _refuse_secret(f"loggers: option {option} of {name}", option)
    from lightex.mulogger.delivery import make_options

    sink = plugins.load(plugins.SINKS, name)
    make_options(name, sink, options)  # names the nearest where an option is unknown
    parse(sink.Options, dict(options), f"loggers.{name}", "config")


def _refuse_secret(what: str, name: str) -> None:
    if _SECRET.fullmatch(name):
        raise ConfigError(
            f"{what} looks like a secret, and configs are recorded with every run",
            "take it out of the config and export it in your shell: commands and loggers inherit the environment",
        )
