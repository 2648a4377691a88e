"""CSV: one file of metrics in long form, one of parameters and tags; any spreadsheet opens them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightex.core.journal import Record
from lightex.mulogger.sink import Sink


@dataclass(frozen=True)
class CsvOptions:
    """Options of CSV.

    Attributes:
        folder: where a folder per run is made; None: `csv/` inside the run's directory.
    """

    folder: str | None = None


class CsvSink(Sink):
    """Writes metrics.csv (time, step, name, value) and values.csv (time, kind, name, value)."""

    name: ClassVar[str] = "csv"
    Options: ClassVar[type] = CsvOptions
    options: CsvOptions

    @property
    def folder(self) -> Path:
        """Where the files are."""
        chosen = self.options.folder
        return Path(chosen).absolute() / self.source.id if chosen else self.source.dir / "csv"

    def open(self) -> bool:
        """Make the files, or cut off what was written and not noted down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, head in (("metrics.csv", "time,step,name,value"), ("values.csv", "time,kind,name,value")):
            path = self.folder / name
            if name not in self.state:
                path.write_text(f"{head}\n")
                self.state[name] = path.stat().st_size
            with path.open("rb+") as file:
                file.truncate(self.state[name])
        if not self.state.get("params"):
            self._append("values.csv", ([self.source.created, "param", *item] for item in self.source.params.items()))
            self.state["params"] = True
        return False

    def write(self, records: Sequence[Record]) -> None:
        """Append rows."""
        metrics, values = [], []
        for record in records:
            time, step = record.get("time"), record.get("step")
            metrics += [[time, step, name, value] for name, value in record.get("metrics", {}).items()]
            for kind in ("params", "tags"):
                values += [[time, kind[:-1], name, value] for name, value in record.get(kind, {}).items()]
            if "text" in record:
                values.append([time, "text", record["text"].get("name"), record["text"].get("value")])
            for kind in ("artifact", "media"):
                if kind in record:
                    values.append([time, kind, record[kind].get("name"), record[kind].get("path")])
            if "histogram" in record:
                self.source.notice("csv holds no histograms; they are in the run")
        self._append("metrics.csv", metrics)
        self._append("values.csv", values)

    def close(self, status: str | None, reason: str | None) -> None:
        """Write down how it ended."""
        if status:
            self._append("values.csv", [["", "status", status, reason or ""]])

    def _append(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        with (self.folder / name).open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
            file.flush()
            self.state[name] = file.tell()
