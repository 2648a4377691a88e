"""Prometheus itself, scraping `/metrics`, answers every question of the Grafana dashboard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lightex.core import journal
from lightex.core.liveness import process_mark
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from tests.helpers import wait_for
from tests.services import free_port
from tests.services.docker import skip_or_fail
from tests.web.conftest import serving

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs/grafana/lightex.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SCRAPE = """
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: lightex
    authorization: {credentials_file: %s}
    static_configs: [{targets: ["%s"]}]
"""


def make(root: Root, name: str, *events: dict[str, Any]) -> RunDir:
    """A run of a sweep."""
    now = time.time()
    identity = {
        "id": f"260101-000000-{name}",
        "experiment": "demo",
        "sweep": "aaaa",
        "created": now,
        "engine": "process",
    }
    queued = {"time": now, "state": "QUEUED", "attempt": 1}
    run = RunDir.create(root.path / "demo" / identity["id"], identity, {"hp": {"lr": 0.1}}, queued)
    for event in events:
        run.append_event({"time": time.time(), "attempt": 1, **event})
    return run


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory):
    """Asks a Prometheus that scrapes `lx ui`, with the configuration that docs/monitoring.md has."""
    if not shutil.which("prometheus"):
        skip_or_fail("prometheus", "not installed: apt install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    root, now = Root(folder / "runs"), time.time()
    live = make(root, "aaaa-000", {"state": "RUNNING", "process": process_mark(os.getpid()), "gpus": ["0"]})
    live.append_usage({"time": now + 600, "cpu": 0.5, "memory": 2**20, "gpus": {"0": {"use": 0.5, "memory": 9}}})
    journal.append(live.records_file(), {"time": now, "progress": {"done": 1, "total": 4}})
    make(root, "aaaa-001", {"state": "RUNNING"}, {"state": "SUCCEEDED"})
    (folder / "token").write_text("tok")
    with serving(root.path, folder / "cache") as served:
        config, address = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
        config.write_text(SCRAPE % (folder / "token", served.base.rpartition("/")[2]))
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)

        def ask(expression: str) -> list[dict[str, Any]]:
            query = urllib.parse.urlencode({"query": expression})
            try:
                with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=10) as answer:
                    found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                    return found
            except urllib.error.HTTPError as refused:
                if refused.code == 503:  # it is not ready yet
                    return []
                raise AssertionError(refused.read().decode()) from None
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                return []  # it is not up yet

        try:
            wait_for(lambda: [each for each in ask("up") if each["value"][1] == "1"], 30)
            yield ask
        finally:
            process.terminate()
            process.wait()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_panel_of_the_dashboard_has_data(prometheus, expression):
    wait_for(lambda: prometheus(expression), 20)


def test_what_prometheus_holds_is_what_is_the_case(prometheus):
    states = {each["metric"]["state"]: float(each["value"][1]) for each in prometheus("lightex_runs")}
    assert (states["running"], states["succeeded"], states["failed"]) == (1, 1, 0)
    (share,) = prometheus(next(one for one in EXPRESSIONS if "lightex_sweep_runs" in one))
    assert float(share["value"][1]) == 0.5
    (gpu,) = prometheus("lightex_gpu_use_ratio")
    assert (gpu["metric"]["gpu"], gpu["value"][1]) == ("0", "0.5")


def test_panels_have_their_own_place_and_the_chosen_source():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24  # Grafana's grid
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
