"""A project of W&B's service, or of a server of one's own, through its public API; the user has to be logged in."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightex.core.errors import LightexError
from lightex.core.rundir import CANCELLED, FAILED, LOST, QUEUED, RUNNING, SUCCEEDED
from lightex.mulogger.artifacts import checked_name
from lightex.mulogger.imports.desk import Desk
from lightex.mulogger.imports.foreign import Foreign, Story, mark_of, no_experiment
from lightex.mulogger.imports.wandb_rows import Rows, axes_of, flat, known, tags_of

_STATUS = {"finished": SUCCEEDED, "failed": FAILED, "crashed": LOST, "killed": CANCELLED, "preempted": LOST,
           "running": RUNNING, "preempting": RUNNING, "pending": QUEUED}  # fmt: skip
_CLOUD = ("api.wandb.ai", "api.forge.coreweave.com")  # one service under two names: "entity/project" says it all
_LOGIN = "wandb login, or set WANDB_API_KEY; for a server of your own set WANDB_BASE_URL, too"
_AGAIN = "the same command takes up the rest, once it answers"
_HELLO, _TIMEOUT = 20, 90  # seconds for an answer: to who asks, later on
# W&B's client would try for a quarter of an hour, at each file anew: right for a run that waits, not for people who do.
# A minute is what it may take until a service that was asked too much answers again.
_PATIENCE = {f"{kind}_retry_{what}": value for kind in ("graphql", "file_transfer")
             for what, value in {"max": 6, "wait_min_seconds": 1, "wait_max_seconds": 20}.items()}  # fmt: skip
_REFUSED = (403, 404, 410)  # for good
_PAGE = 1000  # rows that are asked for at a time
_WIDEST = 100_000  # steps that are asked for at a time


class Project:
    """A project, "entity/project".

    Args:
        path: its entity and its name.
        experiment: the name of the only project that is wanted; None: whichever it is.

    Attributes:
        uri: the project, with its server where that is not W&B's own.

    Raises:
        LightexError: nobody is logged in, or the service does not answer.
        NotFoundError: another project is wanted.
    """

    def __init__(self, path: str, experiment: str | None = None) -> None:
        import wandb

        self.path = path
        self.entity, _, self.name = path.partition("/")
        if experiment not in (None, self.name):
            raise no_experiment(str(experiment), [self.name], "project")
        try:
            given = {name for name in _PATIENCE if f"WANDB__{name.upper()}" in os.environ}
            ours: dict[str, Any] = {f"x_{name}": value for name, value in _PATIENCE.items() if name not in given}
            wandb.setup(wandb.Settings(**ours))
            wandb.Api(timeout=_HELLO)  # says who asks
            self.api = wandb.Api(timeout=_TIMEOUT)
        except Exception as error:  # its errors have no common class but for this
            raise self._unreadable(error, _LOGIN) from error
        server = str(self.api.settings["base_url"]).rstrip("/")
        host = urlsplit(server).netloc.rpartition("@")[2]
        self.uri = path if host in _CLOUD else f"{urlsplit(server).scheme}://{host}{urlsplit(server).path}/{path}"

    def runs(self) -> Iterator[Foreign]:
        """Its runs, the oldest first.

        Raises:
            LightexError: the service refuses, or does not answer.
            NotFoundError: there is no such project, or it may not be seen.
        """
        try:
            for run in self.api.runs(self.path, order="+created_at", include_sweeps=False):
                yield Foreign(
                    id=run.id,
                    name=run.name or run.id,
                    experiment=run.project,
                    series=run.project,
                    mark=_mark(run),
                    read=partial(_read, self.api, run),
                )
        except Exception as error:  # as above
            if isinstance(error, ValueError) and "Could not find project" in str(error):
                raise no_experiment(self.path, self._projects(), "project that you may see") from error
            raise self._unreadable(error, _LOGIN if _code(error) in (401, 403) else _AGAIN) from error

    def _projects(self) -> list[str]:
        """What the entity has, as far as that is told."""
        with suppress(Exception):
            return [f"{self.entity}/{project.name}" for project in self.api.projects(self.entity)]
        return []

    def _unreadable(self, error: Exception, advice: str) -> LightexError:
        said = " ".join(str(error).split())[:300]
        return LightexError(f"cannot read {self.path} of W&B's service: {said or type(error).__name__}", advice)


def _read(api: Any, run: Any, desk: Desk) -> Story:
    """All of one run."""
    began = _time(run.created_at)
    desk.write({"time": began, "params": flat(dict(run.config))})
    if tags := _tags(run):
        desk.write({"time": began, "tags": tags})
    place = desk.folder / "download"
    _download(api, run, place, desk)
    rows, summary = Rows(desk, place), known(run.summary_metrics)
    for pattern, axis in axes_of(run.rawconfig):
        rows.define(pattern, axis)
    _history(run, rows, desk)
    status = _STATUS.get(run.state, LOST)
    ended = max(rows.last or began, began + _seconds(summary)) if status not in (RUNNING, QUEUED) else None
    rows.conclude(summary, ended or rows.last or began)
    identity = _identity(place / "wandb-metadata.json") | {
        "user": getattr(getattr(run, "user", None), "username", None)
    }
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and name == "output.log":
            path.rename(desk.output)
        elif path.is_file() and not name.startswith("media/"):
            path.rename(kept := desk.place(name))
            desk.note(kept, ended or rows.last or began)
    shutil.rmtree(place, ignore_errors=True)
    reason = f"{run.state} in W&B" if status in (FAILED, CANCELLED, LOST) else None
    return Story(began, status, ended, reason, None, identity)


def _mark(run: Any) -> str:
    """What changes when the run goes on, or is named or tagged anew: all that the list of runs tells."""
    return mark_of((run.state, run.history_line_count, run.heartbeat_at, run.name, sorted(_tags(run).items())))


def _tags(run: Any) -> dict[str, str]:
    named = {"group": run.group, "job_type": run.job_type, "notes": run.notes, "sweep": run.sweep_name}
    return {name: str(value) for name, value in named.items() if value} | tags_of(run.tags or ())


def _download(api: Any, run: Any, place: Path, desk: Desk) -> None:
    """The files of a run into a folder, and nowhere else: their names are the service's word."""
    place.mkdir()
    for file in run.files():
        desk.tell(file.name)
        try:
            checked_name(file.name)  # W&B's client does not look at them in all its versions
            file.download(root=str(place), replace=True, api=api).close()
        except Exception as error:  # as above
            if isinstance(error, LightexError) or "Invalid path" in str(error):
                desk.leave("files whose names lead out of the run")
            elif _code(error) in _REFUSED:
                desk.leave("files that W&B does not give out")
            else:
                raise


