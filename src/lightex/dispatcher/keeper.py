"""The keeper: the process above a supervisor, which starts it again when it is killed and learns how its orphans end.

Linux tells the end of a process to its parent alone. When a supervisor is killed, the kernel hands its experiments over
to the nearest "child subreaper" above (prctl(2), PR_SET_CHILD_SUBREAPER): the keeper. It does nothing but wait, so that
there is nothing in it that could fail; what it sees goes to a ledger, where the next supervisor finds it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path

from lightex.core import journal
from lightex.core.liveness import birth_mark
from lightex.core.rundir import FAILED, LOST, SUCCEEDED
from lightex.dispatcher.engine import JobState

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST_RESTARTS = 100
_LOOK = 0.2  # seconds: other threads of the caller may swallow SIGCHLD
_RETRY = 0.02  # seconds between two looks into the ledger
_PATIENCE = 2.0  # seconds that a ledger's entry may come later than the process is seen to be gone


def keep(work: Callable[[bool], int], ledger: Path) -> int:
    """Do some work in a child process; where that is killed, in another one.

    Args:
        work: gets whether it was killed before; returns an exit code.
        ledger: where the ends of orphans are written down.

    Returns:
        The exit code of the work.
    """
    if not _adopt_orphans(True):
        return work(False)
    again = False
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_SIGNALS, signal.SIGCHLD})
    try:
        for _ in range(_MOST_RESTARTS):
            _flush()
            child = os.fork()
            if child == 0:
                _work(work, again, before)
            code = _wait(child, ledger)
            if code >= 0:
                return code
            if -code in _SIGNALS:  # it was asked to end, before or after its own handlers stood
                return 128 - code
            again = True
            _say(f"lx: the supervisor was killed ({signal.Signals(-code).name}); another one goes on")
        _say(f"lx: it was killed {_MOST_RESTARTS} times; nothing goes on until: lx resume")
        return 1
    finally:
        _adopt_orphans(False)  # the caller may live on, and would collect zombies
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(work: Callable[[bool], int], again: bool, mask: set[int | signal.Signals]) -> None:
    """The child: it never returns into the caller's stack."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work(again)
        _flush()
    except BaseException:  # noqa: BLE001  the last frame there is
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its terminal or its pipe is gone, its disk is full
            stream.flush()


def _say(words: str) -> None:
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)


def _wait(child: int, ledger: Path) -> int:
    """Wait for a child's end, writing down the ends of others; signals to this process alone are passed on."""
    while True:
        found = signal.sigtimedwait({*_SIGNALS, signal.SIGCHLD}, _LOOK)
        if found and found.si_signo != signal.SIGCHLD and (found.si_pid or _alone(found.si_signo)):
            os.kill(child, found.si_signo)
        while (ended := _ended()) is not None:
            if ended == child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            handle = f"{ended}:{birth_mark(ended, zombies=True) or ''}"
            leader = os.getsid(ended) == ended
            _, status, usage = os.wait4(ended, 0)
            about = {
                "handle": handle,
                "leader": leader,
                "status": status,
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            }
            journal.append(ledger, {"time": time.time(), **about, "peak_memory": usage.ru_maxrss * 1024})


def _alone(number: int) -> bool:
    """Whether a signal of the terminal came to this process alone: else the child has it as well.

    That it was closed, the kernel tells the leader of the session first, and all others when that ends.
    """
    return number == signal.SIGHUP and os.getsid(0) == os.getpid()


def _ended() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None


def _adopt_orphans(on: bool) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0)


class Ledger:
    """What keepers have written down of the ends that no supervisor saw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._missing_since: dict[str, float] = {}

    def ending(self, handle: str) -> JobState | None:
        """How a job ended that its engine has lost sight of; None: it may yet be told, ask again in a moment."""
        since = self._missing_since.setdefault(handle, time.monotonic())
        if found := self.told(handle):
            return found
        if time.monotonic() - since < _PATIENCE:
            time.sleep(_RETRY)
            return None
        return JobState(LOST)

    def cut_off(self, since: float, claimed: Container[object]) -> str | None:
        """The handle of a job that was started after `since` (epoch seconds), was not noted down, and has ended.

        Jobs lead sessions of their own, and are started one by one: the supervisor's other children (git, for one) do
        not lead, and a feeder is older. A process's birth mark is its start in clock ticks of CLOCK_BOOTTIME: proc(5).
        """
        ticks = os.sysconf("SC_CLK_TCK")
        started = (time.clock_gettime(time.CLOCK_BOOTTIME) - (time.time() - since)) * ticks - 2
        for record in journal.read(self.path):
            handle = str(record.get("handle"))
            born = handle.partition(":")[2]
            if record.get("leader") and handle not in claimed and born.isdigit() and int(born) >= started:
                return handle
        return None

    def told(self, handle: str) -> JobState | None:
        """What the ledger says of a job's end."""
        for record in journal.read(self.path):
            if record.get("handle") == handle:
                code = os.waitstatus_to_exitcode(int(record["status"]))
                return JobState(
                    state=SUCCEEDED if code == 0 else FAILED,
                    exit_code=code if code >= 0 else None,
                    signal=-code if code < 0 else None,
                    peak_memory=record.get("peak_memory"),
                    cpu_seconds=record.get("cpu_seconds"),
                )
        return None
