"""Experiments on a Slurm cluster, by the command line."""

import os
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.helpers import LX, kill_supervisor, supervisors, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]

WAITS = (
    "import os, time\nopen(os.environ['LX_RUN_DIR'] + '/began', 'a').write('x')\n"
    "while not os.path.exists('go'): time.sleep(0.05)\n"
)


def runs(lx):
    return lx("ls", "--json").json


@pytest.fixture
def started(project, slurm):
    """Starts a sweep in the background; whatever a test leaves of it is ended."""
    keepers = []

    def start(*arguments):
        with (project / "said").open("wb") as said:
            keepers.append(subprocess.Popen([*LX, "run", "grid", "-e", "slurm", *arguments], stdout=said, stderr=said,
                                            start_new_session=True))  # fmt: skip
        return keepers[-1]

    yield start
    for keeper in keepers:
        with suppress(ProcessLookupError):
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()
    subprocess.run(["scancel", "--signal=KILL", "--user=root"], check=False)
    wait_for(lambda: not slurm.ask("squeue", "--noheader").strip())


def began(project):
    return len(list(project.glob("runs/demo/*/began")))


def test_a_sweep_runs_unchanged(project, lx):
    done = subprocess.run([*LX, "run", "grid", "-e", "slurm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "3 succeeded" in done.stdout
    assert done.stderr == ""
    assert sorted(run["metrics"]["loss"] for run in runs(lx)) == pytest.approx([0.001 / 3, 0.01 / 3, 0.1 / 3])
    assert "done 0.01" in lx("logs", runs(lx)[1]["id"]).out
    assert len({path.read_text().split()[2] for path in project.glob("runs/demo/*/slurm.1.notes")}) == 3


def test_a_supervisor_that_is_killed_is_replaced_and_nothing_runs_twice(project, lx, started):
    (project / "train.py").write_text(WAITS)
    keeper = started()
    wait_for(lambda: began(project) == 3)
    kill_supervisor(keeper)
    (project / "go").touch()
    assert keeper.wait(60) == 0, (project / "said").read_text()
    assert [path.read_text() for path in project.glob("runs/demo/*/began")] == ["x"] * 3
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"] * 3


def test_what_began_and_ended_while_nobody_of_lx_lived_is_taken_in_by_resume(project, lx, slurm, started):
    """The login node went down right after the sweep was submitted."""
    (project / "train.py").write_text(WAITS)
    keeper = started("resources.cpus=2", "resources.nodes=2")  # one after the other
    wait_for(lambda: began(project) == 1)
    for pid in [keeper.pid, *supervisors(keeper.pid)]:
        os.kill(pid, signal.SIGKILL)
    keeper.wait()
    (project / "go").touch()
    wait_for(lambda: began(project) == 3)
    wait_for(lambda: not slurm.ask("squeue", "--noheader").strip())
    subprocess.run([*LX, "resume"], check=True, capture_output=True)
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"] * 3
    assert [path.read_text() for path in project.glob("runs/demo/*/began")] == ["xx"] * 3  # once on each node


def test_stop_takes_what_waits_out_of_the_queue_and_lets_what_runs_end(project, lx, slurm, started):
    (project / "train.py").write_text(WAITS)
    keeper = started("resources.cpus=2", "resources.nodes=2", "grace=1")
    wait_for(lambda: began(project) == 1)
    assert lx("stop", runs(lx)[0]["sweep"]).code == 0
    assert keeper.wait(60) != 0
    assert {run["status"] for run in runs(lx)} == {"CANCELLED"}
    assert began(project) == 1
    wait_for(lambda: not slurm.ask("squeue", "--noheader").strip())


def test_why_tells_what_slurm_says_and_where_it_runs(project, lx, started):
    (project / "train.py").write_text(WAITS)
    keeper = started("resources.cpus=2", "resources.nodes=2", "grace=1")
    wait_for(lambda: began(project) == 1)
    first, second, _ = wait_for(lambda: [run["id"] for run in runs(lx)])
    wait_for(lambda: runs(lx)[0]["status"] == "RUNNING")
    assert "job " in lx("why", first).out
    wait_for(lambda: "waits in its engine: Resources: what it needs is not free yet" in lx("why", second).out, 30)
    keeper.send_signal(signal.SIGINT)
    assert keeper.wait(60) != 0


def test_the_printed_script_is_what_sbatch_takes(project, lx, slurm, tmp_path):
    text = lx("run", "base", "-e", "slurm", "--print-manifest").out
    script = tmp_path / "job.sh"
    script.write_text(text[text.index("#!/bin/bash") :])
    slurm.ask("sbatch", "--wait", str(script))
    assert lx("resume").code == 0
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"]


def test_mistakes_are_told_before_anything_is_written(project, lx, monkeypatch):
    for more, words in (
        ("engine_options.slurm.partitoin=x", "Did you mean 'partition'?"),
        ("engine_options.slurm.partition=nope", "invalid partition specified: nope"),
        ("engine_options.slurm.signal=TERM@5m", "is what Slurm ends it with"),
        ("engine_options.slurm.signal=USR1", "is no SIGNAL@TIME"),
        ("engine_options.slurm.tasks=0", "tasks must be 1 or more"),
        ("engine_options.slurm.runtime=apptainer", "apptainer needs an image"),
        ("engine_options.slurm.extra=['--mem=3G']", "resources.memory"),
        ("engine_options.slurm.extra=['--array=3']", "is what lx says itself"),
        ("resources.gpus=9", "Requested node configuration is not available"),
    ):
        done = lx("run", "base", "-e", "slurm", more)
        assert done.code == 2, (more, done)
        assert words in done.err, (more, done.err)
    monkeypatch.setenv("PATH", os.path.dirname(os.path.realpath("/bin/sh")) + "/nowhere")
    done = lx("run", "base", "-e", "slurm")
    assert "sbatch is not on PATH" in done.err
    assert not (project / "runs").exists()
