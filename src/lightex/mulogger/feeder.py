"""The feeder: one process per user and environment that brings the records of all runs to their sinks.

It starts when a run asks for a sink, and ends when nothing is left to bring. It is a process, not a thread of the
training: a thread would hold the interpreter's lock while the training waits, and would die with it.
`python -m lightex.mulogger.feeder FOLDER --lock=DESCRIPTOR` serves the runs that are listed in FOLDER;
`python -m lightex.mulogger.feeder RUN SINK` one run of a sink that cannot share a process.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lightex.core.cache import cache_folder
from lightex.core.errors import LightexError, StorageError
from lightex.core.plugins import SINKS, load
from lightex.core.root import claimed
from lightex.core.rundir import ENDED, RunDir
from lightex.core.summary import status_of
from lightex.mulogger.delivery import Delivery, choose, chosen, progress

PERIOD = 0.5
"""Seconds between two looks for new records."""

LINGER = 3.0
"""Seconds that an idle feeder stays: the next run of a sweep is spared the imports."""

_LONGEST_PAUSE = 20.0  # seconds between two attempts at a sink that fails
_HANGS = 60.0  # seconds beyond the patience after which a sink that does not even return is left alone
_MOST_STARTS = 3  # of a process for one sink of one run, where it hangs or crashes
_STARTED: list[subprocess.Popen[bytes]] = []  # feeders of this process, to be reaped
_PREFIXES = ("MLFLOW_", "WANDB_", "CLEARML_", "TRACKIO_", "AWS_", "HF_", "DATABRICKS_", "AZURE_", "GOOGLE_", "LX_SYNC_")


def patience() -> float:
    """Seconds that a failing sink of an ended run is tried again: LX_SYNC_PATIENCE, default 60."""
    return float(os.environ.get("LX_SYNC_PATIENCE", "60"))


def timeout() -> float:
    """Seconds after which a sink in a process of its own is taken to hang: LX_SYNC_TIMEOUT, default 120."""
    return float(os.environ.get("LX_SYNC_TIMEOUT", "120"))


def spool() -> Path:
    """The folder of this environment's feeder: another interpreter, or other credentials, have one of their own."""
    named = sorted((name, value) for name, value in os.environ.items() if name.startswith(_PREFIXES))
    mark = hashlib.sha256(repr((sys.prefix, named)).encode()).hexdigest()[:12]
    return cache_folder() / "feeders" / mark


def ensure(run: RunDir) -> None:
    """See to it that a feeder serves the run: list it, and start a feeder where none lives.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    folder = spool()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        entry = _entry(folder, run)
        if not entry.exists():
            staged = entry.with_name(f".{entry.name}.{os.getpid()}")
            staged.write_text(str(run.path))
            staged.replace(entry)
        _STARTED[:] = [process for process in _STARTED if process.poll() is None]
        lock = claimed(folder / "lock", 0o600)
        if lock is not None:
            try:  # the lock goes over to the new feeder: runs that start at once start one feeder
                _STARTED.append(_start(folder / "log", [str(folder), f"--lock={lock}"], lock))
            finally:
                os.close(lock)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror}", "choose a folder for caches with LX_CACHE"
        ) from error


def look_after(run: RunDir) -> bool:
    """`ensure`, for those whose own work must go on where it fails: it says so, and is False."""
    try:
        ensure(run)
    except StorageError as error:
        print(f"lightex: {error.message}; records stay in the run, lx sync brings them over", file=sys.stderr)
        return False
    return True


def connect(run: RunDir, backends: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Make these (name, options) the run's sinks, but for those that its own process feeds.

    Returns:
        Whether a feeder is at work on them.

    Raises:
        NotFoundError: there is no such sink, or its package is missing.
        ConfigError: the options are not those of the sink.
    """
    for name, options in backends:
        if not load(SINKS, name).direct:
            choose(run, name, options)
    return bool(chosen(run)) and look_after(run)


def _entry(folder: Path, run: RunDir) -> Path:
    return folder / f"{hashlib.sha256(str(run.path).encode()).hexdigest()[:16]}.run"


def _start(log: Path, arguments: list[str], *inherited: int, **environment: str) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LX_RUN", "COVERAGE"))}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "lightex.mulogger.feeder", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            pass_fds=inherited,
            env=kept | environment,
        )


def run_alone(run: RunDir, name: str, log: Path, **environment: str) -> None:
    """Feed one sink in a process of its own, to its end; one that hangs or crashes is started again."""
    for _ in range(_MOST_STARTS):
        if _start(log, [str(run.path), name], **environment).wait() == 0:
            return


