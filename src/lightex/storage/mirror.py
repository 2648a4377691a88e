"""A run's directory, kept in S3 while it runs on nodes that share no disk with the user's machine.

Keys below the run's name: `logs/FILE/OFFSET` for what only grows (segments.py), `files/PATH` for all else, and
`done.WRITER.ATTEMPT.json` with what a writer has left behind: written last, so what it names is there.
"""

from __future__ import annotations

import hashlib
import re
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import FullDiskError, StorageError
from lightex.storage.bucket import Bucket, ChangingError, Object
from lightex.storage.objects import DIGEST, SMALL, digest_of
from lightex.storage.refusals import AwayError, MissingObjectError
from lightex.storage.segments import Receiver, Sender, listed
from lightex.storage.transfer import Inside, each, files_below, key_of

_QUIET = 5.0  # seconds that a large file must not have changed for, unless it is the last time
_SURE = 0.1  # seconds: what is written so soon after may have the same time of change
_LOGS = 1.0  # seconds between two looks at what grows, while large files are sent

_USERS = (
    "run.json",
    "config.json",
    "events.jsonl",
    "usage.jsonl",
    "build.log",
    "code.*.tar.gz",
    "sinks/*",
    "requests/*",
)
_DONE = re.compile(r"done\.(\d+)\.(\d+)\.json")

Owned = Callable[[str], bool]
"""Whether a path of a run's directory is written on this side."""


def users(path: str) -> bool:
    """Whether the user's machine writes this path of a run's directory."""
    return any(fnmatch(path, pattern) for pattern in _USERS)


def nobodys(_path: str) -> bool:
    """Nothing is written on this side: all is brought."""
    return False


def everyones(_path: str) -> bool:
    """All is written on this side: all is sent. Only while nobody else is at work on the run."""
    return True


