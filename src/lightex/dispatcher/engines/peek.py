"""How a child ended and what it used, without collecting it: it stays there to be asked again."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

# waitid(2): the system call, unlike the function of the C library, also tells the usage. Numbers: unistd.h.
_WAITID = {"x86_64": 247, "aarch64": 95}.get(platform.machine()) if sys.platform == "linux" else None
_CLD_EXITED = 1  # siginfo.h
_libc = ctypes.CDLL(None) if _WAITID else None


def peek(pid: int) -> tuple[int, float, int]:
    """Exit code (negative: the signal), CPU seconds and peak memory in bytes of a child that has ended.

    Where the system cannot tell without collecting the child, it is collected.
    """
    if _libc is None:
        _, status, usage = os.wait4(pid, 0)
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): KiB on Linux
        return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit
    info = (ctypes.c_int * 32)()  # siginfo_t: si_code is the third, si_status the seventh int
    usage_longs = (ctypes.c_long * 18)()  # struct rusage: user and system time as seconds and microseconds, maxrss
    flags = os.WEXITED | os.WNOWAIT
    if _libc.syscall(_WAITID, os.P_PID, pid, info, flags, usage_longs) != 0:
        raise ChildProcessError(pid)
    code = info[6] if info[2] == _CLD_EXITED else -info[6]
    seconds = usage_longs[0] + usage_longs[2] + (usage_longs[1] + usage_longs[3]) / 1e6
    return code, seconds, usage_longs[4] * 1024


def collect(pid: int) -> None:
    """Collect a child that `peek` was asked about."""
    if _libc is not None:
        os.waitpid(pid, 0)
