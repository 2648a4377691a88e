"""The folder of all runs: where it is, which runs and sweeps it holds, how they are found."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from lightex.core import journal
from lightex.core.errors import LightexError, NotFoundError, StorageError, did_you_mean
from lightex.core.rundir import RunDir, read_object, short, write_object

PROJECT_FILES = ("lxconfig.py", "lxconfig.yaml", "lxconfig.yml", "lxconfig.toml", "lxconfig.json")

T = TypeVar("T")

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letters that read as digits


class Root:
    """A folder of runs, `ROOT/EXPERIMENT/RUN_ID`, and of sweeps, `ROOT/.sweeps/SWEEP_ID`."""

    def __init__(self, path: os.PathLike[str] | str) -> None:
        self.path = Path(path).absolute()

    @classmethod
    def locate(cls, given: os.PathLike[str] | str | None = None, start: Path | None = None) -> Root:
        """The folder given, or that of LX_ROOT, or `runs/` beside the nearest lxconfig file, or here."""
        chosen = given or os.environ.get("LX_ROOT")
        return cls(chosen) if chosen else cls((project_folder(start) or start or Path.cwd()) / "runs")

    def runs(self) -> Iterator[RunDir]:
        """All runs, the oldest first."""
        found = []
        for experiment in _folders(self.path):
            found += _folders(experiment)
        found.sort(key=lambda path: path.rpartition("/")[2])
        return (RunDir(path) for path in found)

    def runs_of(self, experiment: str) -> Iterator[RunDir]:
        """The runs of one experiment, the oldest first."""
        return (RunDir(path) for path in sorted(_folders(self.path / experiment)))

    def sweeps(self) -> list[SweepDir]:
        """All sweeps, the oldest first."""
        found = [SweepDir(Path(path)) for path in _folders(self.path / ".sweeps")]
        return sorted(found, key=lambda sweep: sweep.made)

    def sweep(self, sweep_id: str) -> SweepDir:
        """The sweep of that id, whether it is there or not."""
        return SweepDir(self.path / ".sweeps" / sweep_id)

    def find_sweep(self, prefix: str | None = None) -> SweepDir:
        """The sweep whose id begins so, or the latest.

        Raises:
            NotFoundError: none or several do.
        """
        sweeps = self.sweeps()
        if prefix is None:
            if not sweeps:
                raise NotFoundError(f"no sweep in {self.path} yet", "start one with: lx run NAME")
            return sweeps[-1]
        found = [sweep for sweep in sweeps if sweep.id.startswith(prefix)]
        return _only(found, prefix, "sweep", [sweep.id for sweep in sweeps])

    def find(self, prefix: str) -> list[RunDir]:
        """The run that a prefix of its id (with or without its time) selects, or all runs of that sweep.

        Raises:
            NotFoundError: nothing or several are meant.
        """
        runs = list(self.runs())
        exact = [run for run in runs if prefix in (run.id, run.short_id)]
        sweep = [run for run in runs if _sweep_of(run) == prefix]
        if exact or sweep:
            return exact or sweep
        found = [run for run in runs if run.id.startswith(prefix) or run.short_id.startswith(prefix)]
        sweeps = {_sweep_of(run) for run in found}
        if len(found) > 1 and len(sweeps) == 1 and "-" not in prefix:
            return found
        return [_only(found, prefix, "run", [run.short_id for run in runs])]

    def find_run(self, prefix: str) -> RunDir:
        """The one run that a prefix of its id selects.

        Raises:
            NotFoundError: none or several do.
        """
        return _only(found := self.find(prefix), prefix, "run", [run.short_id for run in found])

    def latest(self) -> list[RunDir]:
        """The runs of the latest sweep, or the latest run, whichever is younger.

        Raises:
            NotFoundError: there are no runs.
        """
        runs = list(self.runs())
        if not runs:
            raise NotFoundError(f"no runs in {self.path} yet", "start some with: lx run NAME")
        second = runs[-1].id[:13]  # an id tells the second; of those of the same one, the record tells more
        latest = max((run for run in runs if run.id.startswith(second)), key=lambda run: run.identity.get("created", 0))
        sweep = _sweep_of(latest)
        return [run for run in runs if sweep and _sweep_of(run) == sweep] or [latest]

    def new_sweep(self, about: Mapping[str, Any]) -> SweepDir:
        """Make a sweep with an id of its own; `about` becomes its sweep.json.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            (self.path / ".sweeps").mkdir(parents=True, exist_ok=True)
            while True:
                sweep = self.sweep(random_letters(4))
                try:
                    sweep.path.mkdir()
                    break
                except FileExistsError:
                    continue
            write_object(sweep.path / "sweep.json", {"id": sweep.id, **about})
        except OSError as error:
            raise journal.cannot_write(self.path, error) from error
        return sweep


