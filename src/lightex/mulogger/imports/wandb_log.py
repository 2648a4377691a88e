"""The .wandb file of a run: LevelDB's log format behind 7 bytes of W&B's own, protobuf messages inside.

W&B's own module for it (`wandb.sdk.internal.datastore`) is no longer in its package (0.31); the format is as it was.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import unpack
from typing import Any

from lightex.core.errors import LightexError

_BLOCK, _HEAD, _START = 32768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """The messages (`wandb_internal_pb2.Record`) of a file, up to an end that is torn or broken.

    Raises:
        LightexError: it is no .wandb file.
        OSError: it cannot be read.
    """
    message = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    refusal = importlib.import_module("google.protobuf.message").DecodeError
    for data in _messages(path):
        record = message()
        try:
            record.ParseFromString(data)
        except refusal:
            return
        yield record


def _messages(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        head = file.read(_START)
        if len(head) < _START or head[:4] != b":W&B":
            raise LightexError("it is no .wandb file", f"the file is {path}")
        whole, first = b"", True
        while block := file.read(_BLOCK - _START if first else _BLOCK):
            first, at = False, 0
            while len(block) - at >= _HEAD:
                checksum, size, kind = unpack("<IHB", block[at : at + _HEAD])
                part = block[at + _HEAD : at + _HEAD + size]
                at += _HEAD + size
                if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(part) < size:
                    return
                if zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
                    return
                whole = part if kind in (_FULL, _FIRST) else whole + part
                if kind in (_FULL, _LAST):
                    yield whole