def name_of(run: Path) -> str:
    """What a run is called in the store, by its path on the user's machine."""
    mark = hashlib.blake2b(str(run.absolute()).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return f"runs/{run.name}-{mark}"


@dataclass(frozen=True)
class _Seen:
    """A file as it was when it was the same as its object."""

    size: int
    time: int
    sha256: str
    etag: str
    sure: bool = True  # it had not been written just before

    def is_of(self, about: Any) -> bool:
        return self.sure and (self.size, self.time) == (about.st_size, about.st_mtime_ns)


class Mirror:
    """One run in the store. It remembers what is there as long as it lives; a new one learns it by listing.

    Each path has one side that writes it: that side pushes, the others pull.

    Args:
        bucket: where.
        name: of the run there (`name_of`).
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name = bucket, f"{name}/"
        self._learned = False  # whether what is there was listed, for what is sent
        self._files: dict[str, Object] = {}
        self._logs: dict[str, list[Object]] = {}
        self._sent: dict[str, _Seen] = {}
        self._senders: dict[str, Sender] = {}
        self._ever: set[str] = set()  # paths that this side has ever sent, and not removed
        self._brought: dict[str, _Seen] = {}
        self._receivers: dict[str, Receiver] = {}
        self._damaged: dict[str, str] = {}

    def push(self, folder: Path, owned: Owned, whole: bool = False) -> int:
        """Send what this side has written since the last time; returns how many objects were written.

        What it has removed since goes there too. Large files wait until they are written, unless nobody writes any more
        (`whole`).

        Raises:
            StorageError: it cannot be read or sent; the next time goes on from there.
        """
        if not folder.is_dir():
            raise StorageError(f"{folder} is gone", "nothing is sent of a run that was removed")
        try:
            if not self._learned:
                _, self._files, self._logs = self._listing()
                self._learned = True
            found = {path: about for path, about in files_below(folder) if owned(path)}
            logs = [path for path in found if _is_log(path)]
            count = self._push_logs(folder, logs, whole)
            changed = [path for path, about in found.items() if not _is_log(path) and self._is_due(path, about, whole)]
            written: list[str] = []
            failed: list[StorageError] = []  # one file must not hold up the others

            def send(path: str) -> None:
                try:
                    if self._send(folder / path, path, found[path], whole):
                        written.append(path)
                except AwayError:
                    raise
                except StorageError as error:
                    failed.append(error)

            each(changed, send, lambda: self._push_logs(folder, logs), _LOGS)
            self._remove_there([path for path in self._ever if path not in found and owned(path)])
        except BaseException:
            self._forget_sent()  # what was half done is learned by listing
            raise
        if failed:
            raise failed[0]
        return count + len(written)

    def finish(self, folder: Path, owned: Owned, writer: int, attempt: int) -> None:
        """Send all for the last time, compared in full, and say what there is.

        Args:
            folder: the run's directory.
            owned: what this side writes.
            writer: the number of this node among those of the run.
            attempt: of the run.

        Raises:
            StorageError: it cannot be read or sent.
        """
        self.push(folder, owned, whole=True)
        there = {path: {"size": seen.size, "sha256": seen.sha256} for path, seen in self._sent.items() if owned(path)}
        for path, _ in files_below(folder):
            if owned(path) and _is_log(path):
                with (folder / path).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    there[path] = {"size": file.tell(), "sha256": digest}
        self._bucket.write(f"{self._name}done.{writer}.{attempt}.json", jsonlib.dumps(there))

    def pull(self, folder: Path, owned: Owned) -> frozenset[tuple[int, int]]:
        """Bring what others have written since the last time. One listing is all that this costs if there is nothing.

        What others have removed goes here too, if this has brought it. A damaged object is left out (`missing` tells).

        Args:
            folder: the run's directory, which is there.
            owned: what this side writes: it is not brought.

        Returns:
            The writers that have finished, each with its attempt.

        Raises:
            StorageError: it cannot be read there or written here.
        """
        if not folder.is_dir():
            raise StorageError(f"{folder} is gone", "nothing is brought into a run that was removed")
        done, files, logs = self._listing()
        inside = Inside(folder, f"{self._bucket.url}{self._name}files/")
        for name, objects in logs.items():
            if _is_log(name) and not owned(name):
                receiver = self._receivers.setdefault(name, Receiver(self._bucket, self._log(name)))
                receiver.receive(inside.path(name), listed(objects, self._log(name)))
        changed = [
            path for path, found in files.items()
            if not owned(path) and (path not in self._brought or self._brought[path].etag != found.etag)
        ]  # fmt: skip
        each(changed, lambda path: self._bring(inside.path(path), path, files[path]))
        if "run.json" in files:  # else the whole is being removed there
            self._remove_gone(folder, [path for path in self._brought if path not in files])
        return done

    def missing(self, folder: Path, writers: int, attempt: int) -> list[str]:
        """What the run's directory lacks of what its writers have left behind; nothing: it is whole.

        What is named here is brought anew by the next pull. Of a file that several have written, one's will do.

        Args:
            folder: the run's directory, after a pull.
            writers: how many there are.
            attempt: whose end it is.

        Raises:
            StorageError: the store cannot be asked.
        """
        lacking = []
        left: dict[str, list[dict[str, Any]]] = defaultdict(list)
        inside = Inside(folder, f"{self._bucket.url}{self._name}")
        for writer in range(writers):
            said = self._bucket.read(f"{self._name}done.{writer}.{attempt}.json")
            if said is None:
                lacking.append(f"node {writer} has not said that it has finished")
                continue
            for path, about in jsonlib.loads(said).items():
                left[path].append(about)
        for path, abouts in sorted(left.items()):
            words = [self._lacks(inside.path(path), path, about) for about in abouts]
            if all(words):
                lacking.append(f"{path}: {words[0]}")
                self._brought.pop(path, None)
                self._receivers.pop(path, None)
        return lacking

    @property
    def damaged(self) -> tuple[str, ...]:
        """What pulls have left out, in words."""
        return tuple(self._damaged.values())

    def remove(self) -> None:
        """Take the run away from the store.

        Raises:
            StorageError: it cannot be removed.
        """
        first = f"{self._name}files/run.json"  # without it, whoever still pulls takes nothing for removed
        keys = [found.key for found in self._bucket.list(self._name)]
        self._bucket.delete([first])
        self._bucket.delete([key for key in keys if key != first])
        self._forget_sent()

    def _push_logs(self, folder: Path, names: Iterable[str], thorough: bool = False) -> int:
        count = 0
        for name in names:
            if name not in self._senders:
                there = listed(self._logs.get(name, ()), self._log(name))
                self._senders[name] = Sender(self._bucket, self._log(name), there)
            count += self._senders[name].send(folder / name, thorough)
        return count

    def _is_due(self, path: str, about: Any, last: bool) -> bool:
        seen = self._sent.get(path)
        if seen and seen.is_of(about):
            return False
        return last or about.st_size <= SMALL or time.time() - about.st_mtime > _QUIET

    def _send(self, path: Path, name: str, about: Any, last: bool) -> bool:
        """Send a file if it differs from its object; returns whether it did."""
        sure = time.time() - about.st_mtime > _SURE
        seen, found = self._sent.get(name), self._files.get(name)
        try:
            if seen and _digest(path) == seen.sha256:
                same, digest, etag = True, seen.sha256, seen.etag
            elif not seen and found and self._is_same(path, about.st_size, found):
                same, digest, etag = True, _digest(path), found.etag
            else:
                written = self._bucket.put(path, self._file(key_of(name)))
                same, digest, etag = False, written.metadata[DIGEST], written.etag
        except ChangingError:
            if last and path.exists():
                raise
            return False
        self._ever.add(name)
        self._sent[name] = _Seen(about.st_size, about.st_mtime_ns, digest, etag, sure)
        return not same

    def _is_same(self, path: Path, size: int, found: Object) -> bool:
        """Whether a file is what an object is, though nobody remembers."""
        if size != found.size:
            return False
        if found.md5:
            return digest_of(path, "md5") == found.md5
        known = self._bucket.head(found.key)
        return known is not None and known.etag == found.etag and known.metadata.get(DIGEST) == digest_of(path)

    def _remove_there(self, removed: list[str]) -> None:
        self._bucket.delete([self._file(path) for path in removed])
        self._ever -= set(removed)
        for path in removed:
            self._sent.pop(path, None)
            self._files.pop(path, None)

    def _forget_sent(self) -> None:
        self._learned = False
        self._sent, self._senders = {}, {}

    def _listing(self) -> tuple[frozenset[tuple[int, int]], dict[str, Object], dict[str, list[Object]]]:
        """Who has finished, files by their path, and the objects of files that grow by their name."""
        done: set[tuple[int, int]] = set()
        files: dict[str, Object] = {}
        logs: dict[str, list[Object]] = {}
        for found in self._bucket.list(self._name):
            kind, _, rest = found.key[len(self._name) :].partition("/")
            if kind == "files":
                files[rest] = found
            elif kind == "logs":
                logs.setdefault(rest.rpartition("/")[0], []).append(found)
            elif said := _DONE.fullmatch(kind):
                done.add((int(said[1]), int(said[2])))
        return frozenset(done), files, logs

    def _bring(self, path: Path, name: str, found: Object) -> None:
        etag, sha256 = found.etag, None
        try:
            here = path.stat()
            same = name not in self._brought and stat.S_ISREG(here.st_mode) and self._is_same(path, here.st_size, found)
        except (FileNotFoundError, NotADirectoryError):
            same = False
        try:
            if not same:
                brought = self._bucket.get(found.key, path)
                etag, sha256 = brought.etag, brought.metadata.get(DIGEST)
            about = path.stat()
        except (MissingObjectError, FileNotFoundError):  # removed since
            return
        except (AwayError, FullDiskError):
            raise
        except StorageError as error:
            self._damaged[name] = error.message
            return
        self._damaged.pop(name, None)
        self._brought[name] = _Seen(about.st_size, about.st_mtime_ns, sha256 or _digest(path), etag)

    def _remove_gone(self, folder: Path, paths: Iterable[str]) -> None:
        for path in paths:
            seen = self._brought.pop(path)
            here = folder / path
            if here.is_file() and seen.is_of(here.stat()):
                here.unlink(missing_ok=True)

    def _lacks(self, path: Path, name: str, about: dict[str, Any]) -> str:
        """What a file lacks; nothing: it is as it was left."""
        if name in self._damaged:
            return self._damaged[name]
        try:
            here = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return "it is not there"
        if here.st_size != about["size"]:
            return f"{here.st_size} of {about['size']} bytes are there"
        seen = self._brought.get(name)
        found = seen.sha256 if seen and seen.is_of(here) else _digest(path)
        return "" if found == about["sha256"] else f"its SHA-256 is {found}, it was left as {about['sha256']}"

    def _file(self, path: str) -> str:
        return f"{self._name}files/{path}"

    def _log(self, name: str) -> str:
        return f"{self._name}logs/{name}/"


def _is_log(path: str) -> bool:
    """Whether a file only grows, but for what is cut off its end."""
    return "/" not in path and path.endswith((".jsonl", ".log"))


def _digest(path: Path) -> str:
    try:
        return digest_of(path)
    except FileNotFoundError as error:
        raise ChangingError(f"{path} is gone") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
