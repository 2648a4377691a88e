"""An engine in a package of its own, as its author would write it: a shell beside each command notes its end down."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from lightex.core.liveness import birth_mark
from lightex.dispatcher.capacity import this_machine
from lightex.dispatcher.engine import Engine, JobState, LaunchError

SHELL = 'trap : TERM; echo $$ >"$0.pid"; "$@"; echo $? >"$0.part"; mv "$0.part" "$0.end"'


class NohupEngine(Engine):
    """A handle is "PID:BORN PLACE", where PLACE.pid and PLACE.end are the shell's notes."""

    def __init__(self):
        self._shells = []

    def capacity(self):
        return this_machine()

    def submit(self, job, gpus):
        if shutil.which(job.command[0], path=job.env.get("PATH")) is None:
            raise LaunchError(f"command not found: {job.command[0]}")
        place, output = job.run.path / f"nohup.{job.attempt}", job.run.open_output(job.attempt)
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus), **job.env}
        shell = subprocess.Popen(
            ["/bin/sh", "-c", SHELL, str(place), *job.command], cwd=job.cwd, env=env, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        os.close(output)
        self._shells.append(shell)
        return f"{shell.pid}:{birth_mark(shell.pid)} {place}", {"pid": shell.pid}

    def find(self, job):
        place = job.run.path / f"nohup.{job.attempt}"
        try:
            pid = int(place.with_name(f"{place.name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return f"{pid}:{birth_mark(pid)} {place}", {"pid": pid}

    def poll(self, handles, wait):
        until = time.monotonic() + wait
        while not (found := {handle: end for handle in handles if (end := self._end(handle))}):
            if time.monotonic() >= until:
                break
            time.sleep(0.02)
        return found

    def _end(self, handle):
        mark, _, place = handle.partition(" ")
        pid, _, born = mark.partition(":")
        lives = birth_mark(int(pid)) == born  # asked before the end is looked for, which comes first
        with suppress(FileNotFoundError):
            code = int(Path(f"{place}.end").read_text())
            if code > 128:
                return JobState("FAILED", signal=code - 128)
            return JobState("FAILED" if code else "SUCCEEDED", exit_code=code)
        return None if lives else JobState("LOST", "lost", "its shell is gone")

    def cancel(self, handle, force=False):
        mark, _, place = handle.partition(" ")
        pid, _, born = mark.partition(":")
        if birth_mark(int(pid)) != born:
            return
        with suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL if force else signal.SIGTERM)
            if force:
                Path(f"{place}.end").write_text("137")

    def close(self):
        for shell in self._shells:
            shell.wait()
