"""What staging and mirrors share: the files below a folder, keys that may name them, several transfers at once."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from lightex.core.errors import StorageError
from lightex.core.units import format_size

T = TypeVar("T")

AT_ONCE = 8
"""How many transfers go on at the same time."""


class StoppedError(Exception):
    """Raised in transfers that go on when all are given up."""


class Progress:
    """Counts the bytes of transfers, and tells of them about once a second.

    Args:
        name: what is transferred.
        total: bytes.
        tell: is given the lines.
    """

    def __init__(self, name: str, total: int, tell: Callable[[str], None]) -> None:
        self._name, self._total, self._tell = name, total, tell
        self._done, self._told, self._lock, self._stopped = 0, time.monotonic(), threading.Lock(), False

    def add(self, count: int) -> None:
        """Bytes that went by.

        Raises:
            StoppedError: all is given up.
        """
        if self._stopped:
            raise StoppedError
        with self._lock:
            self._done += count

    def look(self) -> None:
        """Tell of it, if a second has gone by."""
        if time.monotonic() - self._told < 1:
            return
        self._told = time.monotonic()
        done, total = format_size(min(self._done, self._total)), format_size(self._total)
        if done.split()[1] == total.split()[1]:
            done = done.split()[0]
        self._tell(f"{self._name}: {done} of {total}")

    def stop(self) -> None:
        """Give all up."""
        self._stopped = True


def each(
    items: Iterable[T],
    do: Callable[[T], None],
    meanwhile: Callable[[], object] = lambda: None,
    every: float = 0.2,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Do something for each item, several at once. The first error is raised, what has not begun is left undone.

    Args:
        items: what for.
        do: what; called in other threads.
        meanwhile: called in this one now and then while it lasts.
        every: seconds between that.
        stop: called at an error, so that what goes on can end.
    """
    waiting = list(items)
    if not waiting:
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(waiting)), thread_name_prefix="lx-transfer") as pool:
        futures = {pool.submit(do, item) for item in waiting}
        try:
            while futures:
                done, futures = wait(futures, every, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if futures:
                    meanwhile()
        except BaseException:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def files_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files below a folder: their paths in it with '/', and what stat tells; a missing folder has none.

    Links to files are followed; links to folders, links to nothing and what is no file (pipes, sockets) are passed
    over, and so is what is only being written (`.NAME.part`).
    """

    def walk(at: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            entries = sorted(os.scandir(at), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path, f"{prefix}{entry.name}/")
            elif not _unfinished(entry.name):
                try:
                    about = entry.stat()
                except OSError:  # gone since, or a link to nothing
                    continue
                if stat.S_ISREG(about.st_mode):
                    yield f"{prefix}{entry.name}", about

    yield from walk(str(folder), "")


def _unfinished(name: str) -> bool:
    return name.startswith(".") and name.endswith((".part", ".part.etag"))


class Inside:
    """Gives the paths of keys below a folder, and refuses those that lead out of it.

    Args:
        folder: that folder.
        url: names the place in errors.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._root, self._url = folder, folder.resolve(), url
        self._sound: set[str] = set()

    def path(self, key: str) -> Path:
        """The path of a key.

        Raises:
            StorageError: it is no name of a file below the folder.
        """
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise StorageError(
                f"{self._url}{key}: an object of that name has no place below {self._folder}",
                "rename it: its parts must not be empty, '.' or '..'",
            )
        parent = "/".join(parts[:-1])
        if parent not in self._sound:
            if (self._root / parent).resolve() != self._root / parent:
                raise StorageError(
                    f"{self._folder / parent} is a link that leads elsewhere: nothing is written through it",
                    f"remove the link, or rename {self._url}{key}",
                )
            self._sound.add(parent)
        return self._folder / key


def key_of(name: str) -> str:
    """A file's path as a key.

    Raises:
        StorageError: it is not in UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StorageError(f"{os.fsencode(name)!r}: the name of that file is not in UTF-8", "rename it") from None
    return name
