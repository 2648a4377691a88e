"""trackio: its local SQLite projects, as `trackio show` reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from lightex.core import jsonlib
from lightex.core.journal import Record, jsonable
from lightex.core.rundir import read_object
from lightex.mulogger.names import fit
from lightex.mulogger.sink import Sink


@dataclass(frozen=True)
class TrackioOptions:
    """Options of trackio.

    Attributes:
        project: trackio's project; None: the name of the experiment. The folder is TRACKIO_DIR's.
    """

    project: str | None = None


class TrackioSink(Sink):
    """Writes through trackio's own storage layer: its client would start a server for each project."""

    name: ClassVar[str] = "trackio"
    Options: ClassVar[type] = TrackioOptions
    options: TrackioOptions
    environment: ClassVar[tuple[str, ...]] = ("TRACKIO_*", "HF_*")

    @property
    def project(self) -> str:
        """The name of the project."""
        return fit(self.options.project or self.source.experiment, r"\w\-", 100)

    @property
    def storage(self) -> Any:
        """trackio's SQLiteStorage."""
        from trackio.sqlite_storage import SQLiteStorage

        return SQLiteStorage

    def open(self) -> bool:
        """Note the parameters down; the run appears with its first metrics."""
        import trackio  # noqa: F401  the package is missing: told now

        if not self.state:
            self.state |= {"project": self.project, "config": {**self.source.params}, "next": 0}
            self.state["config"] |= {f"tag.{name}": value for name, value in self.source.tags.items()}
        return False

    def write(self, records: Sequence[Record]) -> None:
        """One transaction. Each row has a mark of its own, so that what comes twice is kept once."""
        rows, steps, times, marks = [], [], [], []
        for record in records:
            self._take_config(record)
            step = self.whole(record.get("step"))
            at = int(self.state["next"]) if step is None else step
            row = dict(record.get("metrics", {})) or self._medium(record, at)
            if row:
                self.state["next"] = max(self.state["next"], at + 1)
                rows.append(row)
                steps.append(at)
                times.append(datetime.fromtimestamp(float(record.get("time") or self.source.created), UTC).isoformat())
                text = jsonlib.dumps(jsonable(record), str)
                marks.append(f"{self.source.id}-{hashlib.sha256(text).hexdigest()[:24]}")
        self._log(rows, steps, times, marks)

    def close(self, status: str | None, reason: str | None) -> None:
        """With a status: put it into the run's config, the one place that trackio has for it."""
        if status:
            self.state["config"] |= {"status": status} | ({"reason": reason} if reason else {})
            stamp = datetime.fromtimestamp(self.source.created, UTC).isoformat()
            self._log([{}], [max(0, self.state["next"] - 1)], [stamp], [f"{self.source.id}-end"])

    def _log(self, rows: list[dict[str, Any]], steps: list[int], times: list[str], marks: list[str]) -> None:
        self.storage.bulk_log(
            self.project,
            self.source.short_id,
            rows,
            steps=steps,
            timestamps=times,
            config=self.state["config"],
            log_ids=marks,
            run_id=self.source.id,
        )

    def _take_config(self, record: Record) -> None:
        config = self.state["config"]
        config |= record.get("params", {})
        config |= {f"tag.{name}": value for name, value in record.get("tags", {}).items()}
        if text := record.get("text"):
            config[f"text.{text.get('name')}"] = text.get("value")
        if artifact := record.get("artifact"):
            config[f"artifact.{artifact.get('path')}"] = artifact.get("sha256")
            self.source.notice("trackio has the names and checksums of artifacts; the files are in the run")

    def _medium(self, record: Record, step: int) -> dict[str, Any]:
        import trackio

        if found := record.get("histogram"):
            return {found["name"]: trackio.Histogram(np_histogram=(found["counts"], found["edges"]))._to_dict()}
        media = record.get("media")
        if not media:
            return {}
        name, path = str(media.get("name")), self.source.dir / str(media.get("path"))
        if path.suffix == ".png":
            value: Any = trackio.Image(str(path), caption=media.get("caption"))
        elif media.get("kind") == "audio":
            value = trackio.Audio(str(path))
        elif media.get("kind") == "table":
            table = read_object(path)
            value = trackio.Table(columns=table["columns"], data=table["rows"])
            return {name: value._to_dict(self.project, self.source.short_id, step)}
        else:
            self.source.notice("trackio holds no plotly figures; they are in the run")
            return {}
        value._save(self.project, self.source.short_id, step)
        return {name: value._to_dict()}
