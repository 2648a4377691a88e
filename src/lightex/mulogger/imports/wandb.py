"""Weights & Biases: the offline folders of a machine; a project of the service is in wandb_service.py."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError, NotFoundError
from lightex.core.rundir import FAILED, LOST, SUCCEEDED
from lightex.mulogger.imports.desk import Desk
from lightex.mulogger.imports.foreign import Foreign, Story, no_experiment
from lightex.mulogger.imports.wandb_log import records
from lightex.mulogger.imports.wandb_rows import Rows, flat, tags_of

_VALID = ("valid: a folder that holds offline-run-* (W&B's `wandb`), one of these, or entity/project of its service",)
_NO_PROJECT = "uncategorized"  # W&B's own word
_OWN = ("output.log", "media/")  # in files/: what is brought over by other ways


class WandbPeer:
    """Offline runs of W&B, or (logged in) a project of its service.

    Args:
        uri: the folder `wandb`, one run's folder in it, or "entity/project".
        experiment: the name of the only project that is wanted; None: all.

    Raises:
        NotFoundError: there is no such folder, or no run in it.
    """

    name = "wandb"

    def __init__(self, uri: str, experiment: str | None) -> None:
        import wandb.proto.wandb_internal_pb2  # noqa: F401  told before anything is done

        self.experiment, self._service = experiment, None
        folder = Path(uri).expanduser().absolute()
        if not folder.is_dir() and re.fullmatch(r"[\w\-]+/[^/\\#?%:]+", uri):
            from lightex.mulogger.imports.wandb_service import Project

            self._service = Project(uri, experiment)
            self.uri = self._service.uri
            return
        self.uri = str(folder)
        if not folder.is_dir():
            raise NotFoundError(f"no folder {uri!r}", *_VALID)
        self.files = sorted(found for found in _logs(folder) if not found.is_symlink())
        if not self.files:
            raise NotFoundError(f"no offline runs in {uri!r}", *_VALID)

    def runs(self) -> Iterator[Foreign]:
        """The runs, the oldest first.

        Raises:
            NotFoundError: there is no such project.
            LightexError: the service does not answer, or nobody is logged in.
        """
        if self._service is not None:
            yield from self._service.runs()
            return
        found: dict[tuple[str, str], list[Path]] = {}
        names: dict[tuple[str, str], str] = {}
        for file in self.files:  # a run that was resumed has a folder for each time
            run = _head(file)
            key = ((run.project if run else "") or _NO_PROJECT, run.run_id if run else file.parent.name)
            found.setdefault(key, []).append(file)
            names[key] = (run.display_name if run else "") or key[1]
        if self.experiment is not None and not any(project == self.experiment for project, _ in found):
            raise no_experiment(self.experiment, sorted({project for project, _ in found}), "project")
        for (project, ident), files in found.items():
            if self.experiment in (None, project):
                yield Foreign(
                    id=ident,
                    name=names[project, ident],
                    experiment=project,
                    series=project,
                    mark=" ".join(str(file.stat().st_size) for file in files),
                    read=partial(_read, files),
                )


def _logs(folder: Path) -> Iterator[Path]:
    """The .wandb files of a folder, whichever of W&B's folders that is. Online runs leave one too."""
    for pattern in ("*.wandb", "*run-*/*.wandb", "wandb/*run-*/*.wandb"):
        found = list(folder.glob(pattern))
        if found:
            yield from found
            return


def _head(file: Path) -> Any:
    """Who the run is, from the first records; None: the file does not say, or is no such file, as reading it tells."""
    with suppress(LightexError):
        for number, record in enumerate(records(file)):
            if record.HasField("run"):
                return record.run
            if number > 100:
                break
    return None


def _read(files: Sequence[Path], desk: Desk) -> Story:
    """All of one run."""
    rows, reader = Rows(desk), _Reader()
    for file in files:
        _take(file, rows, reader, desk)
    if reader.began is None:
        raise LightexError("its file does not say which run it is", f"the file is {files[-1]}")
    began = reader.began
    ended = None if reader.exit_code is None else max(rows.last or began, began + reader.seconds)
    desk.write({"time": began, "params": flat(reader.config)})
    if reader.tags:
        desk.write({"time": began, "tags": reader.tags})
    rows.conclude(reader.summary, ended or rows.last or began)
    for file in files:
        _files(file.parent / "files", desk, ended or began)
    for artifact in reader.artifacts:
        _artifact(artifact, desk, ended or began)
    status, reason = reader.verdict
    return Story(began, status, ended or rows.last, reason, reader.exit_code, reader.identity)


