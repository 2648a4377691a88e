"""What can be logged: each call becomes one record."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any

from lightex.core.journal import Record, jsonable
from lightex.core.rundir import RunDir
from lightex.mulogger import artifacts, media, models
from lightex.mulogger.names import fit
from lightex.mulogger.values import plain_metrics, plain_params

_FILE_NAME = "A-Za-z0-9_. -"  # in names of files that come from names of images, tables, ...


class Logs:
    """The logging calls. A subclass says where records go."""

    directory: RunDir
    _media = itertools.count()

    def _write(self, record: Record) -> None:
        raise NotImplementedError

    def log(self, metrics: Mapping[str, Any], step: float | None = None) -> None:
        """Record metrics.

        Args:
            metrics: numbers by name: Python, NumPy or one-element tensors; NaN and infinity are kept. Nested
                mappings get dotted names.
            step: any number that orders them, e.g. the epoch or batch; default: none, ordered by time.

        Raises:
            LightexError: a value is not a number, or the run is finished.
        """
        if step is not None:
            step = plain_metrics({"step": step})["step"]  # type: ignore[assignment]  # "NaN" is a step's own fault
        self._write({"time": time(), "step": step, "metrics": plain_metrics(metrics)})

    def log_metric(self, key: str, value: Any, step: float | None = None) -> None:
        """Record one metric (MLflow's name for it)."""
        self.log({key: value}, step)

    def log_metrics(self, metrics: Mapping[str, Any], step: float | None = None) -> None:
        """Record metrics (MLflow's name for `log`)."""
        self.log(metrics, step)

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far it is, in any unit: steps, epochs, samples; the monitor shows it with the time left.

        Args:
            done: so far.
            total: in all; None: not known.

        Raises:
            LightexError: one is not a number, or the run is finished.
        """
        told = plain_metrics({"done": done, **({} if total is None else {"total": total})})
        self._write({"time": time(), "progress": told})

    def log_params(self, params: Any) -> None:
        """Record parameters: a mapping, a dataclass or an argparse namespace; nested ones get dotted names."""
        self._write({"time": time(), "params": plain_params(params)})

    def log_param(self, key: str, value: Any) -> None:
        """Record one parameter."""
        self.log_params({key: value})

    def set_tag(self, key: str, value: Any) -> None:
        """Label the run."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Label the run."""
        self._write({"time": time(), "tags": {str(key): str(value) for key, value in tags.items()}})

    def log_text(self, text: str, name: str = "text", step: float | None = None) -> None:
        """Record a text under a name, e.g. a sample that a language model wrote."""
        self._write({"time": time(), "step": step, "text": {"name": name, "value": str(text)}})

    def log_image(self, name: str, image: Any, step: float | None = None, caption: str | None = None) -> Path:
        """Keep an image as PNG.

        Args:
            name: what it is shown under, at each step.
            image: a PIL image, or an array (height, width), (height, width, 1 | 3 | 4) or, as PyTorch has them,
                (1 | 3 | 4, height, width); integers of 0..255 or floats of 0..1.
            step: as of `log`.
            caption: shown with it.

        Returns:
            The PNG file.

        Raises:
            LightexError: it is no image, or Pillow is missing.
        """
        extra = {"caption": caption} if caption else {}
        return self._keep_media("image", name, step, lambda path: media.write_image(image, path) | extra)

    def log_figure(self, name: str, figure: Any, step: float | None = None) -> Path:
        """Keep a figure: of matplotlib as PNG, of plotly as its JSON.

        Raises:
            LightexError: it is neither.
        """
        return self._keep_media("figure", name, step, lambda path: media.write_figure(figure, path))

    def log_table(self, name: str, table: Any, step: float | None = None, columns: Sequence[str] | None = None) -> Path:
        """Keep a table: a DataFrame (pandas, polars), a mapping of columns, mappings by row, or rows and their columns.

        Raises:
            LightexError: it has no names for its columns.
        """
        return self._keep_media("table", name, step, lambda path: media.write_table(table, path, columns))

    def log_audio(self, name: str, samples: Any, rate: int, step: float | None = None) -> Path:
        """Keep a sound as WAV: an array (time,) or (time, channels) of floats of -1..1 or 16-bit integers.

        `rate` is in samples a second.

        Raises:
            LightexError: the array has another shape.
        """
        return self._keep_media("audio", name, step, lambda path: media.write_audio(samples, rate, path))

    def log_histogram(
        self, name: str, values: Any = None, step: float | None = None, *, edges: Any = None, counts: Any = None
    ) -> None:
        """Record how values are distributed: the values (non-finite ones are left out), or a histogram of them.

        Its edges (n + 1) rise, its counts are n.

        Raises:
            LightexError: edges and counts do not fit.
        """
        found = media.histogram(values, edges, counts)
        self._write({"time": time(), "step": step, "histogram": {"name": name, **found}})

    def log_artifact(self, path: str | os.PathLike[str], name: str | None = None) -> Path:
        """Keep a copy of a file or a folder.

        Args:
            path: what to keep.
            name: where below the run's artifacts; default: its own name.

        Returns:
            Where it is kept.

        Raises:
            LightexError: it does not exist, or the name leads out of the artifacts.
        """
        source = Path(path)
        for about in artifacts.keep(source, self.directory.artifacts, name):
            self._write({"time": time(), "artifact": about})
        return self.directory.artifacts / (name or source.name)

    def log_model(self, model: Any, name: str = "model", *, example: Any = None, register: str | None = None) -> Path:
        """Keep a model; `lightex.load_model(run)` loads it back.

        Args:
            model: a scikit-learn estimator (kept as skops, which loads without running code of the file), a PyTorch
                module (its state_dict), or the path of one that is saved already.
            name: its name below the run's artifacts, without suffix.
            example: an input of it; kept beside it as JSON, with the model's output if it is called without error.
            register: the name under which a backend with a registry of models (MLflow) registers it.

        Returns:
            Where it is kept.

        Raises:
            LightexError: there is no format for it, or a package that saves it is missing.
        """
        folder = self.directory.artifacts
        if isinstance(model, (str, os.PathLike)):
            source = Path(model)
            kind: dict[str, Any] = {"format": "file"}
            found = artifacts.keep(source, folder, f"{artifacts.checked_name(name)}{source.suffix}")
            path = self.directory.path / str(found[0]["path"])
        else:
            path, kind = models.save(model, folder, str(artifacts.checked_name(name)), example)
            found = [artifacts.describe(path, folder)]
        about = {"name": name, **kind, **({"register": register} if register else {})}
        for file in found:
            self._write({"time": time(), "artifact": file | {"model": about}})
        return path

    def _keep_media(self, kind: str, name: str, step: float | None, write: Callable[[Path], dict[str, Any]]) -> Path:
        folder = self.directory.artifacts / "media"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{fit(name, _FILE_NAME, 80)}-{os.getpid()}-{next(self._media)}"  # ranks write at once
        about = write(folder / stem)
        path = about["path"]
        known = artifacts.describe(path, self.directory.artifacts)
        self._write({"time": time(), "step": step, "media": {"kind": kind, "name": name, **about, **known}})
        return Path(path)


class Addressed(Logs):
    """The logging calls of a run, for some of its sinks only."""

    def __init__(self, run: Logs, sinks: Sequence[str]) -> None:
        self.directory = run.directory
        self._run, self._sinks = run, list(sinks)

    def _write(self, record: Record) -> None:
        self._run._write(jsonable(record | {"to": self._sinks}))
