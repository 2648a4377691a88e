"""The history of a run of W&B: rows of metrics and media, each metric with a step of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.journal import jsonable, number
from lightex.mulogger.artifacts import checked_name
from lightex.mulogger.imports.desk import Desk

_OWN = ("_step", "_timestamp", "_runtime", "_wandb")
_FILES = {"image-file": "image", "audio-file": "audio", "table-file": "table", "plotly-file": "figure"}


class Rows:
    """Rows become records on a desk.

    Args:
        desk: where to.
        files: the folder that paths of media are in; may be set anew.
    """

    def __init__(self, desk: Desk, files: Path = Path()) -> None:
        self.desk, self.files = desk, files
        self.last: float | None = None
        self._axes: list[tuple[str, str]] = []  # pattern, the metric that is its step
        self._seen: set[str] = set()

    def define(self, pattern: str, axis: str) -> None:
        """Take note of metrics that have another one for their step (`define_metric`)."""
        self._axes.insert(0, (pattern, axis))

    def add(self, row: Mapping[str, Any]) -> None:
        """Write what one call of `wandb.log` logged."""
        time, step = number(row.get("_timestamp")) or 0.0, number(row.get("_step"))
        self.last = max(self.last or time, time)
        by_step: dict[float | None, dict[str, float]] = {}
        axes = set()
        values = flat({key: value for key, value in row.items() if key not in _OWN}, media=True)
        numbers = {name: found for name, value in values.items() if (found := _number(value)) is not None}
        for name, value in numbers.items():
            axis = self._axis(name)
            at = step
            if axis is not None and axis != name and axis in numbers:
                at = numbers[axis]
                axes.add(axis)
            by_step.setdefault(at, {})[name] = value
        for at, metrics in by_step.items():
            shown = {name: value for name, value in metrics.items() if name not in axes}
            if shown:
                self.desk.write({"time": time, "step": _whole(at), "metrics": shown})
        for name, value in values.items():
            if name not in numbers:
                axis = self._axis(name)
                self._other(name, value, _whole(numbers.get(axis, step) if axis else step), time)
        self._seen |= values.keys()

    def conclude(self, summary: Mapping[str, Any], time: float) -> None:
        """Write what the summary holds beyond the last values of the history."""
        values = flat({key: value for key, value in summary.items() if key not in _OWN}, media=True)
        new = {name: value for name, value in values.items() if name not in self._seen and not _is_media(value)}
        numbers = {name: found for name, value in new.items() if (found := _number(value)) is not None}
        if numbers:
            self.desk.write({"time": time, "metrics": numbers})
        for name, value in new.items():
            if name not in numbers:
                self._other(name, value, None, time)

    def _axis(self, name: str) -> str | None:
        return next((axis for pattern, axis in self._axes if fnmatchcase(name, pattern)), None)

    def _other(self, name: str, value: Any, step: float | None, time: float) -> None:
        """Text, a histogram, or a file."""
        if not _is_media(value):
            shown = value if isinstance(value, str) else json.dumps(value)
            self.desk.write({"time": time, "step": step, "text": {"name": name, "value": shown}})
            return
        kind = value["_type"]
        if kind == "histogram":
            self._histogram(name, value, step, time)
        elif kind == "images/separated":
            captions = value.get("captions") or []
            for index, path in enumerate(value.get("filenames") or []):
                about = {"path": path, "width": value.get("width"), "height": value.get("height")}
                about["caption"] = captions[index] if index < len(captions) else None
                self._file("image", f"{name}/{index}", about, step, time)
        elif kind in _FILES:
            self._file(_FILES[kind], name, value, step, time)
        elif kind == "html-file":
            path = self._path(value)
            if path:
                text = path.read_text(errors="replace")
                self.desk.write({"time": time, "step": step, "text": {"name": name, "value": text}})
        else:
            self.desk.leave(str(kind))

    def _histogram(self, name: str, value: Mapping[str, Any], step: float | None, time: float) -> None:
        counts, edges = value.get("values") or [], value.get("bins")
        if packed := value.get("packedBins"):
            edges = [packed["min"] + packed["size"] * index for index in range(packed["count"] + 1)]
        if edges and len(edges) == len(counts) + 1:
            found = {"name": name, "edges": edges, "counts": counts}
            self.desk.write({"time": time, "step": step, "histogram": found})

    def _file(self, kind: str, name: str, about: Mapping[str, Any], step: float | None, time: float) -> None:
        path = self._path(about)
        if path is None:
            return
        more = {key: about[key] for key in ("width", "height", "caption") if about.get(key)}
        if kind == "figure":
            more["format"] = "plotly"
        if kind == "table":
            table = json.loads(path.read_bytes())
            found = jsonable({"columns": [str(column) for column in table["columns"]], "rows": table["data"]})
            data = json.dumps(found).encode()
            self.desk.media("table", name, data, ".json", step, time, rows=len(table["data"]))
            return
        self.desk.media(kind, name, path, path.suffix, step, time, **more)

    def _path(self, about: Mapping[str, Any]) -> Path | None:
        """The file of a medium, if it is there."""
        try:
            path = self.files / checked_name(str(about.get("path")))
        except LightexError:
            path = self.files
        if path.is_file():
            return path
        self.desk.leave("media whose files are gone")
        return None


def flat(tree: Mapping[str, Any], prefix: str = "", media: bool = False) -> dict[str, Any]:
    """Nested values by dotted names, without W&B's own; with `media`, what describes a medium stays whole."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if not prefix and key == "_wandb":
            continue
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not (media and _is_media(value)):
            found |= flat(value, f"{name}.", media)
        else:
            found[name] = value
    return found


def known(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is null, at any depth: files of history hold each column for each row."""
    found = {}
    for key, value in tree.items():
        item = known(value) if isinstance(value, Mapping) else value
        if item is not None and (item != {} or value == {}):
            found[key] = item
    return found


def axes_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metrics (or patterns) and the metric that is their step, as a config keeps what `define_metric` was told.

    There, a metric is a dict by the numbers of the fields of W&B's MetricRecord: 1 is its name, 2 its pattern, 4 the
    name of its step, 5 the place of that step in the list, from 1.
    """
    own = config.get("_wandb")
    metrics = [each for each in own.get("m") or () if isinstance(each, Mapping)] if isinstance(own, Mapping) else []
    found = []
    for metric in metrics:
        place = metric.get("5") or 0
        axis = metric.get("4") or (metrics[place - 1].get("1") if 0 < place <= len(metrics) else None)
        if axis and (pattern := metric.get("2") or metric.get("1")):
            found.append((pattern, axis))
    return found


def tags_of(labels: Any) -> dict[str, str]:
    """W&B's labels as tags: "team:a", as LightEx writes them, is team=a; others are their own name."""
    found = {}
    for label in labels:
        name, colon, value = label.partition(":")
        found[name if colon and name else label] = value if colon and name else ""
    return found


def _is_media(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("_type"), str)


def _number(value: Any) -> float | None:
    """A number, also one of W&B's words for those that are none."""
    return number(value) if not isinstance(value, str) else {"nan": float("nan")}.get(value.lower(), number(value))


def _whole(step: float | None) -> float | None:
    return int(step) if step is not None and step == step and abs(step) < 2**53 and step == int(step) else step  # noqa: PLR0124  NaN
