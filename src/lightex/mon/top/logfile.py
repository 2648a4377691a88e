"""A part of a log: the lines around some place of a file of any length, of which little is read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 18  # bytes that are read at once
_CHUNK = 1 << 20  # bytes that are searched at once
_LONGEST = 1 << 14  # bytes of one line; what is longer is shown as several
_MOST = 1 << 22  # bytes that a part holds
_BETWEEN = rb"(?:\x1b\[[0-9;]*m)*"  # colours may change within a word
_COLOURS = 256  # bytes of them that may be in one


@dataclass(frozen=True)
class Line:
    """A line as it last stood: of a progress bar's, what follows the last carriage return.

    Attributes:
        at: the byte at which that begins.
        text: may hold escape sequences.
    """

    at: int
    text: str


@dataclass(frozen=True)
class Part:
    """Some lines that follow each other.

    Attributes:
        start: the byte of the first.
        stop: the byte after the last.
        lines: the lines.
        whole: bytes of the file when it was read.
    """

    start: int
    stop: int
    lines: tuple[Line, ...]
    whole: int

    @property
    def at_end(self) -> bool:
        """Whether nothing followed."""
        return self.stop >= self.whole


class LogFile:
    """A file to which somebody may still write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tail(self) -> Part:
        """Its end."""
        return self._read(max(0, self._size() - _BLOCK), _BLOCK)

    def head(self) -> Part:
        """Its beginning."""
        return self._read(0, _BLOCK)

    def around(self, place: int) -> Part:
        """What is about a byte."""
        return self._read(max(0, place - _BLOCK // 2), _BLOCK)

    def before(self, part: Part) -> Part:
        """A part with what comes before it as well; where that is much, without its end."""
        if part.start == 0:
            return part
        more = self._read(max(0, part.start - _BLOCK), min(_BLOCK, part.start))
        lines = (*more.lines, *part.lines)
        stop = part.stop
        if stop - more.start > _MOST:
            kept = [line for line in lines if line.at < more.start + _MOST]
            stop = lines[len(kept)].at if len(kept) < len(lines) else stop
            lines = tuple(kept)
        return Part(more.start, stop, lines, more.whole)

    def after(self, part: Part) -> Part:
        """A part with what comes after it as well; where that is much, without its beginning."""
        size = self._size()
        if size < part.stop:  # it was begun anew
            return self.tail()
        if size == part.stop:
            return part if part.whole == size else Part(part.start, part.stop, part.lines, size)
        last = part.lines[-1] if part.lines else Line(part.start, "")  # it may go on
        more = self._read(last.at, part.stop - last.at + _BLOCK, aligned=True)
        lines = (*part.lines[:-1], *more.lines)
        start = part.start
        if more.stop - start > _MOST:
            lines = tuple(line for line in lines if line.at >= more.stop - _MOST // 2)
            start = lines[0].at if lines else more.stop
        return Part(start, more.stop, lines, more.whole)

    def find(self, word: str, start: int, up: bool, given_up: Callable[[], bool]) -> int | None:
        """The byte at which a word stands next, whatever its case; None: nowhere.

        Args:
            word: what is sought.
            start: where to begin; up: what is found begins before it, else at it or after.
            up: towards the beginning.
            given_up: asked now and then.
        """
        sought = re.compile(_BETWEEN.join(re.escape(bytes([byte])) for byte in word.encode()), re.IGNORECASE)
        size, overlap = self._size(), len(word.encode()) + _COLOURS
        place = min(start + overlap, size) if up else start
        try:
            with self.path.open("rb") as file:
                while not given_up():
                    first = max(0, place - _CHUNK) if up else place
                    last = place if up else min(size, place + _CHUNK)
                    file.seek(first)
                    found = _found(sought, file.read(last - first), up, start - first)
                    if found is not None:
                        return first + found
                    if (first == 0) if up else (last >= size):
                        return None
                    place = first + overlap if up else last - overlap
        except FileNotFoundError:
            pass
        return None

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self, start: int, size: int, aligned: bool = False) -> Part:
        """What begins in some bytes; `aligned`: a line is known to begin there."""
        try:
            with self.path.open("rb") as file:
                whole = file.seek(0, os.SEEK_END)
                file.seek(max(0, start - 1))
                data = file.read(size + 1 if start else size)
        except FileNotFoundError:
            return Part(0, 0, (), 0)
        stop = max(0, start - 1) + len(data)
        if start:
            begins = aligned or data[:1] in (b"\n", b"\r")
            data = data[1:]
            if not begins and 0 <= (cut := data.find(b"\n")) < len(data) - 1:
                start, data = start + cut + 1, data[cut + 1 :]
        return Part(start, stop, tuple(_lines(data, start)), whole)


def _found(sought: re.Pattern[bytes], data: bytes, up: bool, bound: int) -> int | None:
    """Where in some bytes it is: the last place before a bound (up), or the first at it or after."""
    last = None
    for match in sought.finditer(data):
        if up and match.start() >= bound:
            break
        if up or match.start() >= bound:
            last = match.start()
            if not up:
                break
    return last


def _lines(data: bytes, at: int) -> list[Line]:
    made = []
    raws = data.split(b"\n")
    for raw in raws if raws[-1] else raws[:-1]:
        body = raw.rstrip(b"\r")
        skipped = body.rfind(b"\r") + 1
        shown = body[skipped:]
        for begin in range(0, max(1, len(shown)), _LONGEST):
            piece = shown[begin : begin + _LONGEST].decode(errors="replace")
            made.append(Line(at + skipped + begin, piece))
        at += len(raw) + 1
    return made
