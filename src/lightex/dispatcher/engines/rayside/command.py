"""What runs on a node, within one of Ray's tasks: a command, from its start to its end.

Ray gets this module by value, so that nodes need no LightEx: it imports nothing but Python's own modules, and `proc`
and `liveness`, which go with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightex.core.liveness import birth_mark
from lightex.dispatcher.proc import Sessions, count

Order = Mapping[str, Any]
"""A job as nodes are told it: see `orders.order_of`."""

_WARDEN = Path(__file__).with_name("warden.py").read_text()
_OF_RAY = (
    "RAY_JOB_ID",
    "RAY_RAYLET_PID",
    "RAY_LD_PRELOAD_ON_WORKERS",
    "SPT_NOENV",
    "PYTHONBREAKPOINT",
    "OMP_NUM_THREADS",
)
_LOOK = 0.05  # seconds between two looks at the command where the system cannot tell of its end (no pidfd)
_LEAST, _MOST = 1.0, 10.0  # seconds between two samples of what a command uses
_LOOKS = 60  # samples within a command's age: it is looked at less often the longer it runs
_OLD = 86400.0  # seconds after which unpacked code that nobody uses is removed
_wardens: list[subprocess.Popen[bytes]] = []  # of this worker: one at the most


class NotStartedError(Exception):
    """A command cannot be started; says why."""


def run(order: Order, rank: int, owner: Any) -> dict[str, Any]:
    """Run a command on this node.

    Args:
        order: what.
        rank: which of the job's nodes this is.
        owner: the actor that is told of its start, and tells when it is to end.

    Returns:
        How it ended, as JobState has it.
    """
    try:
        more = _meet(order, rank, owner) if order["nodes"] > 1 else {}
        with _folder(order) as folder:
            return _run(order, rank, {**_environment(order), **more}, folder, owner)
    except NotStartedError as error:
        return {"state": "FAILED", "cause": "launch", "reason": str(error)}


def _run(order: Order, rank: int, environment: Mapping[str, str], folder: str, owner: Any) -> dict[str, Any]:
    """Start a command in a folder, and wait for its end."""
    key = f"{order['name']}/{rank}"
    names = ("LX_RUN_DIR", "LX_ATTEMPT", *(("NODE_RANK",) if order["nodes"] > 1 else ()))
    marks = [f"{name}={environment[name]}" for name in names if name in environment]
    if marks:
        _tell_warden("+", key, *marks)
    process = _start(list(order["command"]), environment, folder, _open_output(order, rank))
    began = time.monotonic()
    try:
        _tell_warden("g", key, process.pid)
        mark = _mark(process.pid)
        meter = _Meter(process.pid, lambda used: owner.used.remote(order["name"], rank, used))
        code, usage = _wait(process, lambda: owner.began.remote(order["name"], rank, mark), order["grace"], meter)
    finally:  # an exception, too, as Ray raises it in a task that it cancels: it had not heard yet that it runs
        if process.returncode is None:
            _end(process.pid, order["grace"])
        _tell_warden("-", key)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): KiB on Linux
    return {
        "state": "FAILED" if code else "SUCCEEDED",
        "exit_code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "peak_memory": usage.ru_maxrss * unit,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "duration": round(time.monotonic() - began, 3),
    }


def _start(command: list[str], environment: Mapping[str, str], folder: str, output: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        where = "" if os.sep in command[0] else f" on PATH ({environment.get('PATH')})"
        raise NotStartedError(f"command not found on {socket.gethostname()}: {command[0]}{where}") from error
    except OSError as error:
        raise NotStartedError(f"cannot start {command[0]}: {error.strerror}") from error
    except ValueError as error:  # a null byte in an argument
        raise NotStartedError(f"cannot start {command[0]!r}: {error}") from error
    finally:
        os.close(output)


class _Meter:
    """What a command uses, told now and then."""

    def __init__(self, leader: int, tell: Callable[[dict[str, Any]], Any]) -> None:
        self._leader, self._tell = leader, tell
        self._sessions = Sessions()
        self._began = self._at = time.monotonic()
        self._cpu_seconds: float | None = None
        self.due = self._began + _LEAST

    def look(self) -> None:
        """Tell, if it is time: cores in use since the last look, and what else `proc` counts."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + min(_MOST, max(_LEAST, (now - self._began) / _LOOKS))
        members = self._sessions.members([self._leader])[self._leader]
        if not members:
            return
        found = count(members)
        cpu_seconds = found.pop("cpu_seconds")
        if self._cpu_seconds is not None:
            self._tell({"cores": max(0.0, cpu_seconds - self._cpu_seconds) / (now - self._at), **found})
        self._cpu_seconds, self._at = cpu_seconds, now


