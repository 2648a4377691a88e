"""Where a run of a peer is put together before it appears among the runs."""

from __future__ import annotations

import io
import re
import shutil
import wave
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightex.core.journal import Record, encode, jsonable
from lightex.mulogger import artifacts
from lightex.mulogger.names import fit

_SUFFIX = {"image": ".png", "audio": ".wav"}  # what every reader of runs opens
_BUFFER = 1 << 20  # bytes of records between two writes
_NUMBER = re.compile(r"-?\d{1,25}(\.\d{1,25})?(e[+-]?\d{1,3})?", re.ASCII)


def quiet(line: str) -> None:
    """Shows nothing."""


class Desk:
    """A folder of records, files and output. Use as a context manager: what is buffered is written at its end.

    Args:
        folder: made here.
        tell: shows people what is being done.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = quiet) -> None:
        self.folder, self.tell = folder, tell
        self.artifacts = folder / "artifacts"
        self.output = folder / "output.log"
        self.left_out: Counter[str] = Counter()
        self._media = 0
        folder.mkdir(parents=True)
        self._file = (folder / "records.jsonl").open("wb", buffering=_BUFFER)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, record: Record) -> None:
        """Add a record (docs/run-directory.md); what JSON cannot hold becomes text.

        Raises:
            OSError: it cannot be written.
        """
        record = jsonable(record)
        try:
            self._file.write(encode(record))
        except TypeError:
            self._file.write(encode(_plain(record)))

    def place(self, name: str) -> Path:
        """Where a file of that name is kept: put it there, then `note` it.

        Raises:
            LightexError: the name leads out of the run.
        """
        path = self.artifacts / artifacts.checked_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def note(self, path: Path, time: float) -> None:
        """Record a file that lies in its place, with its checksum."""
        self.write({"time": time, "artifact": artifacts.describe(path, self.artifacts)})

    def keep(self, source: Path, name: str, time: float) -> None:
        """Copy a file and record it.

        Raises:
            LightexError: the name leads out of the run.
            OSError: it cannot be read or written.
        """
        path = self.place(name)
        shutil.copyfile(source, path)
        self.note(path, time)

    def media(
        self, kind: str, name: str, data: bytes | Path, suffix: str, step: float | None, time: float, **about: Any
    ) -> None:
        """Keep an image (as PNG), a figure, a table or a sound (WAV); what is in another form is kept as a file.

        Args:
            kind: "image", "figure", "table" or "audio".
            name: what it is called.
            data: its content, or the file to copy.
            suffix: of its file, with the dot.
            step: the step, if it has one.
            time: seconds since the epoch.
            about: more of what the record says: width, height, rate, caption, ...
        """
        if kind == "image" and suffix != ".png":
            made = _png(data)
            data, suffix = (made, ".png") if made else (data, suffix)
        path = self.artifacts / "media" / f"{fit(name, 'A-Za-z0-9_. -', 80)}-{self._media}{suffix}"
        self._media += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            shutil.copyfile(data, path)
        known = artifacts.describe(path, self.artifacts)
        if suffix != _SUFFIX.get(kind, suffix):
            self.write({"time": time, "artifact": known})
            return
        sound = _sound(path) if kind == "audio" else {}
        self.write({"time": time, "step": step, "media": {"kind": kind, "name": name, **about, **sound, **known}})

    def leave(self, what: str) -> None:
        """Take note of something that a run directory has no place for: people are told in the end."""
        self.left_out[what] += 1


def text(value: str) -> str:
    """A text that JSON can hold: bytes of file names that are no UTF-8 are shown by their numbers."""
    return value.encode("utf-8", "backslashreplace").decode()


def value_of(written: str) -> Any:
    """The number or truth value that Python would write so, else the text: of peers that keep all as text.

    "0.1" -> 0.1, "1e-05" -> 1e-05, "True" -> True; "007", "1e-5" and "nan" stay, so that nothing is lost.
    """
    if written in ("True", "False"):
        return written == "True"
    if _NUMBER.fullmatch(written):
        kind, digits = (int if written.lstrip("-").isdigit() else float), len(written.lstrip("-"))
        if digits < 19 or kind is float:  # an int of more digits may not fit 64 bits
            number = kind(written)
            return number if str(number) == written else written
    return written


def _png(data: bytes | Path) -> bytes | None:
    """An image as PNG; None where it moves, or cannot be read here."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return None
    made = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if getattr(image, "is_animated", False):
                return None
            image.save(made, "PNG")
    except (OSError, ValueError):
        return None
    return made.getvalue()


def _sound(path: Path) -> dict[str, Any]:
    """Rate, channels and seconds of a WAV file, where it is one that Python knows."""
    try:
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            return {"rate": rate, "channels": file.getnchannels(), "seconds": file.getnframes() / rate}
    except (wave.Error, EOFError, ZeroDivisionError):
        return {}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return jsonable(float(value)) if abs(value) < 2**1000 else str(value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
