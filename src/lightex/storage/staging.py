"""Folders of S3 for what runs on this machine: brought into a folder, and sent back."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TypeVar

from lightex.core import jsonlib
from lightex.core.errors import StorageError
from lightex.core.journal import cannot_write
from lightex.storage.bucket import Bucket, ChangingError, Object
from lightex.storage.store import Place, seen_here
from lightex.storage.transfer import Inside, Progress, each, files_below, key_of

T = TypeVar("T")

_SAVE = 5.0  # seconds of long work after which what is done is noted down

_Entry = tuple[int, str, int]  # size, etag, and the file's time of change in nanoseconds


def fetch(
    place: Place, tell: Callable[[str], None], into: Path | None = None, *, inside: bool = False,
    index: Path | None = None,
) -> Path:  # fmt: skip
    """Bring what is below a place in s3 into a folder; what is there and has not changed is not brought again.

    Files that it brought and that are gone there go here too. Where experiments may write (`Store.write`), files that
    were changed here stay as they are.

    Args:
        place: from where.
        tell: is given lines of long work.
        into: the folder; None: the cache, `place.here`.
        inside: whether this runs in a container or on a node.
        index: the file that notes down what was brought; None: beside the folder.

    Raises:
        StorageError: it cannot be read there or written here, or there is nothing.
    """
    folder = into or seen_here(place, place.url)
    bucket = Bucket.of(place, inside)
    with _index_of(folder, index, bucket.url, tell) as known:
        wanted = {found.key: found for found in bucket.list() if found.key and not found.key.endswith("/")}
        if not wanted and not place.store.write:
            raise _nothing(place)
        _no_file_is_a_folder(wanted, bucket.url)
        paths = Inside(folder, bucket.url)
        _remove_gone(folder, paths, known, wanted)
        missing = [found for found in wanted.values() if _is_missing(found, paths, known, place.store.write)]
        progress = Progress(_name(place), sum(found.size for found in missing), tell)

        def bring(found: Object) -> None:
            path = paths.path(found.key)
            brought = bucket.get(found.key, path, progress.add)
            known.files[found.key] = (brought.size, brought.etag, path.stat().st_mtime_ns)

        _transfer(missing, bring, known, progress)
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def send(
    place: Place, folder: Path, tell: Callable[[str], None], *, inside: bool = False, index: Path | None = None
) -> int:
    """Send files that are new or have changed since they were brought or sent; nothing is deleted there.

    Args:
        place: to where.
        folder: of the files.
        tell: is given lines of long work.
        inside: whether this runs in a container or on a node.
        index: the file that notes down what is there; None: beside the folder.

    Returns:
        How many were sent.

    Raises:
        StorageError: they cannot be read here or written there.
    """
    bucket, count = Bucket.of(place, inside), 0
    with _index_of(folder, index, bucket.url, tell) as known:
        changed = {key_of(name): about for name, about in files_below(folder) if not known.has(name, about)}
        progress = Progress(_name(place), sum(about.st_size for about in changed.values()), tell)

        def bring_back(key: str) -> None:
            nonlocal count
            try:
                sent = bucket.put(folder / key, key, progress.add)
            except ChangingError as error:
                tell(f"{error.message}: it is left for the next time")
                return
            known.files[key] = (sent.size, sent.etag, changed[key].st_mtime_ns)
            count += 1

        _transfer(changed, bring_back, known, progress)
    return count


@dataclass
class _Index:
    """What is known of the files of a folder.

    Attributes:
        path: where that is noted down.
        url: where they come from; of another place nothing is known.
        files: by key.
    """

    path: Path
    url: str
    files: dict[str, _Entry] = field(default_factory=dict)

    def load(self) -> None:
        """Read what was noted down; a missing or broken file notes nothing."""
        with suppress(FileNotFoundError, jsonlib.JSONDecodeError, AttributeError, TypeError, ValueError):
            noted = jsonlib.loads(self.path.read_bytes())
            if noted.get("url") == self.url:
                self.files = {key: (size, etag, time) for key, (size, etag, time) in noted["files"].items()}

    def save(self) -> None:
        """Note it down."""
        staged = self.path.with_name(f"{self.path.name}.part")
        try:
            staged.write_bytes(jsonlib.dumps({"url": self.url, "files": dict(self.files)}))
            staged.replace(self.path)
        except OSError:
            staged.unlink(missing_ok=True)
            raise

    def has(self, key: str, about: os.stat_result | None) -> bool:
        """Whether a file is as it was brought or sent."""
        entry = self.files.get(key)
        return entry is not None and about is not None and (entry[0], entry[2]) == (about.st_size, about.st_mtime_ns)


@contextmanager
def _index_of(folder: Path, index: Path | None, url: str, tell: Callable[[str], None]) -> Iterator[_Index]:
    """What is known of a folder's files, for one process at a time; noted down again at the end, however that comes."""
    path = index or folder.with_name(f".{folder.name}.index.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f"{folder.name}: waits for another process that is bringing the same")
                fcntl.flock(lock, fcntl.LOCK_EX)
            known = _Index(path, url)
            known.load()
            try:
                yield known
            finally:
                known.save()
        finally:
            os.close(lock)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _transfer(items: Iterable[T], do: Callable[[T], None], known: _Index, progress: Progress) -> None:
    """Several at once; what is done is noted down now and then, so that a killed process need not do it again."""
    saved = monotonic()

    def meanwhile() -> None:
        nonlocal saved
        progress.look()
        if monotonic() - saved > _SAVE:
            known.save()
            saved = monotonic()

    each(items, do, meanwhile, stop=progress.stop)


def _is_missing(found: Object, paths: Inside, known: _Index, write: bool) -> bool:
    path = paths.path(found.key)
    here, entry = _stat(path), known.files.get(found.key)
    if here is not None and not known.has(found.key, here):
        return not write  # changed here
    return here is None or entry is None or entry[:2] != (found.size, found.etag)


def _remove_gone(folder: Path, paths: Inside, known: _Index, wanted: dict[str, Object]) -> None:
    for key in [key for key in known.files if key not in wanted]:
        path = paths.path(key)
        if known.has(key, _stat(path)):
            path.unlink()
            for parent in path.parents:
                if parent == folder:
                    break
                try:
                    parent.rmdir()
                except OSError:  # something else is in it
                    break
        del known.files[key]


def _stat(path: Path) -> os.stat_result | None:
    """What is known of a file; None: there is none."""
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about if stat.S_ISREG(about.st_mode) else None


def _no_file_is_a_folder(wanted: dict[str, Object], url: str) -> None:
    for key in wanted:
        parts = key.split("/")
        for count in range(1, len(parts)):
            if (above := "/".join(parts[:count])) in wanted:
                raise StorageError(
                    f"{url}{above} and {url}{key} cannot both be files here: the first would be the second's folder",
                    "rename one of them",
                )


def _nothing(place: Place) -> StorageError:
    return StorageError(
        f"{place.url}: there is nothing there",
        "correct the URL, or put the files there; it names a folder, not a single object",
        f'or say that experiments fill it: Store("{place.url}", write=True)',
    )


def _name(place: Place) -> str:
    return place.folder.rpartition("/")[2] or place.host
