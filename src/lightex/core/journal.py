"""Append-only JSON lines: the format of events and records. One writer per file, one write per line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import FullDiskError, StorageError

NONFINITE = {float("inf"): "Infinity", float("-inf"): "-Infinity"}

_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PLAIN = frozenset({str, int, bool, type(None)})

Record = dict[str, Any]


def jsonable(value: Any) -> Any:
    """The value with non-finite numbers as "NaN", "Infinity", "-Infinity" (orjson would write them as null)."""
    if isinstance(value, float):
        return value if isfinite(value) else NONFINITE.get(value, "NaN")
    if isinstance(value, dict):
        return {str(key): item if type(item) in _PLAIN else jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


def number(value: Any) -> float | None:
    """A number of a record as a float, "NaN", "Infinity" and "-Infinity" too; None where it is none."""
    if isinstance(value, (int, float)):
        return float(value)
    return _NUMBERS.get(value) if isinstance(value, str) else None


def encode(record: Record) -> bytes:
    """One line of a journal. The record must be free of non-finite numbers (`jsonable`).

    Raises:
        TypeError: a value has no JSON form.
    """
    option = jsonlib.OPT_APPEND_NEWLINE | jsonlib.OPT_SERIALIZE_NUMPY
    try:
        return jsonlib.dumps(record, option=option)
    except TypeError:
        try:
            return jsonlib.dumps(_writable(record), option=option)
        except RecursionError:
            raise TypeError("a value holds itself, or is nested too deeply") from None


def _writable(value: Any) -> Any:
    """A value with integers beyond 64 bits as text, and text that is no Unicode (names of files) with escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    return [_writable(item) for item in value] if isinstance(value, (list, tuple)) else value


def append(path: Path | str, *records: Record) -> None:
    """Append records to a journal that is opened for this one write.

    Raises:
        StorageError: the file cannot be written.
    """
    data = b"".join(encode(record) for record in records)
    try:
        descriptor = open_for_append(path)
        try:
            write_whole(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all bytes, or raise OSError; what a full disk cut short is taken back, so that no torn line stays.

    An append-only file has one writer, so its end is where this write began plus what was written.
    """
    written = os.write(descriptor, data)
    if written == len(data):
        return
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise


def open_for_append(path: Path | str) -> int:
    """A descriptor for appending with `write_whole`. Cut a torn line off before the first write.

    Raises:
        OSError: the file cannot be opened.
    """
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def cut_torn_line(descriptor: int) -> None:
    """Cut off a last line that a killed writer left without its end: the next record would be glued to it."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)


def read(path: Path | str, start: int = 0) -> Iterator[Record]:
    """The records of a journal from a byte offset on; a torn last line is left out, a missing file is empty.

    A line that is not a JSON object is passed over: writers in other languages make mistakes too, and one
    bad line must not hide the rest.
    """
    yield from read_from(path, start)[0]


def read_from(path: Path | str, start: int = 0, size: int = -1) -> tuple[list[Record], int]:
    """As `read`, with the offset behind the last whole line: where a reader goes on later.

    Args:
        path: the journal.
        start: byte offset of a line's begin.
        size: stop behind about so many bytes (a longer line is read whole); -1: read all.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  Path.open costs twice as much, and 1,000 runs are listed
            file.seek(start)
            data = file.read(size)
            if size >= 0 and not data.endswith(b"\n"):
                data += file.readline()
    except FileNotFoundError:
        return [], start
    end = data.rfind(b"\n") + 1
    records = []
    for line in data[:end].split(b"\n")[:-1]:
        try:
            record = jsonlib.loads(line)
        except jsonlib.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records, start + end


def tail(path: Path | str, size: int) -> list[Record]:
    """The records in the last bytes of a journal; a missing file has none."""
    try:
        return read_from(path, max(0, os.stat(path).st_size - size))[0]  # noqa: PTH116  done for every run that is shown
    except FileNotFoundError:
        return []


def cannot_write(path: Path | str, error: OSError) -> StorageError:
    """The error to raise for a write that the system refused: a `FullDiskError` where room is all that lacks."""
    kind = FullDiskError if error.errno in _NO_ROOM else StorageError
    return kind(f"cannot write {path}: {error.strerror}", *advice(error))


def advice(error: OSError) -> tuple[str, ...]:
    """What to do about a failed write, where that is known."""
    if error.errno in _NO_ROOM:
        return ("free some space there (lx rm removes runs), or choose another folder with --root or LX_ROOT",)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT):
        return ("choose a folder you can write to with --root or LX_ROOT",)
    return ()
