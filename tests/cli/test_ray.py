"""Experiments on a Ray that lx starts for itself, by the command line."""

import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import LX, kill_supervisor, supervisors, wait_for
from tests.services import ray as service
from tests.services.docker import skip_or_fail

pytestmark = [pytest.mark.ray]

WAITS = (
    "import os, time\nopen(os.environ['LX_RUN_DIR'] + '/began', 'a').write('x')\n"
    "while not os.path.exists('go'): time.sleep(0.05)\n"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder, and with it a Ray, of its own."""
    if importlib.util.find_spec("ray") is None:
        skip_or_fail("ray", "not installed: pip install 'lightex[ray]'")
    folder = tmp_path / "cache"
    monkeypatch.setenv("LX_CACHE", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield folder
    service.end_brokers(folder)
    assert not (tmp_path / ".ray").exists()  # a token there would change what the user's own Ray does


def runs(lx, *arguments):
    return lx("ls", "--json", *arguments).json


def is_gone(cache):
    """Whether nothing of the Ray is left."""
    return not service.processes_with(f"LX_CACHE={cache}\0")


def started(project, *arguments):
    with (project / "said").open("wb") as said:
        return subprocess.Popen([*LX, "run", "grid", "-e", "ray", *arguments], stdout=said, stderr=said,
                                start_new_session=True)  # fmt: skip


def began(project):
    return len(list(project.glob("runs/demo/*/began")))


def test_a_sweep_runs_unchanged_and_leaves_no_ray_behind(project, lx, cache):
    done = subprocess.run([*LX, "run", "grid", "-e", "ray"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "3 succeeded" in done.stdout
    assert done.stderr == ""
    assert not [line for line in done.stdout.splitlines() if "ray" in line.lower()]
    assert sorted(run["metrics"]["loss"] for run in runs(lx)) == pytest.approx([0.001 / 3, 0.01 / 3, 0.1 / 3])
    assert "done 0.01" in lx("logs", runs(lx)[1]["id"]).out
    wait_for(lambda: is_gone(cache))


def test_a_supervisor_that_is_killed_is_replaced_and_nothing_runs_twice(project, lx, cache):
    (project / "train.py").write_text(WAITS)
    keeper = started(project)
    try:
        wait_for(lambda: began(project) == 3, seconds=60)
        kill_supervisor(keeper)
        (project / "go").touch()
        assert keeper.wait(60) == 0, (project / "said").read_text()
    finally:
        if keeper.poll() is None:
            os.killpg(keeper.pid, signal.SIGKILL)
    assert [path.read_text() for path in project.glob("runs/demo/*/began")] == ["x"] * 3
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"] * 3
    wait_for(lambda: is_gone(cache))


def test_what_ended_while_nobody_of_lx_lived_is_taken_in_by_resume(project, lx, cache):
    (project / "train.py").write_text(WAITS)
    keeper = started(project)
    wait_for(lambda: began(project) == 3, seconds=60)
    wait_for(lambda: [run["status"] for run in runs(lx)] == ["RUNNING"] * 3)
    for pid in [keeper.pid, *supervisors(keeper.pid)]:
        os.kill(pid, signal.SIGKILL)
    keeper.wait()
    (project / "go").touch()
    wait_for(lambda: is_gone(cache), seconds=60)  # it ends by itself, and keeps how they ended
    subprocess.run([*LX, "resume"], check=True, capture_output=True)
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"] * 3
    assert [path.read_text() for path in project.glob("runs/demo/*/began")] == ["x"] * 3


def test_ctrl_c_ends_the_runs_and_the_ray(project, lx, cache):
    (project / "train.py").write_text(WAITS)
    process = started(project, "grace=1")
    wait_for(lambda: began(project) == 3, seconds=60)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert {run["status"] for run in runs(lx)} == {"CANCELLED"}
    wait_for(lambda: is_gone(cache))


def test_mistakes_are_told_before_anything_is_written(project, lx, cache):
    for more, words in (
        ("engine_options.ray.adress=x", "Did you mean 'address'?"),
        ("engine_options.ray.address=ray://x:1", "whose tasks end with its connection"),
        ("engine_options.ray.address=nowhere", "is no address of a Ray"),
        ("engine_options.ray.placement=LINE", "engine_options.ray.placement"),
        ("engine_options.ray.most_open=0", "most_open must be 1 or more"),
        ("engine_options.ray.resources={'CPU': 1}", "'CPU' is no custom resource"),
        ("engine_options.ray.address=127.0.0.1:1", "no Ray answers at 127.0.0.1:1: Connection refused"),
        ("engine_options.ray.address=http://127.0.0.1:1", "no Ray answers at http://127.0.0.1:1"),
    ):
        done = lx("run", "base", "-e", "ray", more)
        assert done.code == 2, done
        assert words in done.err
    assert not (project / "runs").exists()
    assert is_gone(cache) or not list(cache.glob("ray/*/address"))


def test_ray_is_imported_by_its_broker_alone(project, cache):
    program = (
        "import sys\nfrom lightex.cli import main\n"
        "try: main(['plan', 'base', '-e', 'ray'])\nexcept SystemExit as ended: assert not ended.code\n"
        "import lightex.dispatcher.engines.ray\nassert 'ray' not in sys.modules, 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
