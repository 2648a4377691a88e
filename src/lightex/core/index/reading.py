"""Reading many runs, by several processes where there are many."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import StorageError
from lightex.core.index import entry as entries
from lightex.core.index.entry import Entry
from lightex.core.journal import jsonable
from lightex.core.root import Root

_ALONE = 1500  # runs that one process reads before another one has started and pays for itself
_MOST = 8  # processes: beyond that the one that writes is the limit
_AHEAD = 1000  # runs that are read and not yet written
_PROGRAM = "import sys; sys.path[:] = {path!r}; from lightex.core.index.reading import work; work()"

Changed = tuple[str, bytes | None]
"""EXPERIMENT/RUN_ID, and its last entry's `live`."""


def read_many(root: str, changed: Sequence[Changed], supervised: Callable[[str], bool]) -> Iterator[Entry]:
    """Read runs, in any order.

    Args:
        root: the folder of runs.
        changed: which.
        supervised: tells of a sweep whether its dispatcher lives.

    Raises:
        StorageError: a process that reads has ended before its time.
    """
    processes = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, _MOST)
    if len(changed) < _ALONE or processes < 2:
        for path, live in changed:
            yield entries.read(root, path, supervised, live)
        return
    # Programs of their own: multiprocessing would run the caller's script anew in each, or fork a server's threads.
    pieces = [changed[first::processes] for first in range(processes)]
    done: queue.Queue[Entry | StorageError | None] = queue.Queue(_AHEAD)
    workers = [_Worker(root, piece, done) for piece in pieces]
    try:
        left = len(workers)
        while left:
            found = done.get()
            if isinstance(found, StorageError):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that reads, and the thread that hears it."""

    def __init__(self, root: str, piece: Sequence[Changed], done: queue.Queue[Entry | StorageError | None]) -> None:
        self._done, self._over = done, False
        program = _PROGRAM.format(path=sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=1 << 20,
            start_new_session=True,  # Ctrl-C is for the one that asked, which ends this one
        )
        order = {"root": root, "runs": [[path, live.decode() if live else None] for path, live in piece]}
        self._thread = threading.Thread(target=self._hear, args=(jsonlib.dumps(order),), daemon=True)
        self._thread.start()

    def _hear(self, order: bytes) -> None:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("Popen was given pipes")
        try:
            with self._process.stdin as said:
                said.write(order)
            for line in self._process.stdout:
                self._put(entries.load(jsonlib.loads(line)))
                if self._over:
                    return
            code = self._process.wait()
            self._put(None if code == 0 else StorageError(f"a process that reads runs ended with {code}", "try again"))
        except (OSError, ValueError) as error:  # it was killed in the middle of a line
            self._put(StorageError(f"a process that reads runs has ended: {error}", "try again"))

    def _put(self, found: Entry | StorageError | None) -> None:
        while not self._over:
            try:
                self._done.put(found, timeout=0.1)
            except queue.Full:
                continue
            return

    def end(self) -> None:
        """See to it that it has ended."""
        self._over = True
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout:
            self._process.stdout.close()


def work() -> None:
    """The process that reads: runs on standard input, an entry per line on standard output."""
    said = sys.stdin.buffer.read()
    if not said:  # the one that asked was killed before it could
        return
    order: dict[str, Any] = jsonlib.loads(said)
    root = order["root"]
    supervised = cache(lambda sweep: Root(root).sweep(sweep).supervised)
    try:
        for path, live in order["runs"]:
            found = entries.read(root, path, supervised, live.encode() if live else None)
            sys.stdout.buffer.write(jsonlib.dumps(jsonable(entries.dump(found)), option=jsonlib.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the one that asked was killed: nobody listens
        os._exit(1)
