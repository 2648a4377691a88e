"""The W&B sink, offline: the file that `wandb sync` uploads is read back record by record."""

import json
import math
import os
import struct
import time

import pytest

from lightex.testing import Backend, Held, SinkContract
from tests.services import need

pytestmark = [need("wandb"), pytest.mark.filterwarnings("ignore")]


def records(path):
    """The records of a .wandb file: LevelDB's log format behind 7 bytes of W&B's own."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
        if kind in (0, 1, 4):
            whole = b""


def written(path):
    """The records once all are there: W&B's service writes on for a moment after `finish` has returned."""
    deadline = time.monotonic() + 20
    while not (found := list(records(path))) or not found[-1].HasField("exit"):
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.02)
    return found


def history(record):
    items = [item for item in record.history.item if len(item.nested_key) < 2]  # media are nested
    return {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in items}


def read(run):
    metrics, params, status = {}, {}, None
    for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        for record in written(path):
            if record.HasField("history"):
                row = history(record)
                for name, value in row.items():
                    if name not in ("step", "_timestamp", "_step", "_runtime") and not isinstance(value, dict):
                        number = float(value) if not isinstance(value, str) else float(value.lower())
                        metrics.setdefault(name, []).append((row.get("step"), number))
            for update in (*record.run.config.update, *record.config.update):
                value = json.loads(update.value_json)
                params[update.key or ".".join(update.nested_key)] = str(value)
            if record.HasField("exit"):
                status = str(record.exit.exit_code)
    return Held(params, metrics, status)


class TestWandb(SinkContract):
    @pytest.fixture
    def backend(self, monkeypatch):
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            monkeypatch.delenv(name)
        return Backend("wandb", read, options={"mode": "offline"}, statuses=("0", "1"))

    def test_times_are_those_of_the_records(self, backend, run):
        with run:
            run.log({"loss": 1.0}, step=3)
        self.deliver(backend, run)
        (path,) = run.dir.glob("wandb/offline-run-*/*.wandb")
        rows = [history(record) for record in written(path) if record.HasField("history")]
        logged = next(
            json.loads(line) for line in run.directory.records_file().read_text().splitlines() if "loss" in line
        )
        assert math.isclose(rows[0]["_timestamp"], logged["time"])

    def test_what_is_called_as_wandbs_own_columns_is_kept(self, backend, run):
        with run:
            run.log_text("words", "step")
            run.log_histogram("_timestamp", [1.0, 2.0])
        self.deliver(backend, run)
        (path,) = run.dir.glob("wandb/offline-run-*/*.wandb")
        names = {
            item.key or item.nested_key[0]
            for record in written(path)
            if record.HasField("history")
            for item in record.history.item
        }
        assert names >= {"step_logged", "_timestamp_logged"}
