"""The monitor's page, what it does about runs, and its metrics; on real run directories and a real sweep."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

import pytest

from lightex.core.liveness import process_mark
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import read_all
from lightex.web.app import make_app
from lightex.web.live import Live
from tests.helpers import LX, wait_for
from tests.web.asgi import Client

JSON = {"content-type": "application/json"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The UI over a root with one run that runs (it is this process), one that waits and one that failed."""
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    root = Root(tmp_path / "runs")
    mark = process_mark(os.getpid())
    for name, events in (
        ("aaaaa", [{"state": "RUNNING", "process": mark}]),
        ("bbbbb", [{"state": "SUBMITTED", "reason": "a <b>node</b>"}]),
        ("ccccc", [{"state": "FAILED", "reason": "exit code 1: <script>alert(1)</script>", "cause": "exit"}]),
    ):
        now = time.time()
        identity = {"id": f"260101-000000-{name}", "experiment": "demo", "created": now, "engine": "process"}
        run = RunDir.create(root.path / "demo" / identity["id"], identity, {"hp": {"lr": 0.1}},
                            {"time": now, "state": "QUEUED", "attempt": 1})  # fmt: skip
        for event in events:
            run.append_event({"time": now, "attempt": 1, **event})
        if name == "aaaaa":
            run.append_usage({"time": now, "cpu": 0.5, "memory": 2**20})
    live = Live(root)
    live.open()
    yield Client(make_app(live, None), host="localhost")
    live.close()


def act(site, **asked):
    return site.request("POST", "/api/act", content=json.dumps(asked), headers={**site.headers, **JSON})


def test_the_page_tells_what_runs_waits_and_ended_and_escapes_it(site):
    page = site.get("/live").text
    assert "50 %" in page
    assert "1 MiB" in page
    assert "a &lt;b&gt;node&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    part = site.get("/live?part=live").text
    assert part.startswith('<div id="live-part"')
    assert site.get("/logs?run=aaaaa&run=bbbbb").text.count("log-host") == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"do": "dance"}, "there is nothing to do that is called 'dance'"),
        ({"do": ["stop"]}, "there is nothing to do that is called"),
        ({"do": "stop"}, "runs must be a list of ids"),
        ({"do": "stop", "runs": [3]}, "runs must be a list of ids"),
        ({"do": "stop", "runs": ["nobody"]}, "none of these runs is there"),
        ({"do": "stop", "runs": ["aaaaa"]}, "run aaaaa was not started by lx"),
        ({"do": "stop", "runs": ["ccccc"]}, "they have all ended already"),
        ({"do": "retry", "runs": ["aaaaa"]}, "only runs that have ended without success are retried"),
        ({"do": "pause", "sweep": "zzzz"}, "there is no sweep 'zzzz'"),
        ({"do": "pause", "sweep": ["x"]}, "there is no sweep"),
        ({"do": "priority", "runs": ["bbbbb"], "priority": "high"}, "priority must be a whole number, got 'high'"),
        ({"do": "clone", "runs": ["aaaaa", "bbbbb"]}, "one run is cloned at a time"),
        ({"do": "clone", "runs": ["aaaaa"], "overrides": ["--help"]}, "not an override: '--help'"),
        ({"do": "clone", "runs": ["aaaaa"], "overrides": "x=1"}, "overrides must be a list of texts"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(site, asked, words):
    answer = act(site, **asked)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_what_comes_from_another_site_is_not_done(site):
    answer = site.request("POST", "/api/act", content="{}", headers={**site.headers, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_what_is_no_json_is_refused(site):
    assert site.request("POST", "/api/act", content="{", headers=site.headers).status_code == 400
    assert site.request("POST", "/api/act", content="[1]", headers=site.headers).status_code == 400


def test_what_is_too_long_is_refused_also_where_it_does_not_say_how_long_it_is(site):
    async def parts():
        for _ in range(3):
            yield b" " * (1 << 15)

    answer = site.request("POST", "/api/act", content=parts(), headers=site.headers)
    assert answer.status_code == 400
    assert "too long" in answer.json()["error"]


def test_usage_and_why_of_a_run(site):
    assert site.json("/api/run/aaaaa/usage")["samples"][0]["cpu"] == 0.5
    assert site.json("/api/run/aaaaa/why")["facts"]
    assert site.get("/api/run/nobody/usage").status_code == 404


def test_prometheus_takes_the_metrics(site):
    text = site.get("/metrics").text
    assert 'lightex_runs{state="running"} 1.0' in text
    assert 'lightex_run_cpu_cores{experiment="demo"' in text
    assert site.get("/healthz").text == "ok\n"
    assert site.get("/readyz").text == "ok, 3 runs\n"
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing: apt install prometheus")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_metrics_want_the_token_too(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    live = Live(Root(tmp_path / "runs"))
    live.open()
    try:
        site = Client(make_app(live, "secret"), host="localhost")
        assert site.get("/metrics").status_code == 401
        assert Client(site.app, host="localhost", authorization="Bearer secret").get("/metrics").status_code == 200
    finally:
        live.close()


def test_a_run_is_stopped_retried_and_cloned_through_the_server(project, tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    (project / "train.py").write_text("import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)")
    root = Root(project / "runs")
    keeper = subprocess.Popen([*LX, "run", "base"], stdout=subprocess.DEVNULL, start_new_session=True)
    live = Live(root)
    try:
        wait_for(lambda: [run.status for run in read_all(root, root.runs())] == ["RUNNING"])
        live.open()
        site = Client(make_app(live, None), host="localhost")
        (run,) = root.runs()
        assert act(site, do="stop", runs=[run.short_id]).json()["told"] == "1 run asked to end, each within its grace"
        wait_for(lambda: site.json("/api/runs")["runs"][0]["status"] == "CANCELLED")
        assert keeper.wait(30) == 1
        refused = act(site, do="clone", runs=[run.id], overrides=["hp.lr=fast"])
        assert refused.json()["error"] == "hp.lr must be a float, got 'fast' (command line)"
        (project / "go").touch()
        assert "lx attach" in act(site, do="retry", runs=[run.id]).json()["told"]
        wait_for(lambda: site.json("/api/runs")["runs"][0]["status"] == "SUCCEEDED")
    finally:
        live.close()