def _history(run: Any, rows: Rows, desk: Desk) -> None:
    """All rows. They are asked for by ranges of steps, which may be far apart.

    Raises:
        LightexError: there are rows, and none came.
    """
    count = int(run.history_line_count or 0)
    last = int((getattr(run, "history_keys", None) or {}).get("lastStep") or 0)
    options: dict[str, Any] = {"page_size": max(_PAGE, min(_WIDEST, _PAGE * (last + 1) // max(count, 1)))}
    if "use_cache" in inspect.signature(run.scan_history).parameters:
        options["use_cache"] = False  # it would show a run that has gone on as it was before
    before, number = None, 0
    for number, row in enumerate(run.scan_history(**options), 1):
        at = row.get("_step"), row.get("_timestamp")
        if at != before or None in at:  # where exported history meets what is not exported yet, rows come twice
            rows.add(known(row))
        before = at
        if number % 5000 == 0:
            desk.tell(f"{number:,} of {count:,} rows")
    if count and not number:  # of 0.27.1 and 0.27.2 it is known
        raise LightexError(f"none of its {count:,} rows of history came: pip install -U wandb, then try again")


def _identity(file: Path) -> dict[str, Any]:
    """Who made the run and where, as its client noted it down."""
    try:
        about = json.loads(file.read_bytes())
        command = [about["program"], *about.get("args", [])] if about.get("program") else []
        git = (about.get("git") or {}).get("commit")
        return {"command": command, "host": about.get("host"), "cwd": about.get("root"), "git": git}
    except (OSError, ValueError, AttributeError, TypeError):
        return {"command": []}


def _seconds(summary: dict[str, Any]) -> float:
    """How long the run went on."""
    told = summary.get("_wandb")
    seconds = (told.get("runtime") if isinstance(told, dict) else None) or summary.get("_runtime")
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def _time(written: str) -> float:
    """A time of the service, which is UTC also where it does not say so."""
    time = datetime.fromisoformat(written)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _code(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of W&B's client, whichever version's."""
    for _ in range(10):  # one behind the other
        answer = getattr(error, "response", None)
        if code := getattr(answer, "http_status", None) or getattr(answer, "status_code", None):
            return int(code)
        error = getattr(error, "exc", None) or getattr(error, "__cause__", None) or getattr(error, "__context__", None)
    return None