def _take(file: Path, rows: Rows, reader: _Reader, desk: Desk) -> None:
    """One file: what a run logged until it ended, or was resumed."""
    rows.files, reader.exit_code = file.parent / "files", None
    for number, record in enumerate(records(file)):
        if number % 5000 == 0:
            desk.tell(f"{number:,} records")
        if record.HasField("history"):
            rows.add(_nested(record.history.item))
        elif record.HasField("metric"):
            metric = record.metric
            if metric.step_metric:
                rows.define(metric.glob_name or metric.name, metric.step_metric)
        else:
            reader.take(record, desk)


class _Reader:
    """What the records tell but for the history."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.identity: dict[str, Any] = {"command": []}
        self.artifacts: list[Any] = []
        self.began: float | None = None
        self.seconds = 0.0
        self.exit_code: int | None = None

    @property
    def verdict(self) -> tuple[str, str | None]:
        """The state, and why it is not a success."""
        if self.exit_code is None:
            return LOST, "its end is not noted down: it was killed, or still runs"
        return (FAILED, f"exit code {self.exit_code}") if self.exit_code else (SUCCEEDED, None)

    def take(self, record: Any, desk: Desk) -> None:
        """Take in one record."""
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self._run(record.run)
        elif kind == "config":
            self._update(self.config, record.config)
        elif kind == "summary":
            self._update(self.summary, record.summary)
        elif kind == "environment":
            about = record.environment
            self.identity |= {
                "command": [about.program, *about.args] if about.program else self.identity["command"],
                "host": about.host or self.identity.get("host"),
                "cwd": about.root or None,
                "git": about.git.commit or self.identity.get("git"),
            }
        elif kind == "artifact":
            self.artifacts.append(record.artifact)
        elif kind == "exit":
            self.exit_code, self.seconds = record.exit.exit_code, float(record.exit.runtime)
        elif kind in ("stats", "alert", "tbrecord"):
            desk.leave({"stats": "system metrics", "alert": "alerts", "tbrecord": "TensorBoard folders"}[kind])

    def _run(self, run: Any) -> None:
        self._update(self.config, run.config)
        if self.began is None:
            self.began = run.start_time.seconds + run.start_time.nanos / 1e9
        named = {"group": run.run_group, "job_type": run.job_type, "notes": run.notes, "sweep": run.sweep_id}
        self.tags |= {name: value for name, value in named.items() if value} | tags_of(run.tags)
        self.identity["host"] = run.host or None
        self.identity["git"] = run.git.commit or None

    @staticmethod
    def _update(known: dict[str, Any], change: Any) -> None:
        for item in change.update:
            put(known, list(item.nested_key) or [item.key], _loads(item.value_json))
        for item in change.remove:
            known.pop(item.key or ".".join(item.nested_key), None)


def put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value deep in nested dicts."""
    for key in path[:-1]:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    tree[path[-1]] = value


def _nested(items: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for item in items:
        put(tree, list(item.nested_key) or [item.key], _loads(item.value_json))
    return tree


def _loads(text: str) -> Any:
    try:
        return json.loads(text)  # the standard library reads NaN and Infinity, which W&B writes
    except ValueError:
        return text


def _files(folder: Path, desk: Desk, time: float) -> None:
    """What the run saved, and its output. A link to a file is how `wandb.save` keeps one."""
    output = folder / "output.log"
    if output.is_file():
        with output.open("rb") as source, desk.output.open("ab") as target:
            shutil.copyfileobj(source, target)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(_OWN):
            desk.tell(name)
            desk.keep(path, name, time)


def _artifact(artifact: Any, desk: Desk, time: float) -> None:
    """The files of an artifact that wait on this machine to be uploaded."""
    if artifact.type == "run_table":  # its table is kept as such
        return
    staging = Path(os.environ.get("WANDB_DATA_DIR") or Path.home() / ".local/share/wandb").resolve()
    for entry in artifact.manifest.contents:
        source = Path(entry.local_path).resolve() if entry.local_path else None
        if source is None or staging not in source.parents or not source.is_file():
            desk.leave("files of artifacts")  # a reference, or no longer here
            continue
        desk.keep(source, f"{artifact.name}/{entry.path}", time)
