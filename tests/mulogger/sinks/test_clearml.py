"""The ClearML sink, offline: the session that is imported into a server later is read back."""

import json
import zipfile
from pathlib import Path

import pytest

from lightex.mulogger.delivery import progress
from lightex.testing import Backend, Held, SinkContract
from tests.services import need

pytestmark = [need("clearml"), pytest.mark.filterwarnings("ignore")]


def read(run):
    session = Path(progress(run, "clearml").state["session"])
    metrics = {}
    with zipfile.ZipFile(f"{session}.zip") as archive:
        task = json.loads(archive.read("task.json"))
        text = archive.read("metrics.jsonl").decode() if "metrics.jsonl" in archive.namelist() else ""
        for line in text.splitlines():
            for event in json.loads(line):
                if event.get("type") == "training_stats_scalar":
                    name = (
                        event["metric"]
                        if event["metric"] == event["variant"]
                        else f"{event['metric']}/{event['variant']}"
                    )
                    metrics.setdefault(name, []).append((event["iter"], event["value"]))
    given = task["hyperparams"].get("General", {})  # absent in a run that was killed before it had any
    params = {name: value["value"] for name, value in given.items()}
    return Held(params, metrics, task.get("status"))


class TestClearml(SinkContract):
    @pytest.fixture
    def backend(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path / "clearml"))
        monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "none.conf"))
        return Backend("clearml", read, options={"offline": True}, nonfinite=False)
