"""MLflow: a tracking server over HTTP, or a local SQLite store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from lightex.core.cache import cache_folder
from lightex.core.journal import Record
from lightex.core.rundir import CANCELLED, FAILED, LOST, SUCCEEDED, read_object
from lightex.mulogger.names import fit
from lightex.mulogger.sink import Sink

# Limits of MLflow's REST API: mlflow.utils.validation, MAX_METRICS_PER_BATCH and its neighbours
_METRICS, _PARAMS, _NAME, _PARAM_VALUE, _TAG_VALUE = 1000, 100, 250, 6000, 8000
_ALLOWED = r"\w\-. :/"  # in names of metrics, params and tags
_STATUS = {SUCCEEDED: "FINISHED", FAILED: "FAILED", CANCELLED: "KILLED", LOST: "FAILED"}


def local_store() -> str:
    """The address of the SQLite store of this user."""
    return f"sqlite:///{cache_folder() / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True)
class MlflowOptions:
    """Options of MLflow.

    Attributes:
        tracking_uri: "http://host:port" or "sqlite:///file.db"; None: MLFLOW_TRACKING_URI, else a SQLite store in the
            user's cache folder, which `lx mlflow` shows.
        experiment: MLflow's experiment; None: the name of LightEx's experiment.
    """

    tracking_uri: str | None = None
    experiment: str | None = None


class MlflowSink(Sink):
    """One MLflow run per run."""

    name: ClassVar[str] = "mlflow"
    Options: ClassVar[type] = MlflowOptions
    options: MlflowOptions
    environment: ClassVar[tuple[str, ...]] = ("MLFLOW_*", "DATABRICKS_*", "AWS_*", "AZURE_*", "GOOGLE_*")

    @property
    def tracking_uri(self) -> str:
        """Where the run is."""
        return self.options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or local_store()

    @property
    def run_id(self) -> str:
        """The id of MLflow's run."""
        return str(self.state["run_id"])

    @cached_property
    def client(self) -> Any:
        """The MlflowClient."""
        # A server that hangs must be told from one that is slow: MLflow's own defaults try for half an hour.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient

        if self.tracking_uri == local_store():
            (cache_folder() / "mlflow").mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self.tracking_uri)

    def open(self) -> bool:
        """Find or make the experiment and the run; a run that has ended there goes on."""
        if "run_id" in self.state:
            self.client.update_run(self.run_id, status="RUNNING")
            return False
        experiment = self._experiment_id(self.options.experiment or self.source.experiment)
        # A feeder may have died between making the run and noting its id down.
        found = self.client.search_runs([experiment], f"tags.`lightex.run_id` = '{self.source.id}'", max_results=1)
        if not found:
            tags = {"lightex.run_id": self.source.id, "mlflow.source.name": str(self.source.dir)}
            created = round(self.source.created * 1000)
            found = [self.client.create_run(experiment, created, tags, self.source.short_id)]
        self.state |= {"run_id": found[0].info.run_id, "params": {}, "tracking_uri": self.tracking_uri}
        self._log_params(self.source.params)
        self._log_tags(self.source.tags)
        return False

    def write(self, records: Sequence[Record]) -> None:
        """Metrics in batches, files one by one."""
        times = [round(float(record.get("time") or self.source.created) * 1000) for record in records]
        self.state["last"] = max([self.state.get("last", 0), *times]) or None
        self._log_metrics(records)
        for record in records:
            if "params" in record:
                self._log_params(record["params"])
            elif "tags" in record:
                self._log_tags(record["tags"])
            elif "text" in record:
                text = record["text"]
                name = f"text/{_path(text.get('name'))}{_at(record.get('step'))}.txt"
                self.client.log_text(self.run_id, str(text.get("value")), name)
            elif "media" in record:
                self._log_media(record["media"], record.get("step"))
            elif "histogram" in record:
                name = f"histograms/{_path(record['histogram'].get('name'))}{_at(record.get('step'))}.json"
                self.client.log_dict(self.run_id, record["histogram"], name)
            elif "artifact" in record:
                self._log_artifact(record["artifact"])

    def close(self, status: str | None, reason: str | None) -> None:
        """With a status: end MLflow's run with it."""
        if status:
            if reason:
                self._log_tags({"lightex.reason": reason})
            ended = self.state.get("last")  # the time of the last record: a run that is synced later ended then
            self.client.set_terminated(self.run_id, _STATUS.get(status, "FAILED"), ended)

    def _experiment_id(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            from mlflow.exceptions import MlflowException

            try:
                local = self.tracking_uri == local_store()
                place = (cache_folder() / "mlflow" / "artifacts").as_uri() if local else None
                return str(self.client.create_experiment(name, artifact_location=place))
            except MlflowException:  # another run was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _log_metrics(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric

        def metrics() -> Iterator[Any]:
            for record in records:
                stamp = round(float(record.get("time") or self.source.created) * 1000)
                for name, value in record.get("metrics", {}).items():
                    yield Metric(self._fit(name), value, stamp, self.whole(record.get("step")) or 0)

        for batch in _batches(metrics(), _METRICS):
            self.client.log_batch(self.run_id, metrics=batch)

    def _log_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        new = {}
        for name, value in params.items():
            text = str(value)
            if len(text) > _PARAM_VALUE:
                self.source.notice(f"mlflow cuts params at {_PARAM_VALUE} characters; they are whole in the run")
            fitted, text = self._fit(name), text[:_PARAM_VALUE]
            if self.state["params"].get(fitted, text) != text:
                self.source.notice(f"mlflow keeps the first value of a param, '{name}' has another one in the run")
            else:
                new[fitted] = text
        for batch in _batches(new.items(), _PARAMS):
            self.client.log_batch(self.run_id, params=[Param(*item) for item in batch])
        self.state["params"] |= new

    def _log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        fitted = [RunTag(self._fit(name), str(value)[:_TAG_VALUE]) for name, value in tags.items()]
        for batch in _batches(fitted, _PARAMS):
            self.client.log_batch(self.run_id, tags=batch)

    def _log_media(self, media: Record, step: float | None) -> None:
        path, name, at = self.source.dir / str(media.get("path")), _path(media.get("name")), _at(step)
        if media.get("kind") == "image":
            from PIL import Image

            with Image.open(path) as image:
                self.client.log_image(self.run_id, image, key=name.replace("/", "."), step=self.whole(step) or 0)
        elif media.get("kind") == "table":
            table = read_object(path)
            content = {"columns": table["columns"], "data": table["rows"]}  # as MLflow's own log_table writes it
            self.client.log_dict(self.run_id, content, f"tables/{name}{at}.json")
        elif media.get("format") == "plotly":
            import plotly.io

            figure = plotly.io.from_json(path.read_text())
            self.client.log_figure(self.run_id, figure, f"figures/{name}{at}.html")
        else:
            self.client.log_artifact(self.run_id, str(path), f"{media.get('kind')}/{name}")

    def _log_artifact(self, artifact: Record) -> None:
        if not (path := self.kept(artifact)):
            return
        folder = "/".join(path.relative_to(self.source.dir).parent.parts[1:])  # without our own artifacts/
        model = artifact.get("model")
        if not model:
            self.client.log_artifact(self.run_id, str(path), folder or None)
            return
        place = f"models/{_path(model.get('name'))}"
        self.client.log_artifact(self.run_id, str(path), place)
        self.client.log_dict(self.run_id, model, f"{place}/model.json")
        if name := model.get("register"):
            self._register(str(name), place)

    def _register(self, name: str, place: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self.client.get_run(self.run_id).info.artifact_uri}/{place}"
        if not any(version.source == source for version in self.client.search_model_versions(f"name = '{name}'")):
            self.client.create_model_version(name, source, self.run_id)

    def _fit(self, name: str) -> str:
        if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
            return fit(name, r"\w\- :", _NAME)  # MLflow refuses names that are no clean paths
        return fit(name, _ALLOWED, _NAME)


def _batches(items: Any, size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _path(name: Any) -> str:
    """A name as a relative path of an artifact."""
    parts = [fit(part, r"\w\-. ", 100) for part in str(name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "_"


def _at(step: float | None) -> str:
    return "" if step is None else f"/{step:g}"
