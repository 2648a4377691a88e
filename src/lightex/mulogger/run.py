"""The run that a program logs to."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from time import time
from types import TracebackType
from typing import Any

from orjson import OPT_APPEND_NEWLINE, dumps

from lightex.core.errors import LightexError
from lightex.core.journal import Record, encode, jsonable, write_whole
from lightex.core.rundir import CANCELLED, FAILED, SUCCEEDED, RunDir
from lightex.mulogger import artifacts, models
from lightex.mulogger.values import plain_metrics, plain_params

_BACKLOG = 16 * 1024 * 1024  # bytes kept in memory while the disk is full


class Run:
    """A run that is being written to. Get one from `lightex.start_run()`.

    Every call appends one record to the run's directory and has handed it to the operating system when it
    returns: a killed process loses nothing. Calls from several threads are safe.
    """

    def __init__(self, directory: RunDir, descriptor: int, attempt: int, owned: bool) -> None:
        self.directory = directory
        self.attempt = attempt
        self._descriptor = descriptor
        self._owned = owned  # no dispatcher started it: this process writes its events
        self._finished = False
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

    def log(self, metrics: Mapping[str, Any], step: float | None = None) -> None:
        """Record metrics.

        Args:
            metrics: numbers by name: Python, NumPy or one-element tensors; NaN and infinity are kept. Nested
                mappings get dotted names.
            step: any number that orders them, e.g. the epoch or batch; default: none, ordered by time.

        Raises:
            LightexError: a value is not a number, or the run is finished.
        """
        for value in metrics.values():  # plain finite numbers, the common case, go as they are
            kind = type(value)
            if kind is float:
                if value - value != 0.0:
                    break
            elif kind is not int:
                break
        else:
            try:
                record = {"time": time(), "step": step, "metrics": metrics}
                data = dumps(record, None, OPT_APPEND_NEWLINE)
            except TypeError:  # an int over 64 bits, a key that is no text, a step that is a NumPy number
                data = self._encode_metrics(metrics, step)
            self._append(data)
            return
        self._append(self._encode_metrics(metrics, step))

    def log_metric(self, key: str, value: Any, step: float | None = None) -> None:
        """Record one metric (MLflow's name for it)."""
        self.log({key: value}, step)

    def log_metrics(self, metrics: Mapping[str, Any], step: float | None = None) -> None:
        """Record metrics (MLflow's name for `log`)."""
        self.log(metrics, step)

    def log_params(self, params: Any) -> None:
        """Record parameters: a mapping, a dataclass or an argparse namespace; nested ones get dotted names."""
        self._write({"time": time(), "params": plain_params(params)})

    def log_param(self, key: str, value: Any) -> None:
        """Record one parameter."""
        self.log_params({key: value})

    def set_tag(self, key: str, value: Any) -> None:
        """Label the run."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Label the run."""
        self._write({"time": time(), "tags": {str(key): str(value) for key, value in tags.items()}})

    def log_text(self, text: str, name: str = "text", step: float | None = None) -> None:
        """Record a text under a name, e.g. a sample that a language model wrote."""
        self._write({"time": time(), "step": step, "text": {"name": name, "value": str(text)}})

    def log_artifact(self, path: str | os.PathLike[str], name: str | None = None) -> Path:
        """Keep a copy of a file or a folder.

        Args:
            path: what to keep.
            name: where below the run's artifacts; default: its own name.

        Returns:
            Where it is kept.

        Raises:
            LightexError: it does not exist, or the name leads out of the artifacts.
        """
        source = Path(path)
        for about in artifacts.keep(source, self.artifacts, name):
            self._write({"time": time(), "artifact": about})
        return self.directory.artifacts / (name or source.name)

    def log_model(self, model: Any, name: str = "model") -> Path:
        """Keep a model: a scikit-learn estimator, a PyTorch module, or the file of one that is saved already.

        Args:
            model: the model, or a path.
            name: its name below the run's artifacts, without suffix.

        Returns:
            Where it is kept.

        Raises:
            LightexError: there is no format for it, or a package that saves it is missing.
        """
        if isinstance(model, (str, os.PathLike)):
            source = Path(model)
            kind: dict[str, Any] = {"format": "file"}
            found = artifacts.keep(source, self.artifacts, f"{artifacts.checked_name(name)}{source.suffix}")
            path = self.dir / str(found[0]["path"])
        else:
            path, kind = models.save(model, self.artifacts, str(artifacts.checked_name(name)))
            found = [artifacts.describe(path, self.directory.artifacts)]
        for about in found:
            self._write({"time": time(), "artifact": about | {"model": kind}})
        return path

    def finish(self, status: str = SUCCEEDED, reason: str | None = None) -> None:
        """End the run; a second call does nothing. Done by `with`, and when the interpreter ends.

        Args:
            status: SUCCEEDED, FAILED or CANCELLED.
            reason: why, if it did not succeed.
        """
        if self._finished:
            return
        self._write({"time": time(), "finish": {"status": status, "reason": reason}})
        self._finished = True
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

    def _encode_metrics(self, metrics: Mapping[str, Any], step: Any) -> bytes:
        if step is not None:
            step = plain_metrics({"step": step})["step"]
        return encode({"time": time(), "step": step, "metrics": plain_metrics(metrics)})

    def _write(self, record: Record) -> None:
        self._append(encode(jsonable(record)))

    def _append(self, data: bytes) -> None:
        if self._finished:
            raise LightexError(f"run {self.directory.short_id} is finished", "log before finish(), inside the `with`")
        if self._backlog:
            data = bytes(self._backlog) + data
        try:
            write_whole(self._descriptor, data)
        except OSError as error:
            self._keep_for_later(data, error)
        else:
            if self._backlog:
                self._backlog.clear()

    def _keep_for_later(self, data: bytes, error: OSError) -> None:
        """A full disk must not end a training of days: keep what it refused, try again with the next record."""
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
