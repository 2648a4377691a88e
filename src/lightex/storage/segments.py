"""Files that only grow, kept as objects that each hold some of their bytes: a long one is not sent again and again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightex.core.errors import StorageError
from lightex.core.journal import cannot_write, write_whole
from lightex.storage.bucket import Bucket, Object

GROW = 256 * 1024
"""Bytes: the last segment is written anew with what has come, up to this size; so they are few."""

PIECE = 8 * 1024 * 1024
"""Bytes that a segment has at most."""


@dataclass(frozen=True)
class Segment:
    """Some bytes of a file.

    Attributes:
        offset: of the first one in the file.
        size: how many.
        etag: of the object.
        md5: of the bytes; the etag where nothing better is known.
    """

    offset: int
    size: int
    etag: str
    md5: str

    @property
    def end(self) -> int:
        """The offset behind the last one."""
        return self.offset + self.size


def listed(objects: Iterable[Object], prefix: str) -> list[Segment]:
    """The segments that a listing shows, in order; the key of each is the prefix with 16 digits of its offset."""
    found = []
    for each in objects:
        digits = each.key[len(prefix) :]
        if len(digits) == 16 and digits.isdecimal():
            found.append(Segment(int(digits), each.size, each.etag, each.etag))
    return sorted(found, key=lambda segment: segment.offset)


def whole_run(segments: Sequence[Segment]) -> list[Segment]:
    """Those from the beginning on that leave no gap."""
    end, found = 0, []
    for segment in segments:
        if segment.offset != end:
            break
        found.append(segment)
        end = segment.end
        if not segment.size:  # of an empty file
            break
    return found


class Sender:
    """Keeps the objects of one file as the file is. It alone writes them.

    A reader sees at any time a beginning of what the file is, or of what it was before its end was cut off.

    Args:
        bucket: where they are.
        prefix: of their keys.
        segments: what is there, by a listing.
    """

    def __init__(self, bucket: Bucket, prefix: str, segments: Sequence[Segment]) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._there = list(segments)
        self._seen: tuple[int, int] | None = None  # size and time of change when it was last sent

    def send(self, path: Path, thorough: bool = False) -> int:
        """Send what the file has more than its objects; returns how many objects were written.

        Args:
            path: the file.
            thorough: compare all its bytes with what is there, not only the last; the first time this is done anyway.

        Raises:
            StorageError: it cannot be read or sent.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        try:
            about = os.fstat(descriptor)
            seen = (about.st_size, about.st_mtime_ns)
            if seen == self._seen and not thorough:
                return 0
            begin = self._sound(descriptor, about.st_size, thorough or self._seen is None)
            self._seen = None  # what fails below is looked at thoroughly the next time
            written = self._write_from(descriptor, begin, about.st_size)
            self._seen = seen
            return written
        finally:
            os.close(descriptor)

    def _sound(self, descriptor: int, size: int, thorough: bool) -> int:
        """The offset to send from: of the first object that is not as the file is, or is to grow."""
        kept = whole_run(self._there)
        while kept and kept[-1].end > size:  # its end was cut off
            kept.pop()
        # What is cut off is less than a large object holds: the last large one that is as it was tells of all before.
        for number, segment in reversed([*enumerate(kept)]):
            if _md5(os.pread(descriptor, segment.size, segment.offset)) != segment.md5:
                del kept[number:]
            elif segment.size >= GROW and not thorough:
                break
        if kept and kept[-1].size < GROW and kept[-1].end < size:
            kept.pop()
        return kept[-1].end if kept else 0

    def _write_from(self, descriptor: int, begin: int, size: int) -> int:
        """Replace all from an offset on: first the last ones go, then the first is written anew."""
        needless = begin if size == 0 or begin < size else begin - 1  # behind it; the first one is written over
        for segment in reversed([segment for segment in self._there if segment.offset > needless]):
            self._bucket.delete([self._key(segment.offset)])
            self._there.remove(segment)
        count = 0
        while begin < size or (size == 0 and [segment.size for segment in self._there] != [0]):
            data = os.pread(descriptor, min(PIECE, size - begin), begin)
            if not data and size:  # it was cut off just now
                break
            written = self._bucket.write(self._key(begin), data)
            self._there = [segment for segment in self._there if segment.offset < begin]
            self._there.append(Segment(begin, len(data), written.etag, _md5(data)))
            begin += len(data)
            count += 1
        return count

    def _key(self, offset: int) -> str:
        return f"{self._prefix}{offset:016d}"


class Receiver:
    """Keeps one file as its objects are. It alone writes the file.

    Args:
        bucket: where they are.
        prefix: of their keys.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._applied: list[Segment] | None = None  # those that the file is made of; None: not known yet

    def receive(self, path: Path, segments: Sequence[Segment]) -> None:
        """Bring the file to where its objects are, by a listing.

        Only bytes that differ are written. Objects behind a gap wait for what is missing; a file without objects stays
        as it is.

        Raises:
            StorageError: they cannot be read, or the file cannot be written.
        """
        there = whole_run(segments)
        if not there:
            return
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = -1
        kept = self._kept(path, size, there)
        gap = len(there) < len(segments)
        if len(kept) == len(there) and (size == there[-1].end or gap):
            self._applied = kept
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._apply(descriptor, kept, there, not gap)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _kept(self, path: Path, size: int, there: Sequence[Segment]) -> list[Segment]:
        """The objects, from the first on, that the file already is made of."""
        kept = []
        if self._applied is not None:
            for old, new in zip(self._applied, there, strict=False):
                if (old.offset, old.size, old.etag) != (new.offset, new.size, new.etag) or new.end > size:
                    break
                kept.append(new)
        elif size > 0:
            with path.open("rb") as file:
                for segment in there:
                    if segment.end > size or _md5(os.pread(file.fileno(), segment.size, segment.offset)) != segment.md5:
                        break
                    kept.append(segment)
        return kept

    def _apply(self, descriptor: int, kept: list[Segment], there: Sequence[Segment], cut: bool) -> None:
        self._applied = kept
        for segment in there[len(kept) :]:
            found = self._bucket.read_object(f"{self._prefix}{segment.offset:016d}")
            if found is None or found[0].etag != segment.etag or len(found[1]) != segment.size:
                return  # it was written anew since it was listed: the next listing tells more
            _put(descriptor, segment.offset, found[1])
            kept.append(segment)
        if cut and os.fstat(descriptor).st_size > there[-1].end:
            os.ftruncate(descriptor, there[-1].end)  # its writer has cut its end off


def _put(descriptor: int, offset: int, data: bytes) -> None:
    """Make the file have these bytes there, and cut off what differs; the file reaches to the offset at least."""
    here = os.pread(descriptor, len(data), offset)
    same = len(here)
    if here != data[:same]:
        same = next(number for number, (one, other) in enumerate(zip(here, data, strict=False)) if one != other)
        os.ftruncate(descriptor, offset + same)
    write_whole(descriptor, data[same:])


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
