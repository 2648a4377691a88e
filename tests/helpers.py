"""What tests of real processes share."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from lightex.core import journal
from lightex.core.rundir import RunDir

LX = [sys.executable, "-c", "from lightex.cli import main; main()"]


def supervisors(pid):
    """Those of a keeper's children that are supervisors, not experiments that one has left behind."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"lightex.cli" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def kill_supervisor(keeper):
    """SIGKILL to the one that a keeper stands above; returns when there is another."""
    (supervisor,) = wait_for(lambda: supervisors(keeper.pid))
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: [pid for pid in supervisors(keeper.pid) if pid != supervisor])


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def make_run(root, name, hp=None, *records, experiment="demo", state="SUCCEEDED", config=None, **identity):
    """A run of a root that is what it is told to be; returns its directory.

    Args:
        root: the folder of runs.
        name: SWEEP-NUMBER, or any text.
        hp: its parameters.
        records: what it logged.
        experiment: its experiment.
        state: its last event; None: it is running, by a process that is not known.
        config: more of its config.
        identity: more of run.json.
    """
    about = {"id": name, "experiment": experiment, "command": ["true"], "sweep": None, "created": 1000.0, **identity}
    run = RunDir.create(Path(root) / experiment / f"260101-000000-{name}", about, {"hp": hp or {}, **(config or {})},
                        {"time": 1000.0, "state": "QUEUED", "attempt": 1})  # fmt: skip
    run.append_event({"time": 1001.0, "state": "RUNNING", "attempt": 1})
    if records:
        journal.append(run.records_file(), *map(journal.jsonable, records))
    if state:
        run.append_event({"time": 1061.0, "state": state, "attempt": 1, "exit_code": 0})
    return run
