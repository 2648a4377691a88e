"""Attaching to the run that a dispatcher started, or starting one on the spot."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.journal import cut_torn_line, open_for_append
from lightex.core.liveness import alive, host, process_mark, user
from lightex.core.root import Root, claim, random_letters
from lightex.core.root import run_id as name_of_run
from lightex.core.rundir import RUNNING, RunDir
from lightex.mulogger.environment import environment
from lightex.mulogger.run import Run, verdict

if TYPE_CHECKING:
    from lightex.core.taxonomy import Logger
    from lightex.mulogger.sink import Sink

Backend = tuple[str, Mapping[str, Any]]
"""A sink's name and options."""

_MOST_WRITERS = 10_000
_JOIN = "LX_JOIN"  # "PID:DIR" of a local run: processes that PID starts join it, as they do a dispatched one


def start_run(
    experiment: str | None = None,
    *,
    params: Any = None,
    tags: Mapping[str, Any] | None = None,
    root: str | os.PathLike[str] | None = None,
    resume: str | None = None,
    loggers: Sequence[str | Logger] = (),
    on_full: Literal["wait", "raise"] | None = None,
) -> Run:
    """The run to log to. Inside a command that `lx run` started it is that run; elsewhere a new, local one.

    Args:
        experiment: names the folder of a local run; default: the name of the script.
        params: parameters to record at once (as `run.log_params`).
        tags: labels to record at once.
        root: folder for local runs; default: LX_ROOT, or `runs/` beside lxconfig.py, or `runs/` here.
        resume: id (or a unique prefix) of an earlier local run to go on with.
        loggers: backends beside those of the config, by name, or with options: Logger("mlflow", {...}).
        on_full: what a full disk does: "wait" keeps up to 16 MiB of records in memory until there is room, "raise"
            ends the training with an error at once; default: LX_ON_FULL, or "wait".

    Raises:
        LightexError: the folder cannot be written, there is no such run to go on with, or no such backend.
    """
    backends = [(item, {}) if isinstance(item, str) else (item.name, item.options) for item in loggers]
    for name, options in backends:
        _sink_class(name, options)
    joined = os.environ.get(_JOIN, "").partition(":")
    if resume is not None:
        directory, owned = _go_on(Root.locate(root), resume), True
    elif root is None and (dispatched := os.environ.get("LX_RUN_DIR")):
        directory, owned = RunDir(dispatched), False
    elif root is None and joined[2] and joined[0] != str(os.getpid()) and Path(joined[2]).is_dir():
        directory, owned = RunDir(joined[2]), False  # a process that a local run has started
    else:
        directory = _start_local(Root.locate(root), experiment or Path(sys.argv[0]).stem or "local")
        owned = True
    waits = (on_full or os.environ.get("LX_ON_FULL", "wait")) != "raise"
    run = _attach(directory, owned, backends, waits)
    if owned:
        os.environ[_JOIN] = f"{os.getpid()}:{directory.path}"
    atexit.register(_finish_at_exit, run)
    if params is not None:
        run.log_params(params)
    if tags:
        run.set_tags(tags)
    return run


def MultiLogger(loggers: Sequence[str | Logger], **arguments: Any) -> Run:  # noqa: N802  read as a class
    """A run that logs to these backends, one call to all of them, `.to("mlflow")` to one; else as `start_run`."""
    return start_run(loggers=loggers, **arguments)


def configured(directory: RunDir) -> list[Backend]:
    """The loggers of the run's config."""
    given = directory.config.get("loggers") or []
    return [(item, {}) if isinstance(item, str) else (item["name"], item.get("options") or {}) for item in given]


def _sink_class(name: str, options: Mapping[str, Any]) -> type[Sink]:
    """The class of a backend's sink, its options checked. Imported here: a run without backends is spared it."""
    from lightex.core import plugins
    from lightex.mulogger.delivery import make_options

    kind: type[Sink] = plugins.load(plugins.SINKS, name)
    make_options(name, kind, options)
    return kind


