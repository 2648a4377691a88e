"""Real backends that fail for real: an MLflow server that dies, hangs, breaks, is never there; programs that are killed."""

import os
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightex.core.root import Root
from lightex.mulogger.delivery import native, progress
from tests.mulogger.conftest import until
from tests.services import MlflowServer, free_port, need

pytestmark = [need("mlflow"), pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

LOG = """
import lightex, time
with lightex.start_run("demo", params={{"lr": 0.1}}, loggers={loggers}) as run:
    for number in range({count}):
        run.log({{"x": number, "y": -number}}, step=number)
        time.sleep({pause})
"""


def code(uri, count, pause, more=()):
    logger = f'lightex.Logger("mlflow", {{"tracking_uri": "{uri}"}})'
    return LOG.format(loggers=f"[{', '.join([logger, *map(repr, more)])}]", count=count, pause=pause)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    found.start()
    yield found
    found.kill()


def history(run, name="x"):
    sink = native(run, "mlflow")
    return sorted((p.step, p.value) for p in sink.client.get_metric_history(sink.run_id, name))


def test_a_server_that_is_killed_and_restarted_is_caught_up_with(program, server, monkeypatch):
    monkeypatch.setenv("LX_SYNC_PATIENCE", "60")
    process = program.start(code(server.uri, 400, 0.02))
    until(lambda: program.run and program.run.sinks.exists() and progress(program.run, "mlflow").state, 60)
    server.kill()
    until(lambda: progress(program.run, "mlflow").error, 60, "an error")
    server.start()
    assert process.wait() == 0
    assert program.closed("mlflow", 90) == "SUCCEEDED"
    assert history(program.run) == [(number, float(number)) for number in range(400)]
    sink = native(program.run, "mlflow")
    assert sink.client.get_run(sink.run_id).info.status == "FINISHED"


class Broken(BaseHTTPRequestHandler):
    """Answers 500 to everything."""

    def do_GET(self):
        self.send_response(500)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture(params=["absent", "hanging", "broken"])
def bad_server(request):
    if request.param == "absent":
        yield f"http://127.0.0.1:{free_port()}"
    elif request.param == "hanging":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()


def test_a_server_that_does_not_serve_costs_the_training_nothing(program, server, bad_server, lx, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    began = time.monotonic()
    assert program.start(code(bad_server, 200, 0.005, ["csv"])).wait() == 0
    assert time.monotonic() - began < 15
    assert program.closed("csv") == "SUCCEEDED"
    error = until(lambda: progress(program.run, "mlflow").error, 60, "an error")
    assert "bytes behind" in lx("show", program.run.id).out
    assert error.startswith("MlflowException")
    os.kill(program.feeder(), 9)
    done = lx("sync", "--to", "mlflow", "-o", f"tracking_uri={server.uri}")
    assert "mlflow has it all" in done.out
    assert history(program.run) == [(number, float(number)) for number in range(200)]


@need("tensorboard", "wandb", "clearml", "trackio")
def test_killed_at_random_moments_with_all_sinks_on(program, server, lx, monkeypatch):
    """Nothing is lost after `lx sync`; LX_KILLS says how often (default 2, the figure of the docs is for 30)."""
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(program.folder / "none.conf"))
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(program.folder / "clearml"))
    monkeypatch.setenv("TRACKIO_DIR", str(program.folder / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("LX_SYNC_TIMEOUT", "20")  # clearml was seen to hang
    for _ in range(int(os.environ.get("LX_KILLS", "2"))):
        before = len(list(program.folder.glob("runs/demo/*")))
        process = program.start(
            code(server.uri, 1_000_000, 0.001, ["tensorboard", "csv", "wandb", "clearml", "trackio"])
        )
        until(lambda before=before: len(list(program.folder.glob("runs/demo/*/records.jsonl"))) > before)
        time.sleep(random.random() * 1.5)
        process.kill()
        process.wait()
    done = lx("sync")
    deadline = time.monotonic() + 120
    while "every logger has everything" not in (done := lx("sync")).out:
        assert time.monotonic() < deadline, done.out
        time.sleep(0.5)
    for run in Root(program.folder / "runs").runs():
        logged = [line for line in run.records_file().read_bytes().split(b"\n")[:-1] if b'"x"' in line]
        expected = [(number, float(number)) for number in range(len(logged))]
        assert history(run) == expected
        assert (run.path / "csv" / "metrics.csv").read_text().count(",x,") == len(logged)
        from tests.mulogger.sinks import test_clearml, test_tensorboard, test_wandb

        assert sorted(test_tensorboard.read(run).metrics.get("x", [])) == expected
        assert sorted(test_wandb.read(run).metrics.get("x", [])) == expected
        assert sorted(test_clearml.read(run).metrics.get("x", [])) == expected
        sink = native(run, "mlflow")
        assert sink.client.get_run(sink.run_id).info.status == "FAILED"
