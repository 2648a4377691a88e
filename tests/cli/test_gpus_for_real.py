"""GPUs end to end on a machine that has one: leases, samples, an idle one, one that is full, a stranger's process."""

import os
import shutil
import subprocess
import sys

import pytest

from lightex.core.index import Index
from lightex.core.root import Root
from lightex.dispatcher.gpus import probe_gpus
from lightex.mon.state import picture
from tests.cli.test_gpus import lx, runs
from tests.helpers import LX, wait_for
from tests.services.docker import skip_or_fail

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(180)]  # CUDA takes long to begin

HELD = 1 << 30  # bytes
WORK = f"""import sys, time, torch
what = sys.argv[1]
if what == "large":
    torch.empty(1 << 45, dtype=torch.uint8, device="cuda")
held = torch.empty({HELD}, dtype=torch.uint8, device="cuda")
matrix = torch.rand(4096, 4096, device="cuda")
print(torch.cuda.device_count(), flush=True)
end = time.monotonic() + 120
while time.monotonic() < end:
    if what == "busy":
        (matrix @ matrix).sum().item()
    else:
        time.sleep(0.1)
"""
CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    what: str = "busy"
    n: int = 0

base = Experiment(name="demo", command=["PYTHON", "work.py", "{{ hp.what }}"], hp=HP(), grace=2.0,
                  resources=Resources(cpus=0.01, gpus=1))
grid = sweep(base, {"hp.n": list(range(NUMBER))})
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A project on this machine; the test's own processes are not to be on its GPUs."""
    gpus = probe_gpus()
    if not gpus:
        skip_or_fail("gpu", "there is none that the NVIDIA driver tells of")
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode:
        skip_or_fail("gpu", "there is no PyTorch with CUDA")
    if busy := [gpu.name for gpu in gpus if gpu.used]:
        skip_or_fail("gpu", f"others compute on {', '.join(busy)}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "lxconfig.py").write_text(
        CONFIG.replace("NUMBER", str(len(gpus) + 1)).replace("PYTHON", sys.executable)
    )
    yield tmp_path
    names = [sweep.id for sweep in Root(tmp_path / "runs").sweeps()]
    subprocess.run([*LX, "stop", "--kill", *names], capture_output=True, check=False)
    wait_for(lambda: not any(gpu.used for gpu in probe_gpus()), 30)
    shutil.rmtree(tmp_path / "runs")


def test_each_run_has_a_gpu_of_its_own_and_what_that_does_is_told(here):
    names = [gpu.name for gpu in probe_gpus()]
    assert f"{names[0]} (" in lx("doctor")
    lx("run", "grid", "--detach")
    wait_for(lambda: all(run.output_file.exists() and run.output_file.read_text() for run in runs(here)[:-1]), 60)
    assert {run.output_file.read_text() for run in runs(here)[:-1]} == {"1\n"}  # each sees one

    def loads():
        return {
            name: load for run in runs(here)[:-1] for name, load in (run.usage() or [{}])[-1].get("gpus", {}).items()
        }

    found = wait_for(
        lambda: (now := loads()).keys() == {*names} and all(each["use"] > 0.5 for each in now.values()) and now
    )
    assert all(each["memory"] > HELD for each in found.values())
    assert f"waits for a GPU ({len(names)} of {len(names)} in use by this sweep)" in lx("ls")
    with Index(Root(here / "runs")) as index:
        (node,) = picture(index).nodes
    assert node.gpus.keys() == node.loads.keys() == {*names}
    first = runs(here)[0]
    lx("stop", first.id)  # what it held is free at once
    wait_for(lambda: runs(here)[-1].events()[-1]["state"] == "RUNNING", 10)


def test_an_idle_gpu_is_told_and_its_run_stopped_where_a_rule_says_so(here):
    (here / "alerts.toml").write_text(
        'to = ["json://127.0.0.1:9"]\n[[rule]]\nwhen = "gpu-idle"\nminutes = 0.05\nact = "stop"\n'
    )
    lx("run", "base", "hp.what=busy,idle", "-j", str(len(probe_gpus())), "--detach")
    with open("said", "wb") as said:
        watch = subprocess.Popen([*LX, "alert", "watch", "--every", "0.2"], stdout=said, stderr=said)
    try:
        wait_for(lambda: runs(here)[0].output_file.exists() and runs(here)[0].output_file.read_text(), 60)
        wait_for(lambda: len(runs(here)[0].usage()) > 8, 60)
        assert runs(here)[0].events()[-1]["state"] == "RUNNING"  # its GPU computes
        if len(probe_gpus()) == 1:
            lx("stop", runs(here)[0].id)
        idle = runs(here)[1]
        end = wait_for(lambda: idle.events()[-1]["state"] == "CANCELLED" and idle.events()[-1], 90)
        assert end["reason"].startswith("stopped by an alert: gpu-idle")
    finally:
        watch.terminate()
        watch.wait()


def test_a_gpu_that_is_full_is_the_cause(here):
    done = subprocess.run(
        [*LX, "run", "base", "hp.what=large"], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 1
    (run,) = runs(here)
    assert (run.last_event["state"], run.last_event["cause"]) == ("FAILED", "oom")
    assert "out of memory, CUDA" in lx("why", run.id)


def test_a_stranger_on_a_gpu_is_named_and_waited_for(here):
    strangers = [
        subprocess.Popen(
            [sys.executable, "work.py", "idle"],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": gpu.name},
            stdout=subprocess.DEVNULL,
        )
        for gpu in probe_gpus()
    ]
    try:
        wait_for(lambda: all(gpu.used for gpu in probe_gpus()), 60)
        assert sorted(pid for gpu in probe_gpus() for pid in gpu.used) == sorted(each.pid for each in strangers)
        assert all(size is None or size > HELD for gpu in probe_gpus() for size in gpu.used.values())
        lx("run", "base", "--detach")
        wait_for(lambda: f"process {strangers[0].pid} on GPU 0 is not lx's" in lx("ls"), 20)
    finally:
        for each in strangers:
            each.kill()
            each.wait()
    wait_for(lambda: runs(here)[0].events()[-1]["state"] == "RUNNING", 30)
