"""run.log of 5 scalars with no sink, with each, with all, while an MLflow server hangs; how it slows a training;
10,000 records to an MLflow server beside log_batch by itself. Goals: 2 x the floor, p99 200 us; 3 %; 1.2 x."""

import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

import lightex
from lightex import Logger
from lightex.mulogger.delivery import choose, chosen, progress
from lightex.mulogger.sync import behind, sync

VALUES = {"loss": 0.123456, "acc": 0.98765, "lr": 1e-3, "norm": 12.5, "time": 0.25}
SECONDS, RATE = 4.0, 100
SINKS = ["csv", "tensorboard", "mlflow", "wandb", "clearml", "trackio"]


def main() -> None:
    """Print the figures."""
    missing = [name for name in SINKS[1:] if importlib.util.find_spec(name) is None]
    if missing:
        print(f"  not measured: pip install 'lightex[sinks]' ({', '.join(missing)} missing)")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {
            "LX_CACHE": f"{name}/cache",
            "LX_SYNC_PATIENCE": "0",
            "WANDB_MODE": "offline",
            "TRACKIO_DIR": f"{name}/trackio",
            "CLEARML_CONFIG_FILE": f"{name}/none",
            "CLEARML_CACHE_DIR": f"{name}/clearml",
        }
        _calls(folder)
        _slowdown(folder)
        _mlflow(folder)


def _calls(folder: Path) -> None:
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare(step: int) -> None:
        os.write(descriptor, orjson.dumps({"time": time.time(), "step": step, "metrics": VALUES}) + b"\n")

    with socket.create_server(("127.0.0.1", 0)) as hangs:
        uri = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        kinds = {"no sink": [], **{sink: [sink] for sink in SINKS}, "all at once": SINKS}
        kinds["MLflow, and it hangs"] = [Logger("mlflow", {"tracking_uri": uri})]
        for label, loggers in kinds.items():
            with lightex.start_run("bench", root=folder / "runs", loggers=loggers) as run:
                _until_fed(run)
                limit, floor_99 = _paced(bare)
                ours, ours_99 = _paced(lambda step, run=run: run.log(VALUES, step=step))
            print(
                f"  {label:<28} median {ours / limit:4.2f} x ({ours:5.1f} us), 99th percentile {ours_99:6.1f} us"
                f" (floor {floor_99:6.1f} us)"
            )
            _drain(run)


def _paced(call: Callable[[int], None]) -> tuple[float, float]:
    """Median and 99th percentile in microseconds of calls at some 1,000 a second: the feeder works meanwhile."""
    taken = []
    for step in range(3000):
        began = time.perf_counter()
        call(step)
        taken.append((time.perf_counter() - began) * 1e6)
        time.sleep(0.001)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def _slowdown(folder: Path) -> None:
    """The work that one training process gets done in a given time, with all sinks and with none."""
    ratios = []
    for _ in range(5):
        done = []
        for loggers in ([], SINKS):
            with lightex.start_run("bench", root=folder / "runs", loggers=loggers) as run:
                _until_fed(run)
                time.sleep(2)  # the backends' own starting (imports, services) takes a core for seconds, once
                done.append(_train(run))
            _drain(run)
        ratios.append(done[0] / done[1])
    print(f"  training with all sinks at {RATE} calls a second takes {statistics.median(ratios):.3f} x (goal: 1.03)")


def _train(run: lightex.Run) -> int:
    work, end, due, step = 0, time.perf_counter() + SECONDS, time.perf_counter(), 0
    while (now := time.perf_counter()) < end:
        sum(i * i for i in range(2000))
        work += 1
        if now >= due:
            run.log(VALUES, step=step)
            step, due = step + 1, due + 1 / RATE
    return work


def _mlflow(folder: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = (folder / "log").open("wb")
    server = subprocess.Popen([*command, "--backend-store-uri", f"sqlite:///{folder}/m.db"], stdout=log, stderr=log)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.2)
        client = MlflowClient(uri)
        experiment = client.create_experiment("bare")
        ratios = []
        for _ in range(3):
            native = client.create_run(experiment).info.run_id
            began = time.perf_counter()
            metrics = [Metric(name, value, step, step) for step in range(10_000) for name, value in VALUES.items()]
            for at in range(0, len(metrics), 1000):
                client.log_batch(native, metrics[at : at + 1000])
            bare = time.perf_counter() - began
            with lightex.start_run("bench", root=folder / "runs") as run:
                for step in range(10_000):
                    run.log(VALUES, step=step)
            choose(run.directory, "mlflow", {"tracking_uri": uri})
            began = time.perf_counter()
            sync(run.directory, "mlflow")
            ratios.append((time.perf_counter() - began) / bare)
        print(f"  10,000 records to an MLflow server take {statistics.median(ratios):.2f} x log_batch (goal: 1.2)")
    finally:
        server.terminate()
        server.wait()


def _until_fed(run: lightex.Run) -> None:
    """Wait until each sink has begun, or a server that hangs has had its time."""
    run.log(VALUES, step=-1)
    deadline = time.monotonic() + 15
    for name in chosen(run.directory):
        while not progress(run.directory, name).state and time.monotonic() < deadline:
            time.sleep(0.05)


def _drain(run: lightex.Run) -> None:
    """Let the feeder finish with a run, so that the next one is measured alone."""
    deadline = time.monotonic() + 30
    while behind([run.directory]) and time.monotonic() < deadline:
        time.sleep(0.1)
