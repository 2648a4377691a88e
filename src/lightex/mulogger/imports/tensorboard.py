"""TensorBoard: a log folder, each folder in it that holds event files is a run. Read without TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightex.core.errors import NotFoundError
from lightex.core.rundir import FAILED, SUCCEEDED
from lightex.mulogger.imports.desk import Desk, text
from lightex.mulogger.imports.foreign import Foreign, Story, mark_of

_HPARAMS = re.compile(r"\d{9,10}\.\d+")  # a time
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".wav"}


class TensorBoardPeer:
    """A log folder of TensorBoard.

    Args:
        uri: the folder, as `tensorboard --logdir` takes it.
        experiment: what to call its runs' experiment, for TensorBoard has none; None: the name of the folder.

    Raises:
        NotFoundError: there is no such folder, or no event file in it.
    """

    name = "tensorboard"

    def __init__(self, uri: str, experiment: str | None) -> None:
        import tensorboard.backend.event_processing.event_file_loader  # noqa: F401  told before anything is done

        self.folder = Path(uri).expanduser().absolute()
        self.uri, self.experiment = str(self.folder), experiment or self.folder.name
        if not self.folder.is_dir():
            raise NotFoundError(f"no folder {uri!r}", "give the one that `tensorboard --logdir` shows")
        if not any(files for _, files in self._found()):
            raise NotFoundError(
                f"no event files in {uri!r}", "their names hold 'tfevents'; give the folder that they are below"
            )

    def runs(self) -> Iterator[Foreign]:
        """The folders that hold event files, by name."""
        for folder, files in self._found():
            path = text(folder.relative_to(self.folder).as_posix())
            yield Foreign(
                id=path,
                name=self.folder.name if path == "." else path,
                experiment=self.experiment,
                series="",
                mark=mark_of([(file.name, file.stat().st_size) for file in files]),
                read=partial(_read, files),
            )

    def _found(self) -> Iterator[tuple[Path, list[Path]]]:
        for folder, below, names in os.walk(self.folder):
            files = _event_files(folder, names)
            if files:  # PyTorch's add_hparams writes into a folder of its own what belongs to the run above
                for name in sorted(name for name in below if _HPARAMS.fullmatch(name)):
                    files += _event_files(f"{folder}/{name}", os.listdir(f"{folder}/{name}"))  # noqa: PTH208
                below[:] = [name for name in below if not _HPARAMS.fullmatch(name)]
                yield Path(folder), files
            below.sort()


def _event_files(folder: str, names: Sequence[str]) -> list[Path]:
    """In the order of their writing: their names hold the second, the process, and a count."""

    def order(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]

    return [Path(folder) / name for name in sorted(names, key=order) if "tfevents" in name]


def _read(files: Sequence[Path], desk: Desk) -> Story:
    """All event files of one folder, in the order in which TensorBoard reads them."""
    reader = _Reader(desk)
    for file in files:
        desk.tell(file.name)
        reader.take(file)
    reader.flush()
    if reader.began is None:
        raise NotFoundError("its event files are empty or broken")
    return Story(
        created=reader.began,
        status=reader.status,
        ended=reader.last,
        reason="its hparams session failed" if reader.status == FAILED else None,
    )


class _Reader:
    """Events become records. Old forms of summaries are brought to the new one by TensorBoard's own loader."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.began: float | None = None
        self.last: float | None = None
        self.status = SUCCEEDED
        self._kinds: dict[str, str] = {}  # tag -> plugin: only the first summary of a tag tells
        self._metrics: dict[str, float] = {}
        self._at: tuple[float, int] = (0.0, 0)
        self._attempt = 1

    def take(self, path: Path) -> None:
        """Read one file; a torn end, as a killed writer leaves it, is left out."""
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.compat.proto.event_pb2 import SessionLog

        for event in EventFileLoader(str(path)).Load():
            self.began = event.wall_time if self.began is None else min(self.began, event.wall_time)
            self.last = event.wall_time if self.last is None else max(self.last, event.wall_time)
            kind = event.WhichOneof("what")
            if kind == "summary":
                for value in event.summary.value:
                    self._value(value, event.wall_time, event.step)
            elif kind == "session_log" and event.session_log.status == SessionLog.START and self._kinds:
                self._purge(event.wall_time)
            elif kind == "graph_def":
                self.desk.leave("graphs")

    def flush(self) -> None:
        """Write the metrics of one step and moment."""
        if self._metrics:
            time, step = self._at
            self.desk.write({"time": time, "step": step, "metrics": self._metrics})
            self._metrics = {}

    def _purge(self, time: float) -> None:
        """The writer went back (`purge_step`): what it logs from there takes the place of what was there."""
        self.flush()
        self._attempt += 1
        self.desk.write({"time": time, "attempt": self._attempt})

    def _value(self, value: Any, time: float, step: int) -> None:
        from tensorboard.util.tensor_util import make_ndarray

        tag = value.tag
        if value.HasField("metadata") and value.metadata.plugin_data.plugin_name:
            self._kinds[tag] = value.metadata.plugin_data.plugin_name
        kind = self._kinds.get(tag, "")
        if kind == "hparams":
            self._session(tag, value.metadata.plugin_data.content, time)
            return
        if kind not in ("scalars", "text", "images", "audio", "histograms") or not value.HasField("tensor"):
            self.desk.leave(kind or "summaries of no plugin")
            return
        array = make_ndarray(value.tensor)
        if kind == "scalars":
            if self._at != (time, step) or tag in self._metrics:
                self.flush()
            self._at = (time, step)
            self._metrics[tag] = float(array.item())
        else:
            self.flush()
            self._other(kind, tag, array, time, step)

    def _other(self, kind: str, tag: str, array: Any, time: float, step: int) -> None:
        if kind == "text":
            shown = "\n".join(_decoded(item) for item in array.ravel().tolist())
            self.desk.write({"time": time, "step": step, "text": {"name": _text_name(tag), "value": shown}})
        elif kind == "images":
            self._images(tag, [bytes(item) for item in array.ravel().tolist()], time, step)
        elif kind == "audio":
            for number, sound in enumerate(array.reshape(len(array), -1)[:, 0].tolist()):
                name = _numbered(tag, number, len(array))
                self.desk.media("audio", name, sound, _suffix(sound, ".bin"), step, time)
        elif len(array):
            edges = [*array[:, 0].tolist(), float(array[-1, 1])]
            found = {"name": tag, "edges": edges, "counts": array[:, 2].tolist()}
            self.desk.write({"time": time, "step": step, "histogram": found})

    def _images(self, tag: str, parts: list[bytes], time: float, step: int) -> None:
        width, height, *images = parts
        size = {"width": int(width), "height": int(height)}
        for number, image in enumerate(images):
            name = _numbered(tag, number, len(images))
            self.desk.media("image", name, image, _suffix(image, ".png"), step, time, **size)

    def _session(self, tag: str, content: bytes, time: float) -> None:
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        if tag == metadata.SESSION_START_INFO_TAG:
            params = {name: _hparam(value) for name, value in data.session_start_info.hparams.items()}
            if params:
                self.flush()
                self.desk.write({"time": time, "params": params})
        elif tag == metadata.SESSION_END_INFO_TAG:
            self.status = FAILED if data.session_end_info.status == api_pb2.STATUS_FAILURE else SUCCEEDED


def _hparam(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind in ("number_value", "string_value", "bool_value") else None


def _text_name(tag: str) -> str:
    """The name that was given: PyTorch's writer appends its own word."""
    return tag.removesuffix("/text_summary") or tag


def _numbered(tag: str, number: int, count: int) -> str:
    return tag if count == 1 else f"{tag}/{number}"


def _decoded(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def _suffix(data: bytes, default: str) -> str:
    return next((suffix for head, suffix in _SUFFIXES.items() if data.startswith(head)), default)