def _attach(directory: RunDir, owned: bool, backends: Sequence[Backend], waits: bool) -> Run:
    if not directory.path.is_dir():
        raise NotFoundError(f"LX_RUN_DIR is {directory.path}, which does not exist", "unset it to start a local run")
    descriptor, writer = _open_writer(directory, 0 if owned else _rank())
    events = directory.events() if owned else []
    attempt = events[-1].get("attempt", 1) if events else int(os.environ.get("LX_ATTEMPT", "1"))
    if writer == 0:
        directory.environment = environment()
    connect = writer == 0 and (backends or directory.sinks.is_dir() or configured(directory))
    feed, direct = _connect(directory, owned, backends) if connect else (None, {})
    return Run(directory, descriptor, writer, attempt, owned, _open_writer, feed, direct, waits)


def _connect(
    directory: RunDir, owned: bool, backends: Sequence[Backend]
) -> tuple[Callable[[RunDir], bool] | None, dict[str, Sink]]:
    """What keeps the run's sinks fed, if that is for this process to do; and the sinks that it feeds itself.

    The loggers of a dispatched run's config are the dispatcher's, so that images and nodes need no backend's package.
    """
    from lightex.mulogger import delivery, feeder

    fed = feeder.connect(directory, backends) if owned or backends else False
    direct: dict[str, Sink] = {}
    for name, options in [*configured(directory), *backends]:
        try:
            kind = _sink_class(name, options)
        except NotFoundError:  # it is installed where the dispatcher is: that has checked it, and feeds it
            continue
        if kind.direct:
            direct[name] = kind(delivery.source(directory), delivery.make_options(name, kind, options))
            direct[name].open()
    return (feeder.look_after if fed else None), direct


def _open_writer(directory: RunDir, first: int) -> tuple[int, int]:
    """The first file of records, from a number on, that no other living writer holds.

    Returns:
        An open descriptor, and the number of the file.
    """
    for writer in range(first, first + _MOST_WRITERS):
        path = directory.records_file(writer)
        try:
            descriptor = open_for_append(path)
            if claim(descriptor):
                cut_torn_line(descriptor)
                return descriptor, writer
        except OSError as error:
            raise LightexError(f"cannot write {path}: {error.strerror}") from error
        os.close(descriptor)
    raise LightexError(f"{_MOST_WRITERS} programs write to {directory.path} already")


def _rank() -> int:
    """This process's rank: RANK (torchrun, accelerate), else those of Open MPI and Slurm; 0 outside them."""
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        if (text := os.environ.get(name, "")).isdigit():
            return int(text)
    return 0


def _start_local(root: Root, experiment: str) -> RunDir:
    created = time.time()
    identity = {
        "id": (run_id := name_of_run(created, random_letters(5))),
        "experiment": experiment,
        "command": [sys.executable, *sys.argv],
        "engine": "local",
        "user": user(),
        "host": host(),
        "cwd": str(Path.cwd()),
        "created": created,
    }
    event = {"time": created, "state": RUNNING, "attempt": 1, "process": process_mark(os.getpid())}
    return RunDir.create(root.path / experiment / run_id, identity, {}, event)


def _go_on(root: Root, prefix: str) -> RunDir:
    directory = root.find_run(prefix)
    events = directory.events()
    if events and events[-1].get("state") == RUNNING and alive(events[-1].get("process")):
        raise LightexError(f"run {directory.short_id} is still running", "start a run of its own, or wait for its end")
    directory.cut_torn_event()
    attempt = 1 + max((event.get("attempt", 1) for event in events), default=0)
    event = {"time": time.time(), "state": RUNNING, "attempt": attempt, "process": process_mark(os.getpid())}
    directory.append_event(event)
    return directory


def _finish_at_exit(run: Run) -> None:
    """A program that forgot `finish` has ended: as its last uncaught exception says, if there was one."""
    run.finish(*verdict(getattr(sys, "last_value", None)))
