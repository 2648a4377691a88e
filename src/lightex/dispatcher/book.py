"""The book of leases: one small file that all `lx` processes of a machine share, changed under a lock.

It lies in /tmp, whatever TMPDIR says, so that all users find the same one; LX_LEASES names another file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import StorageError
from lightex.core.liveness import birth_mark, lives, user
from lightex.core.taxonomy import Resources
from lightex.core.units import parse_size

_PATIENCE = 5.0  # seconds to wait for the lock, which is held for less than a millisecond
_RETRY = 0.002
SILENCE = 5.0
"""A waiter that has not looked for so many seconds (it is stopped, or dead) holds nobody back."""


@dataclass
class Entry:
    """A lease of a run, or the wish for one.

    Attributes:
        run: the directory of the run.
        user: who runs it.
        owner: "PID:BORN" of the dispatcher.
        job: "PID:BORN" of the job itself, once it runs; the lease lasts as long as one of the two lives.
        cpus: CPU cores.
        memory: bytes.
        gpus: names of the GPUs, with the bytes leased of each; None: all of it. A wish has no names yet.
        gpu_count: how many GPUs are wished for.
        gpu_memory: bytes of each that are wished for; None: all.
        priority: what is higher comes first.
        since: when it was made; seconds of the machine's monotonic clock.
        seen: when its owner last looked (of a wish).
    """

    run: str
    user: str
    owner: str
    cpus: float
    memory: int
    job: str | None = None
    gpus: dict[str, int | None] = field(default_factory=dict)
    gpu_count: int = 0
    gpu_memory: int | None = None
    priority: int = 0
    since: float = 0.0
    seen: float = 0.0

    @classmethod
    def wish(cls, needs: Resources, run: str = "", user: str = "", owner: str = "", priority: int = 0) -> Entry:
        """A wish, made now, for what a run needs."""
        return cls(
            run=run,
            user=user,
            owner=owner,
            cpus=needs.cpus,
            memory=parse_size(needs.memory or 0),
            gpu_count=needs.gpu_count,
            gpu_memory=parse_size(needs.gpu_memory) if needs.gpu_memory else None,
            priority=priority,
            since=time.monotonic(),
        )


@dataclass
class Page:
    """What the book says: who holds what, who waits, in order of their coming."""

    leases: list[Entry]
    waiters: list[Entry]

    def bury(self, caller: str | None = None) -> None:
        """Strike out the leases of the dead, and those who wait no more; who asks lives."""
        self.leases = [e for e in self.leases if e.owner == caller or lives(e.job or "") or lives(e.owner)]
        now = time.monotonic()
        self.waiters = [each for each in self.waiters if abs(now - each.seen) < SILENCE and lives(each.owner)]


class Book:
    """The file. Use `open` to change it and `read` to look."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(os.environ.get("LX_LEASES") or "/tmp/lightex-leases.json")  # noqa: S108  shared by all

    @contextmanager
    def open(self) -> Iterator[Page]:
        """The page, to be changed; it is written back where the block ends without an error.

        Raises:
            StorageError: the file cannot be opened, or another process does not let go of it.
        """
        descriptor = self._descriptor()
        try:
            before = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            page = self._parse(before)
            yield page
            after = jsonlib.dumps({"leases": page.leases, "waiters": page.waiters})
            if after != before:
                os.pwrite(descriptor, after.ljust(len(before)), 0)  # one write, whole also where it is killed after it
                os.ftruncate(descriptor, len(after))
        finally:
            os.close(descriptor)

    def read(self) -> Page:
        """Who holds what and who waits, without the dead.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            page = self._parse(self.path.read_bytes())
        except FileNotFoundError:
            return Page([], [])
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error
        page.bury()
        return page

    def _parse(self, data: bytes) -> Page:
        try:
            value: dict[str, Any] = jsonlib.loads(data) if data else {"leases": [], "waiters": []}
            return Page([Entry(**entry) for entry in value["leases"]], [Entry(**entry) for entry in value["waiters"]])
        except (jsonlib.JSONDecodeError, TypeError, KeyError):
            # Not what any lx has written. Every dispatcher enters what it holds again when it looks next.
            return Page([], [])

    def _descriptor(self) -> int:
        deadline = time.monotonic() + _PATIENCE
        try:
            descriptor = self._open_file()
        except OSError as error:
            advice = f"remove it when no lx runs, or name another file in LX_LEASES (you are {user()})"
            words = f"cannot open the leases of this machine, {self.path}: {error.strerror}"
            raise StorageError(words, advice) from error
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise StorageError(f"another process has locked {self.path} for {_PATIENCE:g} s") from None
                time.sleep(_RETRY)

    def _open_file(self) -> int:
        """Open or make it. In a sticky folder the kernel refuses O_CREAT on a file of another user's
        (fs.protected_regular, sysctl/fs), so that the two are tried apart."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        for _ in range(2):
            try:
                return os.open(self.path, flags)
            except FileNotFoundError:
                try:
                    descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                    os.fchmod(descriptor, 0o666)  # whatever the umask: other users lease here too
                    return descriptor
                except FileExistsError:
                    continue
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def own_mark() -> str:
    """This process, as entries name it."""
    return f"{os.getpid()}:{birth_mark(os.getpid())}"
