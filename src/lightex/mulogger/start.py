"""Attaching to the run that a dispatcher started, or starting one on the spot."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.journal import cut_torn_line, open_for_append
from lightex.core.liveness import alive, host, process_mark, user
from lightex.core.root import Root, claim
from lightex.core.rundir import RUNNING, RunDir
from lightex.mulogger.run import Run, verdict

_MOST_WRITERS = 10_000


def start_run(
    experiment: str | None = None,
    *,
    params: Any = None,
    tags: Mapping[str, Any] | None = None,
    root: str | os.PathLike[str] | None = None,
    resume: str | None = None,
) -> Run:
    """The run to log to. Inside a command that `lx run` started it is that run; elsewhere a new, local one.

    Args:
        experiment: names the folder of a local run; default: the name of the script.
        params: parameters to record at once (as `run.log_params`).
        tags: labels to record at once.
        root: folder for local runs; default: LX_ROOT, or `runs/` beside lxconfig.py, or `runs/` here.
        resume: id (or a unique prefix) of an earlier local run to go on with.

    Raises:
        LightexError: the folder cannot be written, or there is no such run to go on with.
    """
    dispatched = os.environ.get("LX_RUN_DIR")
    if dispatched and resume is None and root is None:
        run = _attach(RunDir(dispatched), int(os.environ.get("LX_ATTEMPT", "1")), owned=False)
    elif resume is not None:
        run = _go_on(Root.locate(root), resume)
    else:
        run = _start_local(Root.locate(root), experiment or Path(sys.argv[0]).stem or "local")
    atexit.register(_finish_at_exit, run)
    if params is not None:
        run.log_params(params)
    if tags:
        run.set_tags(tags)
    return run


def _attach(directory: RunDir, attempt: int, owned: bool) -> Run:
    """Take the first file of records that no other living writer holds."""
    if not directory.path.is_dir():
        raise NotFoundError(f"LX_RUN_DIR is {directory.path}, which does not exist", "unset it to start a local run")
    for writer in range(_MOST_WRITERS):
        path = directory.records_file(writer)
        try:
            descriptor = open_for_append(path)
            if claim(descriptor):
                cut_torn_line(descriptor)
                return Run(directory, descriptor, attempt, owned)
        except OSError as error:
            raise LightexError(f"cannot write {path}: {error.strerror}") from error
        os.close(descriptor)
    raise LightexError(f"{_MOST_WRITERS} programs write to {directory.path} already")


def _start_local(root: Root, experiment: str) -> Run:
    created = time.time()
    identity = {
        "id": (run_id := root.new_run_id(created)),
        "experiment": experiment,
        "command": [sys.executable, *sys.argv],
        "engine": "local",
        "user": user(),
        "host": host(),
        "cwd": str(Path.cwd()),
        "created": created,
    }
    event = {"time": created, "state": RUNNING, "attempt": 1, "process": process_mark(os.getpid())}
    directory = RunDir.create(root.path / experiment / run_id, identity, {}, event)
    return _attach(directory, 1, owned=True)


def _go_on(root: Root, prefix: str) -> Run:
    found = root.find(prefix)
    if len(found) != 1:
        raise NotFoundError(f"'{prefix}' means {len(found)} runs", "name one of them")
    directory = found[0]
    events = directory.events()
    if events and events[-1].get("state") == RUNNING and alive(events[-1].get("process")):
        raise LightexError(f"run {directory.short_id} is still running", "start a run of its own, or wait for its end")
    directory.cut_torn_event()
    attempt = 1 + max((event.get("attempt", 1) for event in events), default=0)
    event = {"time": time.time(), "state": RUNNING, "attempt": attempt, "process": process_mark(os.getpid())}
    directory.append_event(event)
    return _attach(directory, attempt, owned=True)


def _finish_at_exit(run: Run) -> None:
    """A program that forgot `finish` has ended: as its last uncaught exception says, if there was one."""
    run.finish(*verdict(getattr(sys, "last_value", None)))
