"""MLflow: a server, a database, or a folder `mlruns`, read through MLflow's own client."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.rundir import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED
from lightex.core.units import format_size
from lightex.mulogger.imports.desk import Desk, value_of
from lightex.mulogger.imports.foreign import Foreign, Story, mark_of, no_experiment
from lightex.mulogger.imports.mlflow_history import Histories, Point

_PAGE = 500  # runs asked for at once; a server answers up to 50,000, and holds all of them for that
_STATUS = {"FINISHED": SUCCEEDED, "FAILED": FAILED, "KILLED": CANCELLED, "RUNNING": RUNNING, "SCHEDULED": QUEUED}
_VALID = "valid: sqlite:///file.db, a folder mlruns, http://host:port, postgresql://..., databricks"


class MlflowPeer:
    """An MLflow tracking store.

    Args:
        uri: a tracking URI, the folder `mlruns`, or the file of a SQLite store.
        experiment: the name of the only experiment that is wanted; None: all that are not deleted.

    Raises:
        LightexError: there is no such store. Nothing is made in its place.
    """

    name = "mlflow"

    def __init__(self, uri: str, experiment: str | None) -> None:
        self.uri, self.experiment = _address(uri), experiment
        for name, value in {
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # MLflow's own defaults try for half an hour
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3 refuses folders, lest one goes on with them: we only read
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "GIT_PYTHON_REFRESH": "quiet",
        }.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        try:
            self.client = MlflowClient(tracking_uri=self.uri)
        except Exception as error:  # MLflow passes on whatever its database's library raises
            raise self._unreadable(error) from error

    def runs(self) -> Iterator[Foreign]:
        """The runs that are not deleted, by experiment, the oldest first.

        Raises:
            LightexError: the store does not answer, or is of another version of MLflow.
            NotFoundError: there is no such experiment.
        """
        for experiment in self._experiments():
            where, order = [experiment.experiment_id], ["attributes.start_time ASC"]
            for page in self._pages(self.client.search_runs, experiment_ids=where, max_results=_PAGE, order_by=order):
                histories = Histories(self.client, page)
                for run in page:
                    yield self._foreign(run, experiment, histories)

    def _experiments(self) -> list[Any]:
        found = [each for page in self._pages(self.client.search_experiments, max_results=1000) for each in page]
        if self.experiment is None:
            return sorted(found, key=lambda each: str(each.creation_time or 0))
        chosen = [each for each in found if each.name == self.experiment]
        if not chosen:
            raise no_experiment(self.experiment, [each.name for each in found])
        return chosen

    def _pages(self, search: Any, **options: Any) -> Iterator[Any]:
        """What a search finds, a page at a time."""
        token = None
        while True:
            try:
                page = search(page_token=token, **options)
            except Exception as error:  # as above: SQLAlchemy's, requests' and MLflow's own
                raise self._unreadable(error) from error
            yield page
            if not (token := page.token):
                return

    def _unreadable(self, error: Exception) -> LightexError:
        said = " ".join(str(error).split())
        return LightexError(f"cannot read {_shown(self.uri)}: {said[:300]}", _VALID)

    def _foreign(self, run: Any, experiment: Any, histories: Histories) -> Foreign:
        return Foreign(
            id=run.info.run_id,
            name=run.info.run_name or run.info.run_id,
            experiment=experiment.name,
            series=experiment.experiment_id,
            mark=_mark(run),
            read=partial(self._read, run, histories),
        )

    def _read(self, run: Any, histories: Histories, desk: Desk) -> Story:
        """All of one run."""
        info, tags = run.info, run.data.tags
        began = (info.start_time or 0) / 1000
        if run.data.params:
            desk.write({"time": began, "params": {name: value_of(text) for name, text in run.data.params.items()}})
        if tags:
            desk.write({"time": began, "tags": dict(tags)})
        ended = info.end_time / 1000 if info.end_time else None
        _write_metrics(histories.of(run), desk)
        self._artifacts(run, ended or began, desk)
        for _ in getattr(run.inputs, "dataset_inputs", None) or ():
            desk.leave("datasets")
        source, status = tags.get("mlflow.source.name"), _STATUS.get(info.status, RUNNING)
        return Story(
            created=began,
            status=status,
            ended=ended,
            reason=tags.get("lightex.reason")
            or (f"{info.status} in MLflow" if status in (FAILED, CANCELLED) else None),
            identity={
                "command": [source] if source else [],
                "user": tags.get("mlflow.user") or info.user_id or None,
                "git": tags.get("mlflow.source.git.commit"),
            },
        )

    def _artifacts(self, run: Any, time: float, desk: Desk) -> None:
        """The files of the run and of the models that it logged. They are copied, and never loaded."""
        self._copy(run.info.artifact_uri, "", time, desk)
        for output in getattr(run.outputs, "model_outputs", None) or ():
            model = self.client.get_logged_model(output.model_id)
            self._copy(model.artifact_location, f"{model.name}/", time, desk)

    def _copy(self, uri: str, below: str, time: float, desk: Desk) -> None:
        """Bring over all files of a place, one by one."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository: Any = get_artifact_repository(uri, tracking_uri=self.uri)
        folders: list[str | None] = [None]
        while folders:
            for file in repository.list_artifacts(folders.pop()):
                if file.is_dir:
                    folders.append(file.path)
                    continue
                desk.tell(f"{below}{file.path}  {format_size(file.file_size or 0)}")
                place = desk.place(f"{below}{file.path}")
                if not place.exists():
                    desk.artifacts.joinpath(below).mkdir(parents=True, exist_ok=True)
                    repository.download_artifacts(file.path, str(desk.artifacts / below))
                    desk.note(place, time)


