"""The CSV sink."""

import csv

import pytest

from lightex.testing import Backend, Held, SinkContract


def read(run):
    with (run.path / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (run.path / "csv" / "values.csv").open(newline="") as file:
        values = list(csv.DictReader(file))
    metrics = {}
    for row in rows:
        metrics.setdefault(row["name"], []).append((float(row["step"]) if row["step"] else None, float(row["value"])))
    params = {row["name"]: row["value"] for row in values if row["kind"] == "param"}
    status = next((row["name"] for row in reversed(values) if row["kind"] == "status"), None)
    return Held(params, metrics, status)


class TestCsv(SinkContract):
    @pytest.fixture
    def backend(self):
        return Backend("csv", read, statuses=("SUCCEEDED", "FAILED"))
