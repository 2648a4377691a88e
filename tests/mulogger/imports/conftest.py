"""What tests of imports share."""

import pytest

from lightex.core import journal
from lightex.core.root import Root
from lightex.mulogger.delivery import Delivery, choose
from lightex.mulogger.imports.foreign import open_peer
from lightex.mulogger.imports.intake import Intake


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty root; W&B's, MLflow's own settings of this machine are out of the way."""
    import os

    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Root(tmp_path / "runs")


@pytest.fixture(scope="module")
def wandb_home(tmp_path_factory):
    """W&B's client starts a process of its own, which keeps the environment that it was started with."""
    import wandb

    wandb.teardown()
    yield tmp_path_factory.mktemp("home")
    wandb.teardown()


@pytest.fixture
def wandb_server(root, wandb_home, monkeypatch):
    """A stand-in for W&B's service, and a user who is logged in there."""
    from lightex.mulogger.imports import wandb_service
    from tests.services.wandb import KEY, WandbServer

    server = WandbServer()
    server.up()
    given = {"BASE_URL": server.url, "API_KEY": KEY, "ERROR_REPORTING": "false", "SILENT": "true",
             "CACHE_DIR": str(wandb_home / "cache"), "DIR": str(wandb_home)}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(wandb_home))
    monkeypatch.setattr(wandb_service, "_PATIENCE", dict.fromkeys(wandb_service._PATIENCE, 1))  # a test waits less
    yield server
    server.down()


def bring(root, peer, uri, experiment=None):
    """Import; returns what was done."""
    return Intake(root, open_peer(peer, str(uri), experiment)).bring()


def named(root):
    """The runs of a root by their name at the peer."""
    return {run.identity["imported"]["name"]: run for run in root.runs()}


def records(run, kind):
    """The records of one kind."""
    return [record for record in journal.read(run.records_file()) if kind in record]


def points(run, metric):
    """Step and value of a metric, in order of writing."""
    found = (record for record in records(run, "metrics") if metric in record["metrics"])
    return [(record.get("step"), record["metrics"][metric]) for record in found]


def export(run, sink, options):
    """Bring a run to a sink, as `lx export` does; returns its delivery, closed."""
    choose(run, sink, options)
    delivery = Delivery(run, sink)
    assert delivery.open()
    made = delivery.sink
    while delivery.feed():
        pass
    delivery.close(run.events()[-1]["state"], run.events()[-1].get("reason"))
    return made


def whole(root):
    """Every file of a root with its content and its time of change."""
    return {
        str(path.relative_to(root.path)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.path.rglob("*"))
        if path.is_file()
    }
