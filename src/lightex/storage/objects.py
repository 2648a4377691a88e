"""An object in S3, and how it becomes a file: whole and compared with its checksum, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core.errors import FullDiskError, StorageError
from lightex.storage.refusals import AwayError, in_words

SMALL = 8 * 1024 * 1024
"""Bytes: what is not larger goes in one piece, through memory."""

DIGEST, EXECUTABLE = "lx-sha256", "lx-executable"
"""Metadata of an object: the SHA-256 of the file that it was made of; whether that was executable."""

_ATTEMPTS = 4  # that bring nothing at all, one after the other
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Object:
    """An object.

    Attributes:
        key: its name, relative to the place.
        size: bytes.
        etag: changes with its bytes; their MD5 where it came in one piece and is not encrypted.
        metadata: what was kept with it; listings do not tell it.
    """

    key: str
    size: int
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def md5(self) -> str | None:
        """Its MD5, if the etag looks like one."""
        return self.etag if len(self.etag) == 32 else None


class _DamagedError(Exception):
    """What came is not what was sent."""


def described(key: str, reply: Mapping[str, Any], start: int = 0) -> Object:
    """What a reply of the service tells of an object, whose first bytes were not asked for."""
    metadata = {name.lower(): text for name, text in reply.get("Metadata", {}).items()}  # MinIO writes Lx-Sha256
    return Object(key, start + reply["ContentLength"], reply["ETag"].strip('"'), metadata)


@dataclass(frozen=True)
class Source:
    """Where the bytes of an object come from.

    Attributes:
        url: names it.
        key: the same, relative to its place.
        endpoint: where the service is; None: Amazon's.
        ask: gives the service's reply for it from a byte on if it still has that etag, else for the whole.
    """

    url: str
    key: str
    endpoint: str | None
    ask: Callable[[int, str], Any]


def fetch_file(source: Source, path: Path, progress: Callable[[int], None]) -> Object:
    """See `Bucket.get`."""
    part = _part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _bring(source, path, part, progress)
        except _DamagedError:  # on its way, or on this disk: once more from its beginning
            _forget(part)
            return _bring(source, path, part, progress)
    except _DamagedError as error:
        _forget(part)
        raise StorageError(
            f"{source.url} is damaged: {error}", "it was fetched twice; send it again from where it came from"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _forget(part)
            raise FullDiskError(f"cannot write {path}: {error.strerror}", "free some space there") from error
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def digest_of(path: Path, kind: str = "sha256") -> str:
    """A checksum of a file, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _bring(source: Source, path: Path, part: Path, progress: Callable[[int], None]) -> Object:
    failures = 0
    while True:
        start, etag = _begun(part)
        try:
            with in_words(source.url, source.endpoint):
                reply = source.ask(start, etag)
                goes_on = reply["ResponseMetadata"]["HTTPStatusCode"] == 206
                about = described(source.key, reply, start if goes_on else 0)
                _receive(reply["Body"], about, part, about.size - reply["ContentLength"], progress)
            break
        except AwayError:
            failures = failures + 1 if _begun(part) == (start, etag) else 1
            if failures == _ATTEMPTS:
                raise
    _compare(about, reply, source.endpoint, part)
    if about.metadata.get(EXECUTABLE):
        mode = part.stat().st_mode
        part.chmod(mode | (mode & 0o444) >> 2)  # who may read it may run it
    part.replace(path)
    _mark_of(part).unlink(missing_ok=True)
    return about


def _receive(body: Any, about: Object, part: Path, start: int, progress: Callable[[int], None]) -> None:
    """Write what comes behind the first bytes of a part, which are there."""
    if not start:
        part.unlink(missing_ok=True)  # before the mark is written: old bytes never stand under a new mark
    if about.size > SMALL:
        _mark_of(part).write_text(about.etag)
    with contextlib.closing(body), part.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        while chunk := body.read(_CHUNK):
            file.write(chunk)
            progress(len(chunk))


def _compare(about: Object, reply: Mapping[str, Any], endpoint: str | None, part: Path) -> None:
    size = part.stat().st_size
    if size != about.size:
        raise _DamagedError(f"{size} of {about.size} bytes came")
    if wanted := about.metadata.get(DIGEST):
        kind, found = "SHA-256", digest_of(part)
    elif about.md5 and _etag_is_md5(reply, endpoint):
        wanted, kind, found = about.md5, "MD5", digest_of(part, "md5")
    else:
        return
    if found != wanted:
        raise _DamagedError(f"its {kind} is {found}, it was sent as {wanted}")


def _etag_is_md5(reply: Mapping[str, Any], endpoint: str | None) -> bool:
    """Not of what is encrypted there, unless by Amazon's own default."""
    encrypted = reply.get("ServerSideEncryption") or reply.get("SSECustomerAlgorithm")
    return encrypted is None or (encrypted == "AES256" and endpoint is None)


def _part_of(path: Path) -> Path:
    name = path.name
    if len(os.fsencode(name)) > 240:  # 255 are the most
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.part")


def _mark_of(part: Path) -> Path:
    """The file that tells which version of the object a part is of."""
    return part.with_name(f"{part.name}.etag")


def _begun(part: Path) -> tuple[int, str]:
    """How many bytes are there already, and of which version.

    The last byte is asked for again: so something is left to ask for where only the renaming was missing.
    """
    try:
        etag = _mark_of(part).read_text()
        return (max(0, part.stat().st_size - 1), etag) if etag else (0, "")
    except FileNotFoundError:
        return 0, ""


def _forget(part: Path) -> None:
    for path in (part, _mark_of(part)):
        with contextlib.suppress(OSError):
            path.unlink()
