"""The trackio sink, read back by trackio's own storage."""

import pytest

from lightex.testing import Backend, Held, SinkContract
from tests.services import need

pytestmark = [need("trackio"), pytest.mark.filterwarnings("ignore")]


def read(run):
    from trackio.sqlite_storage import SQLiteStorage

    config = SQLiteStorage.get_run_config("contract", run_id=run.id)
    metrics = {}
    for row in SQLiteStorage.get_logs("contract", run_id=run.id):
        for name, value in row.items():
            if name not in ("step", "timestamp") and isinstance(value, (int, float)):
                metrics.setdefault(name, []).append((row["step"], float(value)))
    return Held({name: str(value) for name, value in config.items()}, metrics, config.get("status"))


class TestTrackio(SinkContract):
    @pytest.fixture
    def backend(self, tmp_path, monkeypatch):
        from trackio import sqlite_storage, utils

        for module in (sqlite_storage, utils):
            if hasattr(module, "TRACKIO_DIR"):
                monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
        return Backend("trackio", read, statuses=("SUCCEEDED", "FAILED"))

    def test_a_medium_without_a_step_takes_one(self, backend, run):
        from trackio.sqlite_storage import SQLiteStorage

        with run:
            for name in ("first", "second"):
                run.log_table(name, [[1]], columns=["x"])
        self.deliver(backend, run)
        rows = SQLiteStorage.get_logs("contract", run_id=run.id)
        assert [row["step"] for row in rows if "first" in row or "second" in row] == [0, 1]