class _Bell:
    """What another thread says, for a thread that waits for descriptors."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self._lock = threading.Lock()
        self._open = True
        self.heard: list[str] = []

    def ring(self, future: Any) -> None:
        """A wish of the owner has come; where it is gone, nobody wants the command any more."""
        with self._lock:
            self.heard.append("gone" if future.exception() else future.result())
            if self._open:
                os.write(self._writer, b".")

    def close(self) -> None:
        """Hear nothing more."""
        with self._lock:
            self._open = False
            os.close(self.reader)
            os.close(self._writer)


def _wait(process: subprocess.Popen[bytes], begin: Callable[[], Any], grace: float, meter: _Meter) -> tuple[int, Any]:
    """Wait for the end of a command, ending it when its owner wishes so; returns its code (as Popen) and its usage.

    Args:
        process: the command, which leads a process group.
        begin: tells the owner that it runs; the answer comes when it is to "end", and is asked for again for "kill".
        grace: seconds between SIGTERM and SIGKILL.
        meter: tells what it uses.
    """
    bell = _Bell()
    pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
    poller = select.poll()
    poller.register(bell.reader, select.POLLIN)
    if pidfd is not None:
        poller.register(pidfd, select.POLLIN)
    kill_at = float("inf")
    wish = begin()
    wish.future().add_done_callback(bell.ring)
    try:
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            meter.look()
            waits = min(max(0.0, min(kill_at, meter.due) - time.monotonic()), _MOST if pidfd is not None else _LOOK)
            ready = [descriptor for descriptor, _ in poller.poll(waits * 1000 + 1)]
            if bell.reader in ready:
                os.read(bell.reader, 1)
                word = bell.heard.pop(0)
                _signal(process.pid, signal.SIGKILL if word == "kill" else signal.SIGTERM)
                kill_at = min(kill_at, time.monotonic() + grace)
                if word == "end":
                    wish = begin()
                    wish.future().add_done_callback(bell.ring)
            elif time.monotonic() >= kill_at:
                _signal(process.pid, signal.SIGKILL)
                kill_at = float("inf")
    finally:
        bell.close()
        if pidfd is not None:
            os.close(pidfd)
    _signal(process.pid, signal.SIGKILL)  # what is left of its group, before its number can be given anew
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _end(leader: int, grace: float) -> None:
    """SIGTERM to a command, and SIGKILL when its grace (seconds) is over."""
    _signal(leader, signal.SIGTERM)
    until = time.monotonic() + grace
    while time.monotonic() < until and os.waitid(os.P_PID, leader, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(_LOOK)
    _signal(leader, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # ended; or (macOS) only a zombie is left
        os.killpg(group, number)


def _mark(pid: int) -> dict[str, Any]:
    import ray

    node = ray.get_runtime_context().get_node_id()
    born = birth_mark(pid, zombies=True) or ""
    return {"host": socket.gethostname(), "pid": pid, "born": born, "bounds": [], "node": node}


def _tell_warden(*words: Any) -> None:
    if not _wardens or _wardens[0].poll() is not None:
        _wardens[:] = [
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WARDEN],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        ]
    pipe = _wardens[0].stdin
    if pipe:
        with suppress(BrokenPipeError):  # somebody has killed it: the next command gets a new one
            pipe.write(json.dumps(words).encode() + b"\n")
            pipe.flush()


def _environment(order: Order) -> dict[str, str]:
    """The environment of the command: the node's less what is Ray's, or (a Ray of lx's own) that of who asked."""
    here = {name: value for name, value in os.environ.items() if name not in _OF_RAY}
    base = {name: value for name, value in here.items() if name.endswith(("VISIBLE_DEVICES", "VISIBLE_CORES"))}
    found = {"PYTHONUNBUFFERED": "1", **(order["base"] or here), **base}
    found |= order["runtime_env"].get("env_vars", {})
    if not order["gpus"]:
        found["CUDA_VISIBLE_DEVICES"] = ""
    found.setdefault("OMP_NUM_THREADS", str(max(1, -int(-order["cpus"] // 1))))
    scripts, paths = sysconfig.get_path("scripts"), found.get("PATH", os.defpath).split(os.pathsep)
    if (
        sys.prefix != sys.base_prefix
        and scripts not in paths
        and not (order["base"] and "VIRTUAL_ENV" in order["base"])
    ):
        found["PATH"] = os.pathsep.join([scripts, *paths])
    return {**found, **order["env"]}


def _meet(order: Order, rank: int, owner: Any) -> dict[str, str]:
    """Wait until all nodes of a job are there; returns the variables by which they find each other."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    own = ray.get_runtime_context().get_node_id()
    address, port = ray.get(owner.meet.remote(order["name"], rank, own, port))
    known = {"MASTER_ADDR": address, "MASTER_PORT": port, "WORLD_SIZE": order["nodes"], "NODE_RANK": rank, "RANK": rank}
    return {name: str(value) for name, value in known.items()}


def _open_output(order: Order, rank: int) -> int:
    run, node = order["run"], socket.gethostname()
    if not Path(run).is_dir():
        raise NotStartedError(f"node {node} does not see {run}: keep runs where all nodes do (--root, LX_ROOT)")
    path = f"{run}/output.log" if rank == 0 else f"{run}/output.{rank}.log"
    try:
        output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise NotStartedError(f"node {node} cannot write {path}: {error.strerror}") from error
    if order["attempt"] > 1:
        os.write(output, f"--- attempt {order['attempt']} ---\n".encode())
    return output


@contextmanager
def _folder(order: Order) -> Iterator[str]:
    """The folder that a command works in; unpacked code is held as long as it is used."""
    cwd, code, archive = order["cwd"], order["code"], order["archive"]
    if code == "own":  # of the runtime environment: Ray has put this process there
        yield str(Path.cwd())
        return
    if code == "shared" or (code is None and Path(cwd).is_dir()):
        if not Path(cwd).is_dir():
            words = "say where nodes see the project, or: engine_options.ray.code=snapshot"
            raise NotStartedError(f"node {socket.gethostname()} does not see the working directory {cwd}: {words}")
        yield str(cwd)
        return
    if archive is None or not Path(archive).exists():
        raise NotStartedError(f"node {socket.gethostname()} does not see the snapshot of the code, {archive}")
    folder = _unpack(Path(archive))
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        os.utime(folder)
        inner = folder / order["inner"]
        inner.mkdir(parents=True, exist_ok=True)  # a folder with nothing in it is in no archive
        yield str(inner)
    finally:
        os.close(held)


def _unpack(archive: Path) -> Path:
    """The folder of this node that a snapshot is unpacked in, once for all commands that run it."""
    top = Path(tempfile.gettempdir()) / f"lightex-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.is_symlink() or top.stat().st_uid != os.getuid():
        raise NotStartedError(f"{top} on {socket.gethostname()} belongs to somebody else")
    folder = top / archive.name.removesuffix(".tar.gz")
    if folder.is_dir():
        return folder
    for old in top.iterdir():
        _remove_if_old(old)
    staged = Path(tempfile.mkdtemp(dir=top, prefix=".part-"))
    try:
        with tarfile.open(archive) as tar:
            careful: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(staged, **careful)  # noqa: S202  lx has packed it
        staged.rename(folder)
    except (OSError, tarfile.TarError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        if not folder.is_dir():  # not that another command was faster
            raise NotStartedError(f"cannot unpack {archive} on {socket.gethostname()}: {error}") from error
    return folder


def _remove_if_old(folder: Path) -> None:
    try:
        if time.time() - folder.stat().st_mtime < _OLD:
            return
        held = os.open(folder, os.O_RDONLY)
    except OSError:  # another command has removed it
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # it is used
        return
    finally:
        os.close(held)
