"""What tests of real processes share."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

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
