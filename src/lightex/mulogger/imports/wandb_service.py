"""A project of W&B's service, through its public API; the user has to be logged in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUCCEEDED
from lightex.mulogger.imports.desk import Desk
from lightex.mulogger.imports.foreign import Foreign, Story
from lightex.mulogger.imports.wandb_rows import Rows, flat, tags_of

_STATUS = {"finished": SUCCEEDED, "failed": FAILED, "crashed": LOST, "killed": CANCELLED, "running": RUNNING}


class Project:
    """A project, "entity/project".

    Raises:
        LightexError: nobody is logged in.
    """

    def __init__(self, path: str) -> None:
        import wandb

        self.path = path
        try:
            self.api = wandb.Api(timeout=30)
        except Exception as error:  # its errors have no common class but for this
            raise self._refused(error) from error

    def runs(self) -> Iterator[Foreign]:
        """Its runs, the oldest first.

        Raises:
            LightexError: the service refuses, or does not answer.
        """
        try:
            for run in self.api.runs(self.path, order="+created_at"):
                yield Foreign(
                    id=run.id,
                    name=run.name or run.id,
                    experiment=run.project,
                    series=run.project,
                    mark=f"{run.state} {run.lastHistoryStep} {getattr(run, 'heartbeat_at', '')}",
                    read=partial(_read, run),
                )
        except Exception as error:  # as above
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> LightexError:
        said = " ".join(str(error).split())[:300]
        return LightexError(f"cannot read {self.path} of W&B's service: {said}", "wandb login, or set WANDB_API_KEY")


def _read(run: Any, desk: Desk) -> Story:
    began = datetime.fromisoformat(run.created_at).timestamp()
    desk.write({"time": began, "params": flat(dict(run.config))})
    named = {"group": run.group, "notes": run.notes}
    tags = {name: str(value) for name, value in named.items() if value} | tags_of(run.tags)
    if tags:
        desk.write({"time": began, "tags": tags})
    place = desk.folder / "download"
    for file in run.files():
        desk.tell(file.name)
        file.download(root=str(place), replace=True)
    rows = Rows(desk, place)
    for row in run.scan_history():
        rows.add({key: value for key, value in row.items() if value is not None})
    rows.conclude(dict(run.summary), rows.last or began)
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and name == "output.log":
            path.rename(desk.output)
        elif path.is_file() and not name.startswith("media/"):
            desk.keep(path, name, rows.last or began)
    shutil.rmtree(place, ignore_errors=True)
    status = _STATUS.get(run.state, LOST)
    user = getattr(run, "user", None)
    return Story(began, status, rows.last, None, None, {"command": [], "user": getattr(user, "username", None)})
