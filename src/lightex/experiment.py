"""The composition: named configs become planned experiments, recorded runs, and jobs for the dispatcher."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightex.core import plugins
from lightex.core.errors import ConfigError, LightexError
from lightex.core.journal import jsonable
from lightex.core.liveness import host, user
from lightex.core.root import Root, SweepDir, run_id
from lightex.core.rundir import ENDED, QUEUED, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Experiment, Logger, Resources
from lightex.dispatcher.death import judge
from lightex.dispatcher.engine import Engine, JobState
from lightex.dispatcher.job import Job
from lightex.dispatcher.keeper import Kept
from lightex.dispatcher.queue import Adopted, Queue, Watcher
from lightex.namedconf.export import environment
from lightex.namedconf.fingerprint import fingerprint
from lightex.namedconf.quick import parse
from lightex.namedconf.registry import Registry
from lightex.namedconf.resolve import Expansion, expand
from lightex.namedconf.template import render, render_text
from lightex.namedconf.tree import to_tree
from lightex.storage import snapshot

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUESTS = 0.2  # seconds between two looks for requests
_CUT_OFF_LOOKS = 10  # for a job whose submission was cut off, 50 ms apart
_LOOK = 2.0  # seconds between two looks whether the loggers' feeder lives
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
    """All experiments of one `lx run`, checked."""

    name: str
    expansion: Expansion
    project: Path
    overrides: tuple[str, ...]
    experiments: list[Planned]

    @property
    def engine(self) -> str:
        """The name of the engine."""
        return self.experiments[0].config.engine

    def without(self, fingerprints: set[str]) -> Plan:
        """The plan less the experiments with these fingerprints."""
        left = [planned for planned in self.experiments if planned.fingerprint not in fingerprints]
        return Plan(self.name, self.expansion, self.project, self.overrides, left)


def make_plan(
    registry: Registry, name: str, overrides: Sequence[str] = (), samples: int | None = None, seed: int = 0
) -> Plan:
    """Enumerate and check everything that `lx run NAME OVERRIDES` would run. Nothing is written.

    Raises:
        ConfigError: a config, an override, a template or a combination of them is not valid.
        NotFoundError: there is no such config, engine or logger.
    """
    expansion = expand(registry.get(name), overrides, registry, samples=samples, seed=seed)
    planned = [_planned(point.config, point.varied, registry.folder) for point in expansion.points]
    _check_distinct(planned)
    engines = {item.config.engine for item in planned}
    if len(engines) > 1:
        raise ConfigError(f"a sweep runs on one engine, this one names {', '.join(sorted(engines))}")
    plan = Plan(expansion.name, expansion, registry.folder, tuple(overrides), planned)
    _check_possible(plan)
    return plan


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


def record(plan: Plan, root: Root, command_line: Sequence[str]) -> tuple[SweepDir, Work]:
    """Write a plan down as a sweep of queued runs: all of it, or nothing.

    Raises:
        StorageError: the folder cannot be written; what was written is removed.
    """
    created = time.time()
    experiments = sorted({item.config.name for item in plan.experiments})
    about = {
        "config_name": plan.name,
        "overrides": list(plan.overrides),
        "command_line": list(command_line),
        "project": str(plan.project),
        "experiments": experiments,
        "total": len(plan.experiments),
        "host": host(),
        "user": user(),
        "created": created,
    }
    sweep = root.new_sweep(about)
    jobs: list[Job] = []
    try:
        sweep.claim()
        code = snapshot.take(plan.project, sweep.path)
        width = max(3, len(str(len(plan.experiments) - 1)))
        identity: dict[str, Any] = {
            "sweep": sweep.id,
            "config_name": plan.name,
            "config_reference": plan.expansion.reference,
        }
        identity |= {
            "engine": plan.engine,
            "created": created,
            "user": about["user"],
            "host": about["host"],
            "git": code.commit,
        }
        for index, item in enumerate(plan.experiments):
            name = run_id(created, f"{sweep.id}-{index:0{width}d}")
            own = {
                "id": name,
                "experiment": item.config.name,
                "index": index,
                "fingerprint": item.fingerprint,
                "command": item.command,
                "env": item.env,
                "cwd": str(item.cwd),
                "varied": item.varied,
            }
            event = {"time": created, "state": QUEUED, "attempt": 1}
            path = root.path / item.config.name / name
            run = RunDir.create(path, own | identity, item.tree, event, lambda run: code.link_into(run.path))
            jobs.append(_job(run, own, item.tree, 1, code.digest))
    except BaseException:  # Ctrl-C too: half a sweep is worse than none
        for job in jobs:
            shutil.rmtree(job.run.path, ignore_errors=True)
        shutil.rmtree(sweep.path, ignore_errors=True)
        for folder in (*(root.path / str(name) for name in experiments), sweep.path.parent, root.path):
            with suppress(OSError):  # others have runs there
                folder.rmdir()
        raise
    return sweep, Work(jobs, [], Counter())


@dataclass(frozen=True)
class Work:
    """What is to be done of a sweep: runs to start, runs to look after, and how many are left as they are, by state."""

    jobs: list[Job]
    adopted: list[Adopted]
    left: Counter[str]


def reopen(sweep: SweepDir, *, again: bool) -> Work:
    """What of a sweep is to be done. What runs is looked after; the ends of what nobody watched are in the ledger.

    Args:
        sweep: the sweep; this process becomes its dispatcher where it is not yet.
        again: whether what has failed, was cancelled or lost is queued again, with the code as it is now.

    Raises:
        LightexError: another dispatcher is at work on the sweep, or its runs cannot be written.
    """
    if not sweep.claim():
        raise LightexError(
            f"sweep {sweep.id} is being run by another lx",
            f"watch it with: lx attach {sweep.id}",
            f"or end it first: lx stop {sweep.id}",
        )
    runs = sweep.runs()
    engine = Kept(load_engine(str(runs[0].identity["engine"])), sweep.ledger) if runs else None
    claimed = {event.get("handle") for run in runs for event in run.events()}
    work = Work([], [], Counter())
    project = Path(str(sweep.about.get("project")))
    code: snapshot.Snapshot | None = None
    for run in runs:
        run.cut_torn_event()
        events = run.events()
        last = events[-1]
        state, attempt = last.get("state"), int(last.get("attempt", 1))
        if state == SUCCEEDED or (state in ENDED and not again):
            work.left[str(state)] += 1
            continue
        job = _job(run, run.identity, run.config, attempt, None)
        if state in (SUBMITTED, RUNNING) and engine:
            adopted = _adopt(job, last, engine, claimed)
            lost = engine.lost(adopted.handle) if adopted and again else None
            if adopted and not lost:
                work.adopted.append(adopted)
                continue
            if lost:
                end = judge(run, lost)
                state = end.state
                run.append_event({"time": time.time(), "attempt": attempt} | end.known())
                if state == SUCCEEDED:
                    work.left[state] += 1
                    continue
        if state in ENDED:
            attempt += 1
            run.append_event({"time": time.time(), "state": QUEUED, "attempt": attempt})
        code = code or snapshot.take(project, sweep.path)
        code.link_into(run.path)
        work.jobs.append(replace(job, attempt=attempt, env={**job.env, "LX_ATTEMPT": str(attempt)}, code=code.digest))
    if not work.jobs and not work.adopted:
        sweep.release()
    return work


def _adopt(job: Job, last: Mapping[str, Any], engine: Kept, claimed: set[Any]) -> Adopted | None:
    """A job that was submitted, as one to look after; None if it never started.

    Of a submission that was cut off before its handle was noted down, the process is looked for; where it has ended
    already, it is the one end in the ledger that no run claims.
    """
    if last.get("state") == RUNNING and isinstance(last.get("handle"), str):
        return Adopted(job, last["handle"], float(last["time"]), tuple(last.get("gpus") or ()))
    handle = None
    for _ in range(_CUT_OFF_LOOKS):  # it may be about to start its command, or about to be collected by the keeper
        handle = engine.find(job) or engine.cut_off(float(last.get("time", 0.0)), claimed)
        if handle is not None:
            break
        time.sleep(0.05)
    if handle is None:
        return None
    claimed.add(handle)
    job.run.append_event({"time": time.time(), "state": RUNNING, "attempt": job.attempt, "handle": handle})
    return Adopted(job, handle, time.time())


def supervise(
    sweep: SweepDir, work: Work, *, slots: int | None, fail_fast: bool, watch: Watcher
) -> tuple[Counter[str], str | None]:
    """Run jobs to their ends. Ctrl-C, SIGTERM and a closed terminal stop them cleanly; a second one kills.

    Returns:
        How many runs ended in which state, and why it was stopped if it was.
    """
    everything = [*work.jobs, *(each.job for each in work.adopted)]
    name = str(everything[0].run.identity["engine"])
    engine = Kept(load_engine(name), sweep.ledger)
    watch = _feeding(everything, watch)
    queue = Queue(
        work.jobs, engine, name, slots=slots, fail_fast=fail_fast, watch=_requests(sweep, watch), adopted=work.adopted
    )
    with _stopping(queue.stop):
        try:
            ended = queue.run()
        finally:
            sweep.release()
    return ended, queue.stopping


def _requests(sweep: SweepDir, watch: Watcher) -> Watcher:
    """A watcher that also does what `lx stop` asks for."""
    look_at = 0.0

    def wrapped(queue: Queue, job: Job | None, state: JobState | None) -> None:
        nonlocal look_at
        if job is None and time.monotonic() > look_at:
            look_at = time.monotonic() + _REQUESTS
            for request in sweep.take_requests():
                queue.stop_runs(request.get("runs"), str(request.get("reason")), bool(request.get("kill")))
        watch(queue, job, state)

    return wrapped


def load_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        NotFoundError: there is none, or a package that it needs is missing.
    """
    engine: Engine = plugins.load(plugins.ENGINES, name)()
    return engine


