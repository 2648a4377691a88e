"""A sink in a package of its own passes the contract with one fixture."""

import json

import pytest

from lightex.testing import Backend, Held, SinkContract


class TestPlugin(SinkContract):
    @pytest.fixture
    def backend(self, tmp_path, plugin):
        def read(run):
            lines = [json.loads(line) for line in (tmp_path / "json" / f"{run.id}.jsonl").read_text().splitlines()]
            metrics, params, status = {}, {}, None
            for line in lines:
                for name, value in line.get("metrics", {}).items():
                    metrics.setdefault(name, []).append((line.get("step"), value))
                params |= {name: str(value) for name, value in line.get("params", {}).items()}
                status = line.get("status", status)
            return Held(params, metrics, status)

        return Backend("jsonsink", read, {"folder": str(tmp_path / "json")}, statuses=("SUCCEEDED", "FAILED"))
