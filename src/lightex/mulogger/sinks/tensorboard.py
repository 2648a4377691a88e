"""TensorBoard: one event file per run, written with TensorBoard's own record writer and messages."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from lightex.core.journal import Record
from lightex.core.rundir import SUCCEEDED, read_object
from lightex.mulogger.sink import Sink


@dataclass(frozen=True)
class TensorBoardOptions:
    """Options of TensorBoard.

    Attributes:
        folder: log directory, where a folder per run is made; None: `tensorboard/` inside the run's directory.
    """

    folder: str | None = None


class TensorBoardSink(Sink):
    """Writes scalars, texts, images, sounds, histograms and the hparams plugin's session."""

    name: ClassVar[str] = "tensorboard"
    Options: ClassVar[type] = TensorBoardOptions
    options: TensorBoardOptions

    @property
    def folder(self) -> Path:
        """The log directory of the run."""
        chosen = self.options.folder
        return (
            Path(chosen).absolute() / self.source.experiment / self.source.id
            if chosen
            else self.source.dir / "tensorboard"
        )

    @property
    def writer(self) -> Any:
        """A `torch.utils.tensorboard.SummaryWriter` beside the sink's own, for what `run` has no call for."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder))

    def open(self) -> bool:
        """Make the event file, or cut off what was written and not noted down."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = "size" not in self.state
        if fresh:
            self.state |= {"file": f"events.out.tfevents.{int(self.source.created)}.{self.source.id}", "size": 0}
            self.state |= {"params": dict(self.source.params), "counts": {}}
        self._file = (self.folder / self.state["file"]).open("ab")
        self._file.truncate(self.state["size"])
        self._file.seek(0, io.SEEK_END)
        self._records = RecordWriter(self._file)
        if fresh:
            self._add(self.source.created, file_version="brain.Event:2")
            self._flush()
        return False

    def write(self, records: Sequence[Record]) -> None:
        """Append events; steps are whole numbers there, a missing one is counted per name."""
        for record in records:
            wall = float(record.get("time") or self.source.created)
            for name, value in record.get("metrics", {}).items():
                self._scalar(name, value, record.get("step"), wall)
            self.state["params"] |= record.get("params", {})
            if text := record.get("text"):
                self._text(str(text.get("name")), str(text.get("value")), record.get("step"), wall)
            for name, value in record.get("tags", {}).items():
                self._text(f"tags/{name}", str(value), 0, wall)
            if media := record.get("media"):
                self._media(media, record.get("step"), wall)
            if found := record.get("histogram"):
                self._histogram(found, record.get("step"), wall)
            if artifact := record.get("artifact"):
                self._text("artifacts", str(artifact.get("path")), None, wall)
        self._flush()

    def close(self, status: str | None, reason: str | None) -> None:
        """With a status: write the hparams session, and the reason as a text."""
        if status:
            self._session(status)
            if reason:
                self._text("status", f"{status}: {reason}", 0, self.source.created)
            self._flush()
        self._file.close()

    def _session(self, status: str) -> None:
        """The hparams plugin's session: its own helpers for this import TensorFlow."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        start = plugin_data_pb2.SessionStartInfo(group_name=self.source.short_id, start_time_secs=self.source.created)
        for name, value in self.state["params"].items():
            _set_hparam(start.hparams[name], value)
        done = api_pb2.STATUS_SUCCESS if status == SUCCEEDED else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=done, end_time_secs=time.time())
        for tag, content in (
            (metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start)),
            (metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end)),
        ):
            self._add(self.source.created, summary=self._plugin_summary(tag, metadata.create_summary_metadata(content)))

    def _plugin_summary(self, tag: str, kind: Any) -> Any:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import NULL_TENSOR

        return Summary(value=[Summary.Value(tag=tag, metadata=kind, tensor=NULL_TENSOR)])

    def _scalar(self, name: str, value: float, step: float | None, wall: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(
            wall, self.counted(name, step), summary=Summary(value=[Summary.Value(tag=name or "_", simple_value=value)])
        )

    def _text(self, name: str, text: str, step: float | None, wall: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        value = Summary.Value(tag=f"{name or '_'}/text_summary", metadata=kind, tensor=tensor)
        self._add(wall, self.counted(f"text {name}", step), summary=Summary(value=[value]))

    def _media(self, media: Record, step: float | None, wall: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        name, path = str(media.get("name")) or "_", self.source.dir / str(media.get("path"))
        at = self.counted(f"media {name}", step)
        if path.suffix == ".png":
            width, height = media.get("width"), media.get("height")
            if width is None:
                width, height = _png_size(path)
            image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes())
            self._add(wall, at, summary=Summary(value=[Summary.Value(tag=name, image=image)]))
        elif media.get("kind") == "audio":
            rate = float(media.get("rate", 0))
            sound = Summary.Audio(
                sample_rate=rate,
                num_channels=int(media.get("channels", 1)),
                length_frames=round(rate * float(media.get("seconds", 0))),
                encoded_audio_string=path.read_bytes(),
                content_type="audio/wav",
            )
            self._add(wall, at, summary=Summary(value=[Summary.Value(tag=name, audio=sound)]))
        elif media.get("kind") == "table":
            table = read_object(path)
            rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"]]
            text = "\n".join("|" + "|".join(str(cell).replace("|", "\\|") for cell in row) + "|" for row in rows)
            self._text(name, text, step, wall)
        else:
            self.source.notice("tensorboard holds no plotly figures; they are in the run")

    def _histogram(self, found: Record, step: float | None, wall: float) -> None:
        from tensorboard.compat.proto.histogram_pb2 import HistogramProto
        from tensorboard.compat.proto.summary_pb2 import Summary

        edges, counts = found["edges"], found["counts"]
        middles = [(low + high) / 2 for low, high in pairwise(edges)]
        histo = HistogramProto(
            min=edges[0],
            max=edges[-1],
            num=sum(counts),
            sum=sum(middle * count for middle, count in zip(middles, counts, strict=True)),
            sum_squares=sum(middle * middle * count for middle, count in zip(middles, counts, strict=True)),
            bucket_limit=edges[1:],
            bucket=counts,
        )
        name = str(found.get("name")) or "_"
        self._add(
            wall, self.counted(f"histogram {name}", step), summary=Summary(value=[Summary.Value(tag=name, histo=histo)])
        )

    def _add(self, wall: float, step: int = 0, **what: Any) -> None:
        self._records.write(self._event(wall_time=wall, step=step, **what).SerializeToString())

    def _flush(self) -> None:
        self._file.flush()
        self.state["size"] = self._file.tell()


def _set_hparam(slot: Any, value: Any) -> None:
    if isinstance(value, bool):
        slot.bool_value = value
    elif isinstance(value, (int, float)):
        slot.number_value = value
    else:
        slot.string_value = str(value)


def _png_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG: bytes 16 to 24 of the file, big endian (ISO/IEC 15948, 11.2.2)."""
    head = path.read_bytes()[16:24]
    return int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
