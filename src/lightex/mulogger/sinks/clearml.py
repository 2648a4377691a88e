"""ClearML, the successor of trains: online with its server's credentials, else offline sessions to import later."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightex.core.journal import Record
from lightex.core.rundir import CANCELLED, FAILED, LOST, read_object
from lightex.mulogger.sink import Sink

_NOT_WATCHED = ("detect_repository", "matplotlib", "tensorboard", "pytorch", "scikit", "joblib", "jsonargparse")


@dataclass(frozen=True)
class ClearmlOptions:
    """Options of ClearML. Its server and credentials are those of clearml.conf or of CLEARML_API_*.

    Attributes:
        project: ClearML's project; None: the name of the experiment.
        offline: keep an offline session; None: where no credentials are found.
        output_uri: where ClearML uploads files to; None: its server's own store.
    """

    project: str | None = None
    offline: bool | None = None
    output_uri: str | None = None


class ClearmlSink(Sink):
    """One task per run. ClearML holds one task per process, hence `alone`."""

    name: ClassVar[str] = "clearml"
    Options: ClassVar[type] = ClearmlOptions
    options: ClearmlOptions
    alone: ClassVar[bool] = True
    environment: ClassVar[tuple[str, ...]] = ("CLEARML_*",)
    _task: Any = None

    @property
    def task(self) -> Any:
        """The clearml.Task; in the training's process, one that is fetched from the server."""
        if self._task is None:
            from clearml import Task

            self._task = Task.get_task(task_id=self.state["task_id"])
        return self._task

    def open(self) -> bool:
        """Start the task, or go on with it. An offline session that was cut off begins anew: it cannot go on."""
        if "clearml" not in sys.modules:  # a training that uses ClearML itself leaves these to its children
            for name in ("CLEARML_PROC_MASTER_ID", "TRAINS_PROC_MASTER_ID", "CLEARML_TASK_ID", "TRAINS_TASK_ID"):
                os.environ.pop(name, None)
        from clearml import Task

        # clearml.conf's sdk.development.report_use_subprocess: the process that it forks was seen to hang for ever
        # beside threads (clearml 2.1), and the feeder is a process apart already.
        Task._report_subprocess_enabled = False  # type: ignore[assignment]
        offline = _without_credentials() if self.options.offline is None else self.options.offline
        Task.set_offline(offline)
        known = None if offline else self.state.get("task_id")
        self._task = Task.init(
            project_name=self.options.project or self.source.experiment,
            task_name=self.source.short_id,
            reuse_last_task_id=False,
            continue_last_task=known or False,
            output_uri=self.options.output_uri,
            auto_connect_arg_parser=False,
            auto_connect_frameworks=dict.fromkeys(_NOT_WATCHED, False),
            auto_connect_streams=False,
            auto_resource_monitoring=False,
        )
        self._parameters(self.source.params)
        self._properties(self.source.tags)
        again = offline and bool(self.state)
        self.state |= {
            "task_id": self._task.id,
            "offline": offline,
            "counts": {} if again else self.state.get("counts", {}),
        }
        if offline:
            self.state["session"] = str(self._task.get_offline_mode_folder())
        return again

    def write(self, records: Sequence[Record]) -> None:
        """Report through ClearML's logger; iterations are whole numbers, a missing one is counted per name."""
        for record in records:
            step = record.get("step")
            for name, value in record.get("metrics", {}).items():
                self._scalar(name, value, self.counted(name, step))
            if params := record.get("params"):
                self._parameters(params)
            if tags := record.get("tags"):
                self._properties(tags)
            if text := record.get("text"):
                self._logger.report_text(f"{text.get('name')}: {text.get('value')}", print_console=False)
            if media := record.get("media"):
                self._media(media, step)
            if found := record.get("histogram"):
                title, series = _titled(str(found.get("name")))
                labels = [f"{edge:.4g}" for edge in found["edges"][:-1]]
                at = self.counted(title, step)
                self._logger.report_histogram(title, series, found["counts"], iteration=at, xlabels=labels)
            if artifact := record.get("artifact"):
                self._artifact(artifact)
        self._task.flush(wait_for_uploads=True)

    def close(self, status: str | None, reason: str | None) -> None:
        """End the task as the run ended; an offline one becomes a zip file."""
        if status in {FAILED, LOST}:
            self._task.mark_failed(status_reason=status, status_message=reason or "", force=True)
        elif status == CANCELLED:
            self._task.mark_stopped(force=True, status_message=reason or "")
        self._task.close()
        if self.state["offline"]:
            archive = f"{Path(self.state['session'])}.zip"
            self.source.notice(f"clearml is offline: clearml-task --import-offline-session {archive}")

    @property
    def _logger(self) -> Any:
        return self._task.get_logger()

    def _scalar(self, name: str, value: float, step: int) -> None:
        if math.isfinite(value):
            self._logger.report_scalar(*_titled(name), value=value, iteration=step)
        else:
            self.source.notice("clearml holds no NaN or infinity; they are in the run")

    def _parameters(self, params: Mapping[str, Any]) -> None:
        self._task.update_parameters({f"General/{name}": str(value) for name, value in params.items()})

    def _properties(self, tags: Mapping[str, str]) -> None:
        if tags:
            self._task.set_user_properties(**{str(name): str(value) for name, value in tags.items()})

    def _media(self, media: Record, step: float | None) -> None:
        path = self.source.dir / str(media.get("path"))
        title, series = _titled(str(media.get("name")))
        at = self.counted(f"{title}/{series}", step)
        if path.suffix == ".png":
            self._logger.report_image(title, series, iteration=at, local_path=str(path))
        elif media.get("kind") == "table":
            table = read_object(path)
            self._logger.report_table(title, series, iteration=at, table_plot=[table["columns"], *table["rows"]])
        elif media.get("kind") == "audio":
            self._logger.report_media(title, series, iteration=at, local_path=str(path))
        else:
            import plotly.io

            self._logger.report_plotly(title, series, plotly.io.from_json(path.read_text()), iteration=at)

    def _artifact(self, about: Record) -> None:
        if not (path := self.kept(about)):
            return
        name = "/".join(Path(str(about.get("path"))).parts[1:])
        self._task.upload_artifact(name, str(path), metadata=about.get("model") or {}, wait_on_upload=True)


def _titled(name: str) -> tuple[str, str]:
    """ClearML's title (a plot) and series (a line in it): "train/loss" -> ("train", "loss"), "loss" -> twice."""
    title, slash, series = name.rpartition("/")
    return (title or "_", series or "_") if slash else (name or "_", name or "_")


def _without_credentials() -> bool:
    found = os.environ.get("CLEARML_CONFIG_FILE") or Path.home() / "clearml.conf"
    return not os.environ.get("CLEARML_API_ACCESS_KEY") and not Path(found).exists()
