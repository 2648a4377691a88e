"""The run that a program logs to."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep, time
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from lightex.core.errors import LightexError, did_you_mean
from lightex.core.journal import Record, advice, encode, jsonable, write_whole
from lightex.core.jsonlib import OPT_APPEND_NEWLINE, dumps
from lightex.core.rundir import CANCELLED, FAILED, SUCCEEDED, RunDir
from lightex.mulogger.logs import Addressed, Logs

if TYPE_CHECKING:
    from lightex.mulogger.sink import Sink

_BACKLOG = 16 * 1024 * 1024  # bytes kept in memory while the disk is full
_LOOK = 2.0  # seconds between two looks whether the feeder lives

_RUNS: WeakSet[Run] = WeakSet()


def _mark_forked() -> None:
    for run in _RUNS:
        run._forked = True


os.register_at_fork(after_in_child=_mark_forked)


class Run(Logs):
    """A run that is being written to. Get one from `lightex.start_run()`.

    Every call appends one record to the run's directory and has handed it to the operating system when it
    returns: a killed process loses nothing. Calls from several threads are safe. A forked child that logs
    becomes a further writer of the run.

    Args:
        directory: the run's directory.
        descriptor: open for appending to a file of records that no other process holds.
        writer: the number of that file; only writer 0 decides on parameters and status.
        attempt: 1 for the first, counted up by each resume.
        owned: no dispatcher started it: this process writes its events.
        reopen: opens a file of records for a forked child, given the least number; returns descriptor and number.
        feed: sees to it that the run's sinks are fed, False where it cannot; None: it has none.
        direct: sinks that are fed here and now, by name.
        wait_for_space: on a full disk keep records in memory (up to 16 MiB) until there is room; else raise.
    """

    def __init__(
        self,
        directory: RunDir,
        descriptor: int,
        writer: int,
        attempt: int,
        owned: bool,
        reopen: Callable[[RunDir, int], tuple[int, int]],
        feed: Callable[[RunDir], bool] | None = None,
        direct: Mapping[str, Sink] | None = None,
        wait_for_space: bool = True,
    ) -> None:
        self.directory = directory
        self.writer, self.attempt = writer, attempt
        self._reopen, self._feed, self._direct = reopen, feed, dict(direct or {})
        self._wait_for_space = wait_for_space
        self._look_at = monotonic() + _LOOK if feed else float("inf")
        _RUNS.add(self)
        self._descriptor = descriptor
        self._owned = owned
        self._finished = self._forked = False
        self._backlog = bytearray()
        if os.fstat(descriptor).st_size or attempt > 1:
            self._write({"time": time(), "attempt": attempt})

    def __repr__(self) -> str:
        return f"<Run {self.id} in {self.dir}>"

    @property
    def id(self) -> str:
        """The run's id."""
        return self.directory.id

    @property
    def dir(self) -> Path:
        """The run's directory."""
        return self.directory.path

    @property
    def artifacts(self) -> Path:
        """The folder for files that the run keeps, e.g. checkpoints; made when asked for."""
        self.directory.artifacts.mkdir(exist_ok=True)
        return self.directory.artifacts

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain nested dicts, `run.config["hp"]["lr"]`; empty for a local run."""
        return self.directory.config

    def log(self, metrics: Mapping[str, Any], step: float | None = None) -> None:  # noqa: D102  as Logs has it
        for value in metrics.values():  # plain finite numbers, the common case, go as they are
            kind = type(value)
            if kind is float:
                if value - value != 0.0:
                    break
            elif kind is not int:
                break
        else:
            if not self._direct:
                try:
                    record = {"time": time(), "step": step, "metrics": metrics}
                    data = dumps(record, None, OPT_APPEND_NEWLINE)
                except TypeError:  # an int over 64 bits, a key that is no text, a step that is a NumPy number
                    pass
                else:
                    self._append(data)
                    return
        super().log(metrics, step)

    def to(self, *sinks: str) -> Addressed:
        """The logging calls for some of the run's sinks only: `run.to("mlflow").log({...})`. The run keeps all.

        Raises:
            LightexError: the run has no such sink.
        """
        from lightex.mulogger.delivery import chosen

        known = [*chosen(self.directory), *self._direct]
        for name in sinks:
            if name not in known:
                raise LightexError(
                    f"run {self.directory.short_id} has no logger '{name}'.{did_you_mean(name, known)}",
                    f"it has: {', '.join(known) or 'none'}; loggers=[...] in the config chooses them",
                )
        return Addressed(self, sinks)

    def sink(self, name: str, timeout: float = 30.0) -> Any:
        """A sink as its backend knows it: `run.sink("mlflow").client`, `.run_id`; docs/loggers.md has them all.

        Args:
            name: one of the run's loggers.
            timeout: seconds to wait until the feeder has made the run there.

        Raises:
            LightexError: the run has no such sink, or the backend does not answer.
        """
        from lightex.mulogger import delivery

        self.to(name)
        if name in self._direct:
            return self._direct[name]
        deadline = time() + timeout
        while not (found := delivery.progress(self.directory, name)).state:
            if time() > deadline:
                raise LightexError(f"{name} is not there after {timeout:g} s: {found.error or 'the feeder is at it'}")
            sleep(0.05)
        return delivery.native(self.directory, name)

    def finish(self, status: str = SUCCEEDED, reason: str | None = None) -> None:
        """End the run; a second call does nothing. Done by `with`, and when the interpreter ends.

        Args:
            status: SUCCEEDED, FAILED or CANCELLED.
            reason: why, if it did not succeed.
        """
        if self._finished:
            return
        if self._forked:  # a child that logged nothing
            self._finished = True
            return
        self._write({"time": time(), "finish": {"status": status, "reason": reason}})
        self._finished = True
        for name, sink in list(self._direct.items()):
            self._tell(name, lambda sink=sink: sink.close(status, reason))  # type: ignore[misc]
        if self._owned:
            self.directory.append_event({"time": time(), "state": status, "reason": reason, "attempt": self.attempt})
        if self._backlog:
            print(
                f"lightex: {len(self._backlog)} bytes of records of run {self.directory.short_id} are lost:"
                f" {self.dir} cannot be written",
                file=sys.stderr,
            )
        with contextlib.suppress(OSError):  # some file systems do not sync; the records are with the system
            os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(*verdict(error))

    def _write(self, record: Record) -> None:
        record = jsonable(record)
        self._append(encode(record))
        for name, sink in list(self._direct.items()):
            if name in record.get("to", (name,)):
                self._tell(name, lambda sink=sink: sink.write([record]))  # type: ignore[misc]

    def _tell(self, name: str, call: Callable[[], None]) -> None:
        """Call a sink inside the training: what it raises is said once, and costs the training nothing else."""
        try:
            call()
        except Exception as error:  # noqa: BLE001  whatever a backend raises is its own
            del self._direct[name]
            with contextlib.suppress(OSError):
                print(f"lightex: {name} fails and is left out: {type(error).__name__}: {error}", file=sys.stderr)

    def _append(self, data: bytes) -> None:
        if self._finished:
            raise LightexError(f"run {self.directory.short_id} is finished", "log before finish(), inside the `with`")
        if self._forked:
            self._become_writer()
        if monotonic() > self._look_at:
            self._look()
        if self._backlog:
            data = bytes(self._backlog) + data
        try:
            write_whole(self._descriptor, data)
        except OSError as error:
            self._keep_for_later(data, error)
        else:
            if self._backlog:
                self._backlog.clear()

    def _become_writer(self) -> None:
        """In a forked child: its own file, so that each file has one writer; the parent alone ends the run."""
        self._forked = False
        os.close(self._descriptor)
        self._descriptor, self.writer = self._reopen(self.directory, 1)
        self._owned, self._feed, self._look_at = False, None, float("inf")
        self._backlog.clear()

    def _look(self) -> None:
        """See to it that a feeder lives: it is replaced when it dies. What goes wrong there is not the training's."""
        self._look_at = monotonic() + _LOOK
        if self._feed and not self._feed(self.directory):
            self._feed, self._look_at = None, float("inf")

    def _keep_for_later(self, data: bytes, error: OSError) -> None:
        """A full disk need not end a training of days: keep what it refused, try again with the next record."""
        if not self._wait_for_space:
            raise LightexError(f"cannot write to {self.dir}: {error.strerror}", *advice(error)) from error
        if not self._backlog:
            print(
                f"lightex: cannot write to {self.dir}: {error.strerror}; records are kept in memory until it works",
                file=sys.stderr,
            )
        self._backlog[:] = data
        if len(self._backlog) > _BACKLOG:
            raise LightexError(
                f"{_BACKLOG >> 20} MiB of records wait for {self.dir}: {error.strerror}", "free some space there"
            ) from error


def verdict(error: BaseException | None) -> tuple[str, str | None]:
    """The status and reason of a run whose block ended with this exception, or with none."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return SUCCEEDED, None
    if isinstance(error, SystemExit):
        return FAILED, f"exit code {error.code}" if isinstance(error.code, int) else str(error.code)
    if isinstance(error, KeyboardInterrupt):
        return CANCELLED, "interrupted"
    text = str(error).strip().split("\n", 1)[0]
    return FAILED, f"{type(error).__name__}: {text}" if text else type(error).__name__
