"""A run's directory: who it is, what it was told, what became of it. This class owns every path inside."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from lightex.core import journal, jsonlib
from lightex.core.errors import FileMissingError, NewerFormatError, StorageError
from lightex.core.escapes import printable
from lightex.core.journal import Record, jsonable

FORMAT = 1
"""Version of the run directory (docs/run-directory.md); readers refuse a newer one."""

QUEUED, SUBMITTED, RUNNING = "QUEUED", "SUBMITTED", "RUNNING"
SUCCEEDED, FAILED, CANCELLED, LOST = "SUCCEEDED", "FAILED", "CANCELLED", "LOST"
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED, LOST})
STATES = (QUEUED, SUBMITTED, RUNNING, SUCCEEDED, FAILED, CANCELLED, LOST)

CAUSES = {
    "exit": "an exit code other than 0",
    "reported": "the run said so itself, though its exit code was 0",
    "killed": "a signal that lx did not send",
    "oom": "out of memory: of its limit, of the machine, of the GPU, or by its own word",
    "timeout": "it took longer than its timeout",
    "stalled": "neither output nor records for longer than its stall",
    "launch": "it could not be started",
    "lost": "it is gone and nobody saw how it ended",
    "cancelled": "someone asked for it",
    "pruned": "a search gave it up",
    "upstream": "a run that it depends on did not succeed",
}
"""Why a run did not succeed: the `cause` of its last event."""


class RunDir:
    """The directory of one run. Nothing is read before it is asked for."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @property
    def id(self) -> str:
        """The run's id, which is the name of its directory."""
        return self.path.name

    @property
    def short_id(self) -> str:
        """The id without its time: what people read and type."""
        return short(self.id)

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def events_file(self) -> Path:
        """What the dispatcher did with the run."""
        return self.path / "events.jsonl"

    @property
    def output_file(self) -> Path:
        """Standard output and standard error of the command, of all attempts."""
        return self.path / "output.log"

    @property
    def build_log(self) -> Path:
        """What was printed when the image that it runs in was built."""
        return self.path / "build.log"

    @property
    def artifacts(self) -> Path:
        """The files that the run kept."""
        return self.path / "artifacts"

    @property
    def sinks(self) -> Path:
        """How far each sink has got, a file per sink."""
        return self.path / "sinks"

    @property
    def usage_file(self) -> Path:
        """What it used while it ran."""
        return self.path / "usage.jsonl"

    def records_file(self, writer: int = 0) -> Path:
        """Where the n-th writer of the run logs to."""
        return self.path / ("records.jsonl" if writer == 0 else f"records.{writer}.jsonl")

    def records_files(self) -> list[Path]:
        """The files of all writers so far, the first writer's first."""
        names = [n for n in os.listdir(self.path) if n.startswith("records.") and n.endswith(".jsonl")]  # noqa: PTH208
        return [self.path / name for name in sorted(names, key=lambda n: (len(n), n))]

    @classmethod
    def create(
        cls,
        path: Path,
        identity: Mapping[str, Any],
        config: Mapping[str, Any],
        event: Record,
        fill: Callable[[RunDir], None] | None = None,
    ) -> RunDir:
        """Make a run's directory, whole or not at all.

        Args:
            path: where; its last part is the run's id.
            identity: becomes run.json, with the format's version.
            config: becomes config.json.
            event: the first line of events.jsonl.
            fill: puts further files into it before it appears under its name.

        Raises:
            StorageError: the folder cannot be written.
        """
        staged = cls(path.parent / f".{path.name}.part")
        folder = str(staged.path)  # paths as texts: sweeps are large, and Path costs as much as the system does
        try:
            try:
                os.mkdir(folder)  # noqa: PTH102
            except FileNotFoundError:
                staged.path.mkdir(parents=True)
            except FileExistsError:  # who was about to make it was killed
                shutil.rmtree(folder)
                os.mkdir(folder)  # noqa: PTH102
            _write(f"{folder}/run.json", {"format": FORMAT, **identity})
            _write(f"{folder}/config.json", config)
            journal.append(f"{folder}/events.jsonl", event)
            if fill:
                fill(staged)
            os.rename(folder, path)  # noqa: PTH104
        except OSError as error:
            shutil.rmtree(staged.path, ignore_errors=True)
            raise journal.cannot_write(path, error) from error
        except StorageError:
            shutil.rmtree(staged.path, ignore_errors=True)
            raise
        made = cls(path)  # what follows spares its dispatcher reading it back
        made.identity, made.config = {"format": FORMAT, **identity}, dict(config)
        return made

    def remove(self) -> None:
        """Take it away with all that it kept. It goes at once: nobody who still writes by its name can bring it back.

        Raises:
            StorageError: it cannot be removed.
        """
        gone = self.path.with_name(f".{self.path.name}.part")
        try:
            self.path.rename(gone)
            shutil.rmtree(gone)
        except OSError as error:
            raise StorageError(f"cannot remove {self.path}: {error.strerror}") from error

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What run.json says; it never changes.

        Raises:
            StorageError: it is missing or broken, or of a newer format.
        """
        identity = read_object(f"{self.path}/run.json")
        version = identity.get("format")
        if not isinstance(version, int) or version > FORMAT:
            raise NewerFormatError(
                f"{self.path} is a run directory of format {version!r}; this LightEx reads up to {FORMAT}",
                "update LightEx: pip install -U lightex",
            )
        return identity

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config.

        Raises:
            StorageError: it is missing or broken.
        """
        return read_object(f"{self.path}/config.json")

    @property
    def notes(self) -> dict[str, Any]:
        """What people wrote on it: `note` (text), `tags` (None: taken away), `archived` (bool).

        Raises:
            StorageError: the file is broken.
        """
        try:
            found = read_object(f"{self.path}/notes.json")
        except FileMissingError:
            found = {}
        tags = found.get("tags")
        return {
            "note": str(found.get("note") or ""),
            "tags": tags if isinstance(tags, dict) else {},
            "archived": found.get("archived") is True,
        }

    def note(
        self, text: str | None = None, tags: Mapping[str, str | None] | None = None, archived: bool | None = None
    ) -> None:
        """Change what people wrote on it; what is None stays. A tag of None is taken away, also one of its config.

        Raises:
            StorageError: the file is broken, or cannot be written.
        """
        try:
            with _alone(self.path / ".notes.json.part"):  # others may change them at the same time
                old = self.notes
                new = {
                    "note": old["note"] if text is None else text,
                    "tags": {**old["tags"], **(tags or {})},
                    "archived": old["archived"] if archived is None else archived,
                }
                write_object(self.path / "notes.json", new)
        except OSError as error:
            raise journal.cannot_write(self.path / "notes.json", error) from error

    @property
    def environment(self) -> dict[str, Any]:
        """What its program ran in: `python`, `system`, `packages`, ...; empty where it did not say.

        Raises:
            StorageError: the file is broken.
        """
        try:
            return read_object(f"{self.path}/environment.json")
        except FileMissingError:
            return {}

    @environment.setter
    def environment(self, value: Mapping[str, Any]) -> None:
        with suppress(OSError):  # a full disk does not keep a training from its start
            write_object(self.path / "environment.json", value)

    @property
    def code_file(self) -> Path | None:
        """The snapshot of the code that its last attempt ran, if there is one."""
        digest = next((each["code"] for each in reversed(self.events()) if each.get("code")), None)
        path = self.path / f"code.{digest}.tar.gz"
        return path if digest and path.is_file() else None

    def events(self) -> list[Record]:
        """What the dispatcher did so far, in order."""
        return list(journal.read(f"{self.path}/events.jsonl"))

    @property
    def last_event(self) -> Record:
        """The last of them. Where there is none (power went before the disk had it), the run counts as queued.

        Raises:
            StorageError: the directory is gone.
        """
        if events := self.events():
            return events[-1]
        if not self.path.is_dir():
            raise StorageError(f"{self.path} is gone")
        return {"state": QUEUED}

    def append_event(self, *events: Record) -> None:
        """Add to what the dispatcher did. Only the dispatcher of the run may.

        Raises:
            StorageError: the file cannot be written.
        """
        journal.append(self.events_file, *events)

    def append_usage(self, record: Record) -> None:
        """Add a sample of what it uses. Only the dispatcher of the run may.

        Raises:
            StorageError: the file cannot be written.
        """
        journal.append(self.usage_file, record)

    def usage(self) -> list[Record]:
        """What it used while it ran: `time`, `cpu` (cores), `memory` (bytes), `read`, `written`, `received`, `sent`
        (bytes a second), `gpus` (by name: `use`, a share of 1, and `memory`, bytes)."""
        return list(journal.read(self.usage_file))

    def cut_torn_event(self) -> None:
        """Take away what a killed dispatcher wrote of its last event. Only the next dispatcher may."""
        descriptor = journal.open_for_append(self.events_file)
        try:
            journal.cut_torn_line(descriptor)
        finally:
            os.close(descriptor)

    def open_output(self, attempt: int) -> int:
        """Open the output file for an attempt, which goes on in it; returns the descriptor.

        Raises:
            OSError: it cannot be written.
        """
        descriptor = os.open(self.output_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if attempt > 1:
            os.write(descriptor, f"--- attempt {attempt} ---\n".encode())
        return descriptor

    def written(self) -> tuple[int, ...]:
        """How many bytes of output and of records there are: what changes while a run does anything to be seen."""
        return tuple(each.st_size for each in self._work())

    def written_at(self) -> float | None:
        """When it last wrote output or records, in UTC seconds since the epoch; None: never."""
        return max((each.st_mtime for each in self._work()), default=None)

    def _work(self) -> Iterator[os.stat_result]:
        with suppress(FileNotFoundError):  # the run was removed
            for path in (self.output_file, *self.records_files()):
                with suppress(FileNotFoundError):
                    yield path.stat()

    def last_output(self, size: int = 4096) -> list[str]:
        """The last lines of the output, of its last `size` bytes: bars as they last stood, nothing a terminal obeys."""
        try:
            with self.output_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        lines = (printable(line.rstrip().rsplit("\r", 1)[-1]) for line in text.split("\n"))
        return [line for line in lines if line.strip()]


def short(run_id: str) -> str:
    """The id without its time: "261123-174613-3f9a-007" -> "3f9a-007"."""
    return run_id.split("-", 2)[-1]


def read_object(path: Path | str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StorageError: the file is missing, or is not a JSON object.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  Path.open costs twice as much, and 1,000 runs are listed
            value = jsonlib.loads(file.read())
    except FileNotFoundError as error:
        raise FileMissingError(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except jsonlib.JSONDecodeError as error:
        raise StorageError(f"{path} is broken: line {error.lineno}, column {error.colno}: {error.msg}") from error
    if not isinstance(value, dict):
        raise StorageError(f"{path} is broken: not a JSON object")
    return value


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, under a temporary name beside first, so that readers never see half of it.

    Raises:
        OSError: it cannot be written.
    """
    staged = path.with_name(f".{path.name}.part")
    _write(staged, value)
    staged.replace(path)


@contextmanager
def _alone(staged: Path) -> Iterator[None]:
    """Keep all others out who are about to write a file under the same temporary name, and then rename it."""
    while True:
        descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(staged, descriptor):  # who was before has renamed it
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(path: Path | str, value: Mapping[str, Any]) -> None:
    data = jsonlib.dumps(jsonable(dict(value)), option=jsonlib.OPT_INDENT_2 | jsonlib.OPT_APPEND_NEWLINE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        journal.write_whole(descriptor, data)
    finally:
        os.close(descriptor)