def _feeding(jobs: Sequence[Job], watch: Watcher) -> Watcher:
    """A watcher that has the loggers of the config fed as well, and looks after their feeder."""
    if not any(job.run.config.get("loggers") for job in jobs):
        return watch
    from lightex.mulogger import feeder
    from lightex.mulogger.start import configured

    fed: dict[str, RunDir] = {}
    look_at = 0.0

    def wrapped(queue: Queue, job: Job | None, state: JobState | None) -> None:
        nonlocal look_at
        if job and state and state.state == RUNNING and feeder.connect(job.run, configured(job.run)):
            fed[job.run.id] = job.run
        elif job and state and state.state in ENDED:
            fed.pop(job.run.id, None)
        elif fed and time.monotonic() > look_at:
            look_at = time.monotonic() + _LOOK
            for run in fed.values():
                feeder.look_after(run)
        watch(queue, job, state)

    return wrapped


@contextmanager
def _stopping(stop: Callable[[str], None]) -> Iterator[None]:
    words = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the terminal was closed"}
    before = {number: signal.signal(number, lambda number, _: stop(words[signal.Signals(number)])) for number in words}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _planned(config: Experiment[Any], varied: Mapping[str, Any], project: Path) -> Planned:
    if not _NAME.fullmatch(config.name):
        raise ConfigError(f"name: {config.name!r} cannot name a folder", "use letters, digits, '.', '_' and '-'")
    if (config.command is None) == (config.target is None):
        found = "neither" if config.command is None else "both"
        raise ConfigError(f"{config.name}: an experiment has a command or a target, this one has {found}")
    folders = {name: str((project / path).absolute()) for name, path in config.storage.dirs.items()}
    context = {
        "hp": config.hp,
        "dirs": folders,
        "name": config.name,
        "resources": config.resources,
        "tags": config.tags,
    }
    if config.command is not None:
        command = render(config.command, context)
        if not command:
            raise ConfigError(f"{config.name}: the command is empty: {config.command!r}")
    else:
        command = [sys.executable, "-m", "lightex.target", str(config.target)]
    for name in config.env:
        _refuse_secret(f"env.{name}", name)
    tree = to_tree(config)
    return Planned(
        config=config,
        tree=tree,
        varied={name: _plain(value) for name, value in varied.items()},
        fingerprint=fingerprint(config, tree),
        command=command,
        env={name: render_text(text, context) for name, text in config.env.items()},
        cwd=(project / (config.cwd or "")).absolute(),
    )


