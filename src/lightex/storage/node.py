"""What runs beside an experiment on a node that shares no disk with the user's machine.

`python -m lightex.storage.node stage` brings all that it needs, before it begins; `... return` sends what it makes,
while it runs and at its end. The variable LX_NODE tells what, as JSON:

    remote    {"url", "endpoint"} of the store that runs and code travel through; without one they are on a shared disk
    name      of the run there (mirror.name_of); run: its directory here; attempt: its number
    rank_from the variable with the number of this node; nodes: how many there are
    code      digest of the working tree; project: the folder that it is laid out in
    upstream  [{"name", "path"}] of the runs that it depends on
    dirs      [{"name", "url", "endpoint", "path", "write"}]
    alive     a FIFO in a folder that both see. The command's wrapper opens it for writing (which waits for `return`)
              and leaves it to the command: it ends when the command and all its children are gone.
    every     seconds between two times of sending; patience: seconds that a store may be away for at the end
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, LightexError, StorageError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Store
from lightex.core.units import format_duration
from lightex.storage import staging, worktree
from lightex.storage.bucket import AwayError, Bucket
from lightex.storage.mirror import Mirror, Owned, nobodys, users
from lightex.storage.store import Place, find
from lightex.storage.transfer import files_below

T = TypeVar("T")

VARIABLE = "LX_NODE"
"""Names the environment variable that tells what to do."""

_LOOK = 0.5  # seconds between two looks at signals
_LATE = 2.0  # seconds that a command may yet begin in, after the pod was told to end
_LONGEST_PAUSE = 30.0  # seconds between two tries


@dataclass(frozen=True)
class Node:
    """What is to be done; the attributes are told at the top of this module."""

    run: Path
    alive: Path
    attempt: int = 1
    name: str = ""
    remote: Mapping[str, Any] | None = None
    rank_from: str = "JOB_COMPLETION_INDEX"
    nodes: int = 1
    code: str | None = None
    project: Path | None = None
    upstream: tuple[Mapping[str, str], ...] = ()
    dirs: tuple[Mapping[str, Any], ...] = ()
    every: float = 3.0
    patience: float = 600.0
    termination: Path = Path("/dev/termination-log")

    @classmethod
    def of(cls, text: str | None) -> Node:
        """Read it from the variable.

        Raises:
            ConfigError: it is not set, or not understood.
        """
        try:
            told = jsonlib.loads(text or "")
            paths = {key: Path(told[key]) for key in ("run", "alive", "project", "termination") if told.get(key)}
            lists = {key: tuple(told.get(key) or ()) for key in ("upstream", "dirs")}
            return cls(**{**{key: value for key, value in told.items() if value is not None}, **paths, **lists})
        except (jsonlib.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{VARIABLE} is not understood: {error}", "the pods that lx makes set it; others have no use for this"
            ) from error

    @property
    def rank(self) -> int:
        """The number of this node."""
        return int(os.environ.get(self.rank_from) or 0)

    def beside(self, what: str) -> Path:
        """A file of ours in the folder that both containers see."""
        return self.alive.with_name(f".{self.alive.name}.{what}")

    def bucket(self) -> Bucket:
        """The store that runs travel through."""
        assert self.remote  # noqa: S101  callers have looked
        return Bucket.of(_place(self.remote), inside=True)

    def owned(self) -> Owned:
        """What this node writes of the run's directory: all but the user's; of several, what it has made or changed."""
        if self.nodes == 1:
            return lambda path: not users(path)
        was: dict[str, list[int]] = jsonlib.loads(self.beside("baseline").read_bytes())

        def differs(path: str) -> bool:
            with suppress(FileNotFoundError):
                about = (self.run / path).stat()
                return was.get(path) != [about.st_size, about.st_mtime_ns]
            return True

        return lambda path: not users(path) and differs(path)


def stage(node: Node) -> None:
    """Bring all that the command needs.

    Raises:
        StorageError: it cannot be had.
    """
    os.umask(0)  # the command may run as another user
    node.run.mkdir(parents=True, exist_ok=True)
    node.alive.parent.mkdir(parents=True, exist_ok=True)
    if node.remote:
        _bring_runs(node, node.bucket())
    for about in node.dirs:
        path = Path(about["path"])
        place, index = _place(about), node.beside(f"{about['name']}.index")
        _patiently(node, partial(staging.fetch, place, _say, path, inside=True, index=index))
        _say(f"{about['name']}: {place.url} is in {path}")
    was = {path: [about.st_size, about.st_mtime_ns] for path, about in files_below(node.run)}
    node.beside("baseline").write_bytes(jsonlib.dumps(was))
    node.beside("seen").unlink(missing_ok=True)
    with suppress(FileExistsError):
        os.mkfifo(node.alive, 0o666)
    _begin_output(node)


def send_back(node: Node) -> None:
    """Send what the command makes, until it and all its children are gone.

    Raises:
        StorageError: it cannot be sent.
    """
    watch = _Watch(node.alive, node.beside("seen"))
    mirror, owned = (Mirror(node.bucket(), node.name), node.owned()) if node.remote else (None, nobodys)
    pause, said = node.every, ""
    while not watch.ended(pause):
        if mirror is None:
            continue
        try:
            mirror.push(node.run, owned)
            pause, said = node.every, ""
        except StorageError as error:  # what is left is sent at the end
            pause = min(2 * pause, _LONGEST_PAUSE)
            if error.message != said:
                said = error.message
                _say(f"cannot send for now: {said}")
    failed = _send_dirs(node)
    if mirror is not None:
        _patiently(node, partial(mirror.finish, node.run, owned, node.rank, node.attempt))
        _say(f"{node.name}: all is sent")
    if failed:
        raise failed


def main(words: list[str]) -> int:
    """What is run as a module; returns the exit code."""
    termination = Node.termination
    try:
        if words not in (["stage"], ["return"]):
            raise ConfigError(f"not a step: {' '.join(words) or 'nothing'}", "valid: stage, return")
        node = Node.of(os.environ.get(VARIABLE))
        termination = node.termination
        if words == ["stage"]:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the first process of a container ignores it else
            stage(node)
        else:
            send_back(node)
    except (LightexError, OSError) as error:
        text = f"lightex {' '.join(words)}: {error}"
        print(text, file=sys.stderr, flush=True)
        if termination.exists():
            termination.write_text(text)
        return 1
    return 0


class _Watch:
    """Looks at the FIFO that the command holds.

    Args:
        fifo: its path.
        mark: the file that notes that it was held, for a container that is started again.
    """

    def __init__(self, fifo: Path, mark: Path) -> None:
        self._mark, self._held = mark, mark.exists()
        self._descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._told_to_end: float | None = None
        # The pod is told to end: so is the command, which may take its time.
        signal.signal(signal.SIGTERM, lambda *_: self._note_end())

    def _note_end(self) -> None:
        self._told_to_end = self._told_to_end or time.monotonic()

    def ended(self, seconds: float) -> bool:
        """Whether the command and its children are gone; False after so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            events = self._poll.poll(1000 * min(left, _LOOK))
            hung_up = any(event & select.POLLHUP for _, event in events)  # never before somebody has held it
            try:
                if os.read(self._descriptor, 4096):
                    continue
                if hung_up or self._held:
                    self._mark.touch()
                    return True
            except BlockingIOError:  # held, and nothing is written
                if not self._held:
                    self._held = True
                    self._mark.touch()
            if not self._held and self._told_to_end and time.monotonic() - self._told_to_end > _LATE:
                return True  # it never began, and never will
        return False


