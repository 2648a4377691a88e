"""Weights & Biases: online with a key, else offline folders that `wandb sync` brings over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from lightex.core.journal import Record
from lightex.core.rundir import SUCCEEDED, read_object
from lightex.mulogger.names import fit
from lightex.mulogger.sink import Sink

_ITS_OWN = {"", "step", "_step", "_timestamp", "_runtime", "_wandb"}


@dataclass(frozen=True)
class WandbOptions:
    """Options of W&B. The key is WANDB_API_KEY or that of `wandb login`.

    Attributes:
        project: W&B's project; None: WANDB_PROJECT, else the name of the experiment.
        entity: user or team; None: WANDB_ENTITY, else the key's own.
        mode: "online" or "offline"; None: WANDB_MODE, else online where there is a key.
        folder: where W&B writes; None: the run's directory.
    """

    project: str | None = None
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    folder: str | None = None


class WandbSink(Sink):
    """One W&B run per run, with the same id. Steps are a metric of their own there, so none is ever dropped."""

    name: ClassVar[str] = "wandb"
    Options: ClassVar[type] = WandbOptions
    options: WandbOptions
    environment: ClassVar[tuple[str, ...]] = ("WANDB_*",)

    @cached_property
    def run(self) -> Any:
        """The wandb.Run."""
        import wandb

        mode = self.options.mode or os.environ.get("WANDB_MODE")
        if mode is None:
            mode = "online" if wandb.login(prompt=False) else "offline"
        run = wandb.init(
            id=self.source.id,
            name=self.source.short_id,
            project=self.options.project or os.environ.get("WANDB_PROJECT") or self.source.experiment,
            entity=self.options.entity,
            group=self.source.experiment,
            dir=self.options.folder or str(self.source.dir),
            mode=mode,  # type: ignore[arg-type]
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            config=dict(self.source.params),
            tags=[f"{name}:{value}"[:64] for name, value in self.source.tags.items()],
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True, disable_code=True
            ),
        )
        run.define_metric("*", step_metric="step")
        return run

    def open(self) -> bool:
        """Start the run, or go on with it."""
        folders = [*self.state.get("folders", []), self.run.dir]
        self.state |= {"id": self.source.id, "project": self.run.project, "folders": folders}
        if self.run.offline:
            self.source.notice(f"wandb is offline: wandb sync {self.run.dir.removesuffix('/files')}")
        return False

    def write(self, records: Sequence[Record]) -> None:
        """Hand records to W&B's own service process."""
        for record in records:
            row = self._row(record)
            if row:
                if isinstance(step := record.get("step"), (int, float)):
                    row["step"] = step
                self.run.log({**row, "_timestamp": float(record.get("time") or self.source.created)})
            if params := record.get("params"):
                self.run.config.update(params, allow_val_change=True)
            if tags := record.get("tags"):
                self.run.tags = (*(self.run.tags or ()), *(f"{name}:{value}"[:64] for name, value in tags.items()))
            if artifact := record.get("artifact"):
                self._artifact(artifact)

    def close(self, status: str | None, reason: str | None) -> None:
        """End the run; with a failure it is marked as failed."""
        if reason:
            self.run.summary["reason"] = reason
        self.run.finish(exit_code=0 if status in (SUCCEEDED, None) else 1)

    def _row(self, record: Record) -> dict[str, Any]:
        import wandb

        if metrics := record.get("metrics"):
            return {_name(name): value for name, value in metrics.items()}
        if text := record.get("text"):
            return {_name(text.get("name")): wandb.Html(_preformatted(str(text.get("value"))), inject=False)}
        if found := record.get("histogram"):
            return {_name(found.get("name")): wandb.Histogram(np_histogram=(found["counts"], found["edges"]))}
        if not (media := record.get("media")):
            return {}
        name, path = _name(media.get("name")), self.source.dir / str(media.get("path"))
        if path.suffix == ".png":
            return {name: wandb.Image(str(path), caption=media.get("caption"))}
        if media.get("kind") == "audio":
            return {name: wandb.Audio(str(path), sample_rate=media.get("rate"))}
        if media.get("kind") == "table":
            table = read_object(path)
            return {name: wandb.Table(columns=table["columns"], data=table["rows"])}
        import plotly.io

        return {name: wandb.Plotly(plotly.io.from_json(path.read_text()))}

    def _artifact(self, about: Record) -> None:
        import wandb

        if not (path := self.kept(about)):
            return
        model = about.get("model")
        name = fit(f"{self.source.short_id}-{path.name}", r"A-Za-z0-9_.\-", 128)
        artifact = wandb.Artifact(name, type="model" if model else "file", metadata=model or {})
        artifact.add_file(str(path))
        self.run.log_artifact(artifact)


def _name(name: Any) -> str:
    """W&B drops an empty name, and fills some by itself."""
    return f"{name}_logged" if name in _ITS_OWN else str(name)


def _preformatted(text: str) -> str:
    from html import escape

    return f"<pre>{escape(text)}</pre>"