def _plain(value: Any) -> Any:
    return jsonable(to_tree(value) if hasattr(value, "__dataclass_fields__") else value)


def _check_distinct(planned: Sequence[Planned]) -> None:
    seen: dict[str, int] = {}
    for number, item in enumerate(planned, start=1):
        first = seen.setdefault(item.fingerprint, number)
        if first != number:
            raise ConfigError(
                f"experiments {first} and {number} of {len(planned)} are equal: {item.varied}",
                "the same config twice gives the same result: take one out, or vary a seed (hp.seed=0,1)",
            )


def _check_possible(plan: Plan) -> None:
    """What can be known before anything starts: that the engine, the loggers and the resources exist."""
    if not plan.experiments:
        raise ConfigError(f"{plan.name} has no experiments")
    for logger in {repr(each): each for item in plan.experiments for each in item.config.loggers}.values():
        _check_logger(logger)
    capacity = load_engine(plan.engine).capacity()
    needs: dict[Resources, Planned] = {item.config.resources: item for item in plan.experiments}
    for resources, item in needs.items():
        if capacity and (lacks := capacity.lacks(resources)):
            raise ConfigError(
                f"{item.config.name} can never run on this machine: it {lacks}",
                f"given: {resources}",
                "lower resources.*, or run it elsewhere (-e ENGINE)",
            )


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


def _job(run: RunDir, identity: Mapping[str, Any], config: Mapping[str, Any], attempt: int, code: str | None) -> Job:
    given = config.get("resources") or {}
    env = {
        "LX_RUN_DIR": str(run.path),
        "LX_RUN_ID": run.id,
        "LX_SWEEP": str(identity.get("sweep", run.id)),
        "LX_ATTEMPT": str(attempt),
        **(environment({"hp": config["hp"]}) if config.get("hp") is not None else {}),
        **identity["env"],
    }
    return Job(
        run=run,
        command=tuple(identity["command"]),
        env=env,
        cwd=Path(identity["cwd"]),
        resources=Resources(**given),
        timeout=config.get("timeout"),
        grace=config.get("grace", 10.0),
        attempt=attempt,
        code=code,
    )