def _write_metrics(histories: Iterable[tuple[str, Sequence[Point]]], desk: Desk) -> None:
    """Values of the same moment and step become one record, as they were logged; all in order of time."""
    rows: dict[tuple[int, int, int], dict[str, float]] = {}
    for name, points in histories:
        seen: dict[tuple[int, int], int] = {}
        for time, step, value in points:
            again = seen[time, step] = seen.get((time, step), -1) + 1
            rows.setdefault((time, step, again), {})[name] = _value(value)
    for (time, step, _), values in sorted(rows.items()):
        desk.write({"time": time / 1000, "step": step, "metrics": values})


def _address(given: str) -> str:
    """The tracking URI that is meant, with whole paths; what is on this machine has to be there.

    Raises:
        LightexError: it is no tracking URI, or there is nothing: MLflow itself would make an empty store there.
    """
    if given == "databricks" or given.startswith(("databricks://", "databricks-uc", "http://", "https://")):
        return given.rstrip("/")
    scheme, _, rest = given.partition("://")
    if rest and not scheme.startswith(("sqlite", "file")):
        return given
    if rest and scheme.startswith("sqlite"):
        file, mark, query = rest.removeprefix("/").partition("?")
        return _database(Path(file), given) + mark + query
    path = Path(unquote(urlsplit(given).path) if given.startswith("file:") else given).expanduser()
    if path.is_file():
        return _database(path, given)
    if not path.is_dir():
        raise NotFoundError(f"no MLflow store at {given!r}", _VALID)
    if any(path.glob("*/meta.yaml")):
        return str(path.absolute())
    inside = [*sorted(path.glob("*.db")), *({found.parent.parent for found in path.glob("mlruns/*/meta.yaml")})]
    raise NotFoundError(
        f"the folder {given!r} is no MLflow store: no experiment in it has a meta.yaml",
        f"it holds one: lx import mlflow {inside[0]}" if inside else _VALID,
    )


def _database(path: Path, given: str) -> str:
    """The URI of a SQLite file."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise NotFoundError(f"no MLflow store at {given!r}: {error.strerror}", _VALID) from error
    if not head.startswith(b"SQLite format 3"):
        raise NotFoundError(f"{given!r} is no SQLite database", _VALID)
    return f"sqlite:///{path.absolute()}"


def _shown(uri: str) -> str:
    """A URI without its password."""
    parts = urlsplit(uri)
    return uri.replace(f":{parts.password}@", ":***@") if parts.password else uri


def _value(value: float) -> float:
    """MLflow's databases hold infinity as the greatest float."""
    return float("inf") * (1 if value > 0 else -1) if abs(value) == sys.float_info.max else value


def _mark(run: Any) -> str:
    """What changes whenever anything was logged to the run: all that a search for it tells."""
    last = {metric.key: (metric.value, metric.step, metric.timestamp) for metric in run.data.to_proto().metrics}
    info = (run.info.status, run.info.end_time, run.info.run_name)
    return mark_of((info, sorted(run.data.params.items()), sorted(run.data.tags.items()), sorted(last.items())))