def _bring_runs(node: Node, bucket: Bucket) -> None:
    for name, path in [(node.name, node.run), *((each["name"], Path(each["path"])) for each in node.upstream)]:
        path.mkdir(parents=True, exist_ok=True)
        mirror = Mirror(bucket, name)
        _patiently(node, partial(mirror.pull, path, nobodys))
        if mirror.damaged:
            raise StorageError(*mirror.damaged)
        if not (path / "run.json").exists():
            raise StorageError(f"{bucket.url}{name}: there is no such run", "it was removed, or never sent")
        _say(f"{name}: is in {path}")
    if node.code and node.project:
        _patiently(node, partial(worktree.unpack, bucket, node.code, node.project))
        _say(f"code {node.code[:12]}: is in {node.project}")


def _begin_output(node: Node) -> None:
    """Make the file that the command's output goes to, with the attempt's header, once."""
    run, header = RunDir(node.run), f"--- attempt {node.attempt} ---"
    path = run.output_file if node.rank == 0 else node.run / f"output.{node.rank}.log"
    with path.open("ab+") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(header) - 1))
        begun = file.read().decode(errors="replace").strip() == header
    if node.attempt > 1 and not begun:
        with path.open("ab") as file:
            file.write(f"{header}\n".encode())


def _send_dirs(node: Node) -> LightexError | None:
    """Send the folders that the command may have written to; returns what went wrong, for after all else is sent."""
    failed: LightexError | None = None
    for about in node.dirs:
        if not about.get("write"):
            continue
        place, index = _place(about), node.beside(f"{about['name']}.index")
        try:
            count = _patiently(node, partial(staging.send, place, Path(about["path"]), _say, inside=True, index=index))
            _say(f"{about['name']}: {count} files are sent to {place.url}")
        except LightexError as error:
            failed = error
    return failed


def _patiently(node: Node, do: Callable[[], T]) -> T:
    """Do something again and again while the store is away, with growing pauses.

    Raises:
        StorageError: it does not come back in time.
    """
    until, pause = time.monotonic() + node.patience, min(1.0, node.every)
    while True:
        try:
            return do()
        except AwayError as error:
            if time.monotonic() + pause > until:
                raise StorageError(
                    error.message, f"this was tried for {format_duration(node.patience)}", *error.details
                ) from error
            _say(f"tries again: {error.message}")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _place(about: Mapping[str, Any]) -> Place:
    store = Store(about["url"], endpoint=about.get("endpoint"), write=bool(about.get("write")))
    return find(store, Path("/"), str(about.get("name", "storage.remote")))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
