"""Images, figures, tables and sounds, written as files that any program opens."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import LightexError, needing
from lightex.core.journal import jsonable

MOST_BINS = 64
"""Bins of a histogram that is made from values."""


def write_image(image: Any, path: Path) -> dict[str, Any]:
    """Write a PNG to a path without suffix; the record says its `path`, `width` and `height` (pixels)."""
    with needing("log_image needs", "pillow"):
        from PIL import Image

    picture = image if isinstance(image, Image.Image) else Image.fromarray(_pixels(image))
    path = path.with_name(f"{path.name}.png")
    picture.save(path)
    return {"path": path, "width": picture.width, "height": picture.height}


def _pixels(image: Any) -> Any:
    import numpy as np

    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise LightexError(
            f"log_image got an array of shape {array.shape}", "give (height, width) or (height, width, 1, 3 or 4)"
        )
    if array.dtype.kind == "f":
        array = np.nan_to_num(array).clip(0, 1) * 255
    elif array.dtype.kind == "b":
        array = array * 255
    return array.clip(0, 255).astype("uint8")


def write_figure(figure: Any, path: Path) -> dict[str, Any]:
    """Write a figure to a path without suffix; the record says its `path` and `format` ("png" or "plotly")."""
    if hasattr(figure, "savefig"):
        path = path.with_name(f"{path.name}.png")
        figure.savefig(path)
        return {"path": path, "format": "png"}
    if hasattr(figure, "to_plotly_json"):
        path = path.with_name(f"{path.name}.json")
        path.write_text(figure.to_json())
        return {"path": path, "format": "plotly"}
    raise LightexError(f"log_figure got a {type(figure).__name__}", "give a matplotlib or a plotly figure")


def write_table(table: Any, path: Path, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Write {"columns": [...], "rows": [[...], ...]} to a path without suffix; the record says `path` and `rows`."""
    names, rows = _columns_and_rows(table, columns)
    path = path.with_name(f"{path.name}.json")
    path.write_bytes(jsonlib.dumps(jsonable({"columns": names, "rows": rows}), str, jsonlib.OPT_SERIALIZE_NUMPY))
    return {"path": path, "rows": len(rows)}


def _columns_and_rows(table: Any, columns: Sequence[str] | None) -> tuple[list[str], list[list[Any]]]:
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        names = [str(name) for name in table.columns]
        given = table.to_dict("list") if hasattr(table, "iloc") else table.to_dict(as_series=False)
        return names, [list(row) for row in zip(*given.values(), strict=True)]
    if isinstance(table, Mapping):
        return [str(name) for name in table], [list(row) for row in zip(*table.values(), strict=True)]
    rows = list(table)
    if rows and all(isinstance(row, Mapping) for row in rows):
        names = list(dict.fromkeys(str(name) for row in rows for name in row))
        return names, [[row.get(name) for name in names] for row in rows]
    if columns is None:
        raise LightexError("log_table needs names for its columns", 'run.log_table("t", rows, columns=["a", "b"])')
    return list(columns), [list(row) for row in rows]


def write_audio(samples: Any, rate: int, path: Path) -> dict[str, Any]:
    """Write a WAV file of 16 bits to a path without suffix; the record says `path`, `rate`, `channels`, `seconds`."""
    import numpy as np

    array = np.asarray(samples.detach().cpu() if hasattr(samples, "detach") else samples)
    if array.ndim not in (1, 2):
        raise LightexError(f"log_audio got an array of shape {array.shape}", "give (time,) or (time, channels)")
    if array.dtype.kind == "f":
        array = np.nan_to_num(array).clip(-1, 1) * 32767
    path = path.with_name(f"{path.name}.wav")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if array.ndim == 1 else array.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(rate))
        file.writeframes(array.astype("<i2").tobytes())
    return {
        "path": path,
        "rate": int(rate),
        "channels": 1 if array.ndim == 1 else array.shape[1],
        "seconds": len(array) / rate,
    }


def histogram(values: Any = None, edges: Any = None, counts: Any = None) -> dict[str, Any]:
    """The record's `edges` (n + 1 floats, rising) and `counts` (n numbers)."""
    import numpy as np

    if values is not None:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=float).ravel()
        array = array[np.isfinite(array)]
        counted, bounds = np.histogram(array, bins=min(MOST_BINS, max(1, int(array.size))))
        return {"edges": bounds.tolist(), "counts": counted.tolist()}
    bounds, counted = np.asarray(edges, dtype=float), np.asarray(counts)
    if bounds.ndim != 1 or len(bounds) != len(counted) + 1 or len(counted) == 0:
        raise LightexError(f"a histogram of {len(counted)} counts needs {len(counted) + 1} edges, got {len(bounds)}")
    return {"edges": bounds.tolist(), "counts": counted.tolist()}
