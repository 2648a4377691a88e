"""What a run logged, read back: parameters, metrics, tags, texts, files, models."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from lightex.core import journal
from lightex.core.errors import NotFoundError
from lightex.core.journal import number
from lightex.core.logged import Logged, read_logged
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import flat_params, status_of
from lightex.mulogger.models import load_model


def read_run(run: str | os.PathLike[str]) -> LoggedRun:
    """A run to read from.

    Args:
        run: its id (or a unique prefix), or its directory.

    Raises:
        NotFoundError: there is no such run, or several are meant.
    """
    return LoggedRun(RunDir(Path(run)) if Path(run).is_dir() else Root.locate().find_run(os.fspath(run)))


class LoggedRun:
    """A run that is read; what it logs later is seen by reading it anew."""

    def __init__(self, directory: RunDir) -> None:
        self.directory = directory
        self.id = directory.id
        self.dir = directory.path
        self.config = directory.config
        self.status, self.reason = status_of(directory)

    def __repr__(self) -> str:
        return f"<LoggedRun {self.id} {self.status}>"

    @cached_property
    def _logged(self) -> Logged:
        return read_logged(self.directory)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by dotted names: the config's, and those that were logged."""
        return flat_params(self.config) | self._logged.params

    @property
    def tags(self) -> dict[str, str]:
        """Labels: the config's, and those that were set."""
        return {**(self.config.get("tags") or {}), **self._logged.tags}

    @property
    def last(self) -> dict[str, float]:
        """The value of each metric at its highest step."""
        return {name: metric.last for name, metric in self._logged.metrics.items()}

    def best(self, metric: str, mode: str = "min") -> float | None:
        """The least ("min") or greatest ("max") value of a metric; None if it was never finite.

        Raises:
            NotFoundError: no such metric was logged.
        """
        found = self._logged.metrics.get(metric)
        if found is None:
            raise NotFoundError(f"run {self.directory.short_id} has no metric '{metric}'", f"it has: {list(self.last)}")
        return found.max if mode == "max" else found.min

    @property
    def artifacts(self) -> dict[str, Path]:
        """The files that were kept, by their names below the run's artifacts."""
        return {name.removeprefix("artifacts/"): self.dir / name for name in self._logged.artifacts}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The records of metrics in the order of writing: `time`, `step`, `attempt`, `writer` and a key per metric."""
        rows = []
        for writer, path in enumerate(self.directory.records_files()):
            attempt = 1
            for record in journal.read(path):
                if isinstance(record.get("attempt"), int):
                    attempt = record["attempt"]
                if isinstance(metrics := record.get("metrics"), dict):
                    about = {"time": record.get("time"), "step": record.get("step")}
                    values = {name: number(value) for name, value in metrics.items()}
                    rows.append({**about, "attempt": attempt, "writer": writer, **values})
        return rows

    @property
    def metrics(self) -> Any:
        """The rows as a DataFrame of pandas, else of polars, else as they are."""
        try:
            import pandas as pd
        except ModuleNotFoundError:
            pass
        else:
            return pd.DataFrame(self.rows)
        try:
            import polars as pl
        except ModuleNotFoundError:
            return self.rows
        return pl.DataFrame(self.rows, infer_schema_length=None)

    def texts(self) -> list[dict[str, Any]]:
        """The texts in the order of writing: `name`, `value`, `step`, `time`."""
        return self._of_kind("text")

    def media(self) -> list[dict[str, Any]]:
        """Images, figures, tables and sounds: `kind`, `name`, `path`, `step`, `time` and what they are."""
        return [about | {"path": self.dir / str(about.get("path"))} for about in self._of_kind("media")]

    def histograms(self) -> list[dict[str, Any]]:
        """Histograms: `name`, `edges`, `counts`, `step`, `time`."""
        return self._of_kind("histogram")

    def load_model(self, name: str = "model", **arguments: Any) -> Any:
        """A model that the run kept; see `lightex.load_model`."""
        return load_model(self.dir, name, **arguments)

    def _of_kind(self, kind: str) -> list[dict[str, Any]]:
        records = (record for path in self.directory.records_files() for record in journal.read(path))
        found = (record for record in records if isinstance(record.get(kind), dict))
        return [{"step": each.get("step"), "time": each.get("time"), **each[kind]} for each in found]
