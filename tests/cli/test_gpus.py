"""GPUs end to end: the real nvidia-ml-py, on a stand-in for the driver's library; a GPU itself is not needed."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lightex.core.root import Root
from tests.helpers import LX, wait_for
from tests.services.docker import skip_or_fail

SOURCE = Path(__file__).parents[1] / "services" / "nvml.c"
CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    n: int = 0

base = Experiment(name="demo", command=["sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exec sleep 60"], grace=1.0,
                  resources=Resources(cpus=0.01, gpus=1), hp=HP())
grid = sweep(base, {"hp.n": [0, 1, 2, 3, 4]})
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not shutil.which("gcc"):
        skip_or_fail("gcc", "not installed: apt install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)], check=True)
    return folder


@pytest.fixture
def driver(library, tmp_path, monkeypatch):
    """The folder by which the stand-in is told what to answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STANDIN", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "lxconfig.py").write_text(CONFIG)
    (tmp_path / "USE").write_text("70")
    yield tmp_path
    (tmp_path / "HANGS").unlink(missing_ok=True)
    subprocess.run(
        [*LX, "stop", *(sweep.id for sweep in Root(tmp_path / "runs").sweeps())], capture_output=True, check=False
    )


def lx(*arguments):
    done = subprocess.run([*LX, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs(folder):
    return sorted(Root(folder / "runs").runs(), key=lambda run: run.id)


def test_each_run_gets_a_gpu_and_what_that_does_is_in_its_samples(driver):
    assert "0 (40 GiB), 1 (40 GiB), 2 (40 GiB), 3 (40 GiB)" in lx("doctor")
    lx("run", "grid", "-j", "8", "--detach")
    first = wait_for(lambda: [run for run in runs(driver) if any("gpus" in each for each in run.usage())][3:])
    assert first
    for number, run in enumerate(runs(driver)[:4]):
        assert run.output_file.read_text() == f"{number}\n"
        assert run.usage()[-1]["gpus"] == {str(number): {"memory": number + 1 << 30, "use": 0.7}}
    assert "waits for a GPU (4 of 4 in use" in lx("ls")


def test_a_run_whose_gpu_is_idle_is_stopped_where_a_rule_says_so(driver):
    (driver / "alerts.toml").write_text(
        'to = ["json://127.0.0.1:9"]\n[[rule]]\nwhen = "gpu-idle"\nminutes = 0.03\nact = "stop"\n'
    )
    lx("run", "base", "--detach")
    with open("said", "wb") as said:
        watch = subprocess.Popen([*LX, "alert", "watch", "--every", "0.2"], stdout=said, stderr=said)
    try:
        (run,) = wait_for(lambda: [run for run in runs(driver) if len(run.usage()) > 3])
        assert run.events()[-1]["state"] == "RUNNING"  # its GPU computes
        (driver / "USE").write_text("1")
        end = wait_for(lambda: run.events()[-1]["state"] == "CANCELLED" and run.events()[-1])
        assert end["reason"].startswith("stopped by an alert: gpu-idle")
    finally:
        watch.terminate()
        watch.wait()


def test_a_driver_that_hangs_keeps_no_run_from_being_stopped(driver):
    lx("run", "grid", "-j", "8", "--detach")
    first = wait_for(lambda: [run for run in runs(driver) if run.usage()])[0]
    (driver / "HANGS").touch()
    wait_for((driver / "ASKED").exists)
    wait_for(lambda: "waits for a GPU (the driver does not answer" in lx("ls"), 30)
    began = time.monotonic()
    lx("stop", first.id)
    assert time.monotonic() - began < 30
    assert first.events()[-1]["state"] == "CANCELLED"
