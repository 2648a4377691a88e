"""Bringing the records of one run to one sink: what is new since the cursor, which is kept on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lightex.core import plugins
from lightex.core.errors import ConfigError, did_you_mean, one_line
from lightex.core.journal import Record, number, read_from
from lightex.core.root import claimed
from lightex.core.rundir import RunDir, read_object, write_object
from lightex.core.summary import flat_params
from lightex.mulogger.sink import Sink, Source

BATCH = 1 << 20
"""Bytes of records that a sink is handed at once."""


@dataclass(frozen=True)
class Progress:
    """How far a sink has got with a run.

    Attributes:
        sink: its name.
        behind: bytes of records that it has not got yet.
        error: the last error, None if the last attempt went well.
        closed: the status it was told at the end, None before.
        notices: what it cannot hold.
        state: what identifies the run there.
    """

    sink: str
    behind: int
    error: str | None
    closed: str | None
    notices: list[str]
    state: dict[str, Any]

    def __str__(self) -> str:
        if self.error:
            return f"{self.sink} is {self.behind:,} bytes behind: {self.error}"
        return f"{self.sink} is {self.behind:,} bytes behind" if self.behind else f"{self.sink} has it all"


def choose(run: RunDir, name: str, options: Mapping[str, Any] | None = None) -> None:
    """Make a sink one of the run's sinks; options that are given replace those it had.

    Raises:
        NotFoundError: there is no such sink.
        ConfigError: the options are not those of the sink.
    """
    sink = plugins.load(plugins.SINKS, name)
    make_options(name, sink, options or {})
    about = _load(run, name)
    run.sinks.mkdir(exist_ok=True)
    chosen = {"options": {**about.get("options", {}), **(options or {})}, "closed": None}
    write_object(_file(run, name), about | chosen)


def chosen(run: RunDir) -> list[str]:
    """The names of the run's sinks."""
    try:
        return sorted(name[:-5] for name in os.listdir(run.sinks) if name.endswith(".json") and name[0] != ".")  # noqa: PTH208
    except FileNotFoundError:
        return []


def progress(run: RunDir, name: str) -> Progress:
    """How far a sink has got."""
    about = _load(run, name)
    cursor = about.get("cursor", {})
    behind = sum(path.stat().st_size - cursor.get(path.name, 0) for path in run.records_files())
    if about.get("closed"):
        behind = 0  # a torn line that a killed writer left is nobody's
    return Progress(
        name, behind, about.get("error"), about.get("closed"), about.get("notices", []), about.get("state", {})
    )


def native(run: RunDir, name: str) -> Sink:
    """The sink of a run that the feeder has opened, for its native objects; not for writing records.

    Raises:
        NotFoundError: there is no such sink, or its package is missing.
    """
    return _made(run, name, _load(run, name))


def _made(run: RunDir, name: str, about: Mapping[str, Any], notice: Callable[[str], None] = print) -> Sink:
    kind = plugins.load(plugins.SINKS, name)
    sink: Sink = kind(source(run, notice), make_options(name, kind, about.get("options", {})))
    sink.state = about.get("state", {})
    return sink


def source(run: RunDir, notice: Callable[[str], None] = print) -> Source:
    """What a sink is told of a run."""
    identity, config = run.identity, run.config
    return Source(
        id=run.id,
        short_id=run.short_id,
        experiment=str(identity.get("experiment")),
        dir=run.path,
        created=float(identity.get("created", 0.0)),
        params=flat_params(config),
        tags=config.get("tags") or {},
        notice=notice,
    )


def make_options(name: str, sink: type[Sink], given: Mapping[str, Any]) -> Any:
    """The typed options of a sink.

    Raises:
        ConfigError: an option is unknown.
    """
    known = [each.name for each in fields(sink.Options)]
    for key in given:
        if key not in known:
            raise ConfigError(
                f"logger '{name}' has no option '{key}'.{did_you_mean(key, known)}",
                f"it has: {', '.join(known) or 'none'}",
            )
    return sink.Options(**given)


class Delivery:
    """One run and one sink. Only one process at a time may hold it open."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.run, self.name = run, name
        self.sink: Sink | None = None
        self._lock: int | None = None
        self._about: dict[str, Any] = {}

    def open(self) -> bool:
        """Connect the sink; False if another process holds it.

        Raises:
            Exception: what the sink raises.
        """
        self.run.sinks.mkdir(exist_ok=True)
        self._lock = claimed(self.run.sinks / f".{self.name}.lock")
        if self._lock is None:
            return False
        try:
            self._about = {"cursor": {}, "state": {}, "notices": [], **_load(self.run, self.name)}
            sink = _made(self.run, self.name, self._about, self._notice)
            if sink.open():
                self._about["cursor"] = {}
            self.sink = sink
            self._save(error=None, closed=None)
        except BaseException as error:
            self._fail(error)
            raise
        return True

    def feed(self) -> bool:
        """Hand over the next batch of each writer's records; False if there was none.

        Raises:
            Exception: what the sink raises; the batch comes again.
        """
        assert self.sink is not None  # noqa: S101  a programmer's mistake
        moved = False
        try:
            for path in self.run.records_files():
                start = self._about["cursor"].get(path.name, 0)
                read, end = read_from(path, start, BATCH)
                if end == start:
                    continue
                records = [_plain(record) for record in read if self.name in record.get("to", (self.name,))]
                self.sink.write([record for record in records if record])
                self._about["cursor"][path.name] = end
                moved = True
                self._save(error=None)
        except BaseException as error:
            self._fail(error)
            raise
        return moved

    def close(self, status: str | None = None, reason: str | None = None) -> None:
        """Let go of the sink; with a status it is told how the run ended.

        Raises:
            Exception: what the sink raises.
        """
        try:
            if self.sink is not None:
                self.sink.close(status, reason)
                if status:
                    self._save(error=None, closed=status)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._release()

    def _fail(self, error: BaseException) -> None:
        """Note an error down beside what was last known to be good: a failed call may have left half a state."""
        self._about = {**_load(self.run, self.name), "notices": self._about.get("notices", [])}
        self._save(error=one_line(error))
        self.sink = None
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _save(self, **changes: Any) -> None:
        self._about |= changes
        self._about["time"] = time.time()
        if self.run.path.is_dir():  # removed under us: nothing to keep
            write_object(_file(self.run, self.name), self._about)

    def _notice(self, text: str) -> None:
        if text not in self._about["notices"]:
            self._about["notices"].append(text)


def _plain(record: Record) -> Record | None:
    """The record with true floats, or None where it is of no concern to a sink."""
    if isinstance(record.get("metrics"), dict):
        found = {name: number(value) for name, value in record["metrics"].items()}
        return {**record, "metrics": {name: value for name, value in found.items() if value is not None}}
    kinds = ("params", "tags", "text", "media", "histogram", "artifact")
    return record if any(isinstance(record.get(kind), dict) for kind in kinds) else None


def _file(run: RunDir, name: str) -> Path:
    return run.sinks / f"{name}.json"


def _load(run: RunDir, name: str) -> dict[str, Any]:
    return read_object(_file(run, name)) if _file(run, name).exists() else {}