class SweepDir:
    """What belongs to a whole sweep: how it was asked for, its code until the runs have it, its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def id(self) -> str:
        """The sweep's id, which is the name of its directory."""
        return self.path.name

    @property
    def made(self) -> float:
        """When its sweep.json was written, in UTC seconds since the epoch; 0 where it is not there."""
        try:
            return (self.path / "sweep.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def about(self) -> dict[str, Any]:
        """What sweep.json says.

        Raises:
            StorageError: it is missing or broken.
        """
        return read_object(self.path / "sweep.json")

    @property
    def ledger(self) -> Path:
        """Where the keeper writes down how orphans ended."""
        return self.path / "orphans.jsonl"

    @property
    def log(self) -> Path:
        """What a detached supervisor prints."""
        return self.path / "log"

    @property
    def paused(self) -> bool:
        """Whether nothing new of it starts."""
        return (self.path / "paused").exists()

    @paused.setter
    def paused(self, value: bool) -> None:
        if value:
            (self.path / "paused").touch()
        else:
            (self.path / "paused").unlink(missing_ok=True)

    @property
    def waits_for(self) -> str:
        """What the first run that has not started waits for, as its dispatcher last told: a hint."""
        try:
            return (self.path / "waits").read_text()
        except FileNotFoundError:
            return ""

    @waits_for.setter
    def waits_for(self, words: str) -> None:
        staged = self.path / ".waits.part"
        with suppress(OSError):
            staged.write_text(words)
            staged.replace(self.path / "waits")

    def runs(self) -> list[RunDir]:
        """The runs of this sweep, in order."""
        about = self.about
        folders = (self.path.parent.parent / str(name) for name in about.get("experiments", []))
        runs = (RunDir(path) for folder in folders for path in _folders(folder))
        return sorted((run for run in runs if _sweep_of(run) == self.id), key=lambda run: run.id)

    def request(self, request: Mapping[str, Any]) -> None:
        """Ask the dispatcher of this sweep for something.

        Raises:
            StorageError: the folder cannot be written.
        """
        folder = self.path / "requests"
        try:
            folder.mkdir(exist_ok=True)
            write_object(folder / f"{time.time_ns()}-{os.getpid()}.json", request)
        except OSError as error:
            raise journal.cannot_write(folder, error) from error

    def stop(self, runs: Sequence[str] | None, reason: str, kill: bool = False) -> None:
        """Ask the dispatcher of this sweep to end runs, by their ids, or (None) all of it.

        Raises:
            LightexError: there is no dispatcher.
            StorageError: the folder cannot be written.
        """
        self.check_supervised()
        self.request({"do": "stop", "runs": runs, "reason": reason, "kill": kill})

    def prioritize(self, runs: Sequence[str], priority: int) -> None:
        """Ask the dispatcher of this sweep to give runs that wait, by their ids, a priority.

        Raises:
            LightexError: there is no dispatcher.
            StorageError: the folder cannot be written.
        """
        self.check_supervised()
        self.request({"do": "prioritize", "runs": list(runs), "priority": priority})

    def take_requests(self) -> list[dict[str, Any]]:
        """What is asked of the dispatcher, in order; each is told once. One that is broken is put aside."""
        try:
            names = sorted(name for name in os.listdir(self.path / "requests") if name[0] != ".")  # noqa: PTH208
        except FileNotFoundError:
            return []
        taken = []
        for name in names:
            file = self.path / "requests" / name
            try:
                taken.append(read_object(file))
            except StorageError:
                file.replace(file.with_name(f".{name}.broken"))
            else:
                file.unlink()
        return taken

    def claim(self) -> bool:
        """Become the one dispatcher of this sweep, until the process ends; False if another is.

        Raises:
            StorageError: its folder cannot be written.
        """
        if self._lock is not None:
            return True
        try:
            self._lock = claimed(self.path / "lock")
        except OSError as error:
            raise journal.cannot_write(self.path / "lock", error) from error
        return self._lock is not None

    def release(self) -> None:
        """Let another dispatcher take the sweep."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def supervised(self) -> bool:
        """Whether a dispatcher is at work on it now."""
        return locked(self.path / "lock")

    def check_supervised(self) -> None:
        """See to it that a dispatcher is at work on it.

        Raises:
            LightexError: none is.
        """
        if not self.supervised:
            raise LightexError(f"nothing is at work on sweep {self.id}", f"lx resume {self.id} takes it up again")


def claim(descriptor: int) -> bool:
    """Lock an open file for this process; False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claimed(path: Path, mode: int = 0o666) -> int | None:
    """A lock file, open and locked for this process until it is closed; None if another process holds it.

    Args:
        path: of the file, which is made where it is missing.
        mode: whose it is to use, before the umask.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    if claim(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def locked(path: Path) -> bool:
    """Whether a living process holds a file's lock: the kernel lets go of it however its owner ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def project_folder(start: Path | None = None) -> Path | None:
    """The nearest folder, from `start` (default: here) upwards, that has an lxconfig file."""
    here = (start or Path.cwd()).absolute()
    return next((f for f in (here, *here.parents) if any((f / name).is_file() for name in PROJECT_FILES)), None)


def run_id(created: float, tail: str) -> str:
    """A run's id: the UTC time of its creation (seconds since the epoch), so that ids sort, and its tail."""
    return time.strftime("%y%m%d-%H%M%S-", time.gmtime(created)) + tail


def random_letters(count: int) -> str:
    """So many letters and digits by chance."""
    return letters(os.urandom(count))


def letters(data: bytes) -> str:
    """A letter or digit for each byte."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in data)  # 256 is a multiple of 32


def _sweep_of(run: RunDir) -> str:
    return short(run.id).partition("-")[0] if "-" in short(run.id) else ""


def _folders(path: Path | str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # lost+found of a disk is none of ours
        return []


def _only(found: list[T], prefix: str, kind: str, known: list[str]) -> T:
    if len(found) == 1:
        return found[0]
    if not found:
        hint = did_you_mean(prefix, known) or f" The latest is '{known[-1]}'." if known else ""
        raise NotFoundError(f"no {kind} '{prefix}'.{hint}", "lx ls shows what there is")
    names = sorted(getattr(item, "short_id", getattr(item, "id", "")) for item in found)
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    raise NotFoundError(f"'{prefix}' means {len(found)} {kind}s: {shown}", "type some more of the id")