def _serve_alone(run: RunDir, name: str) -> None:
    """What that process does: where a call hangs, it says where, and ends."""
    serve(run, name, lambda: faulthandler.dump_traceback_later(timeout(), exit=True))
    sys.stdout.flush()
    os._exit(0)  # what a backend does at exit may hang as well, and all is delivered


def serve(run: RunDir, name: str, alive: Callable[[], None] = lambda: None) -> None:
    """Feed one sink until the run has ended and all is there, or until patience with the sink is at an end.

    Args:
        run: the run.
        name: of the sink.
        alive: is called before each call of the sink.
    """
    delivery: Delivery | None = None
    failing_since: float | None = None
    pause = PERIOD
    while True:
        try:
            status, reason = status_of(run)  # asked first: what it wrote before its end is then seen below
        except StorageError:
            return  # removed under us
        ended = status in ENDED
        alive()
        try:
            if delivery is None:
                delivery = Delivery(run, name)
                if not delivery.open():
                    return  # another process feeds it
            moved = delivery.feed()
            if ended and not moved:
                delivery.close(status, reason)
                return
            failing_since, pause = None, PERIOD
            if moved:
                continue
        except Exception as error:  # noqa: BLE001  whatever a backend raises is its own, and said in the run
            print(f"{time.strftime('%F %T')} {run.short_id} {name}: {type(error).__name__}: {error}", flush=True)
            delivery = None
            now = time.monotonic()
            failing_since = failing_since or now
            if ended and now - failing_since > patience():
                return
            pause = min(pause * 2, _LONGEST_PAUSE)
        time.sleep(pause)


def main(folder: Path, lock: int | None) -> None:
    """Serve all runs that are listed in a folder, until there are none; only the holder of the lock does."""
    while lock is not None:
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)  # for people who look for it
        _serve_listed(folder)
        os.close(lock)
        if not any(folder.glob("*.run")):
            return
        lock = claimed(folder / "lock", 0o600)  # a run was listed between the last look and letting go


def _serve_listed(folder: Path) -> None:
    at_work: dict[tuple[Path, str], _Worker] = {}
    given_up: set[tuple[Path, str]] = set()
    idle_since = time.monotonic()
    while at_work or time.monotonic() - idle_since < LINGER:
        for entry in folder.glob("*.run"):
            run = RunDir(entry.read_text())
            for name in _wanted(run):
                key = (run.path, name)
                if key not in at_work and key not in given_up:
                    at_work[key] = _Worker(run, name, folder)
            if not any(path == run.path for path, _ in at_work):
                # The entry goes first: a run that is taken up again is listed behind its first record.
                entry.unlink(missing_ok=True)
                if any((run.path, name) not in given_up for name in _wanted(run)):
                    entry.write_text(str(run.path))
                given_up = {key for key in given_up if key[0] != run.path}
        time.sleep(PERIOD)
        for key in [key for key, worker in at_work.items() if worker.is_done()]:
            del at_work[key]
            if key[1] in _wanted(RunDir(key[0])):
                given_up.add(key)
        if at_work:
            idle_since = time.monotonic()


class _Worker:
    """Feeds one sink of one run in a thread, which only waits for a process where the sink has to be alone."""

    def __init__(self, run: RunDir, name: str, folder: Path) -> None:
        self.run, self.name = run, name
        self.ended_since: float | None = None
        work = (lambda: run_alone(run, name, folder / "log")) if _is_alone(name) else (lambda: serve(run, name))
        self.thread = threading.Thread(target=work, name=f"{run.short_id} {name}", daemon=True)
        self.thread.start()

    def is_done(self) -> bool:
        """Whether it is through; also when it hangs long after the run has ended, and is left to itself."""
        if not self.thread.is_alive():
            return True
        if self.ended_since is None:
            try:
                if status_of(self.run)[0] not in ENDED:
                    return False
            except StorageError:  # removed under us
                pass
            self.ended_since = time.monotonic()
        if time.monotonic() - self.ended_since < patience() + _HANGS:
            return False
        print(f"{time.strftime('%F %T')} {self.run.short_id} {self.name}: does not answer, left", flush=True)
        return True


def _wanted(run: RunDir) -> list[str]:
    """The sinks that have not been told the end of the run."""
    try:
        return [name for name in chosen(run) if progress(run, name).closed is None]
    except (StorageError, FileNotFoundError):  # removed under us
        return []


def _is_alone(name: str) -> bool:
    try:
        return bool(load(SINKS, name).alone)
    except LightexError:  # `serve` meets it again, and says so in the run
        return False


if __name__ == "__main__":
    os.nice(10)  # the training goes first
    if sys.argv[2].startswith("--lock="):
        main(Path(sys.argv[1]), int(sys.argv[2].removeprefix("--lock=")))
    else:
        _serve_alone(RunDir(sys.argv[1]), sys.argv[2])
