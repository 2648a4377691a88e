"""Control of a queue from the command line: why, retry, clone, pause, resume of a part, dependencies."""

import json
import os
import pty
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import LX, wait_for

CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, sweep


@dataclass(frozen=True)
class HP:
    code: int = 0


base = Experiment(name="demo", command=["sh", "-c", "test -e mended || exit {{ hp.code }}"], hp=HP(),
                  resources=Resources(cpus=0.5, memory="200MiB"))
some = sweep(base, {"hp.code": [0, 3, 256, 4, 5]})
eats = Experiment(name="eats", command=["python", "-c", "print(len(bytearray(200 << 20)))"], hp=HP(),
                  resources=Resources(cpus=0.5, memory="64MiB"))
waits = sweep(Experiment(name="waits", command=["sh", "-c", "while [ ! -e go ]; do sleep 0.05; done"], hp=HP(),
                         resources=Resources(cpus=0.5)), {"hp.code": [0, 1]})
prepare = Experiment(name="prepare", command="sh -c 'exit {{ hp.code }}'", hp=HP())
train = Experiment(name="train", command=["sh", "-c", "echo $LX_UPSTREAM"], hp=HP(), depends_on=["prepare"])
pipeline = sweep(train) + sweep(prepare)
circle = sweep(Experiment(name="a", command="true", depends_on=["b"])) + sweep(
    Experiment(name="b", command="true", depends_on=["a"]))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "lxconfig.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def statuses(lx):
    return [run["status"] for run in lx("ls", "--all", "--json").json]


def ids(lx):
    return [run["id"] for run in lx("ls", "--all", "--json").json]


def test_resume_runs_what_is_asked_for_and_leaves_the_rest(here, lx):
    assert lx("run", "some", "-j", "2").code == 1
    (here / "mended").touch()
    done = lx("resume", "--only", "1")
    assert "2 succeeded before, 1 to run, 2 are left as they are" in done.out
    assert statuses(lx) == ["SUCCEEDED"] * 3 + ["FAILED"] * 2
    assert lx("resume", "--failed").code == 0
    assert statuses(lx) == ["SUCCEEDED"] * 5


@pytest.mark.parametrize(("only", "words"), [("x", "'x' is not a number"), ("7", "experiments 0 to 4, not 7")])
def test_numbers_that_are_none_are_refused(here, lx, only, words):
    lx("run", "some")
    done = lx("resume", "--only", only)
    assert done.code == 2
    assert words in done.err


def test_max_failures_stops_the_rest(here, lx):
    done = lx("run", "some", "-j", "1", "--max-failures", "2")
    assert done.code == 1
    assert statuses(lx) == ["SUCCEEDED", "FAILED", "SUCCEEDED", "FAILED", "CANCELLED"]


def test_why_tells_the_cause_and_what_helps_and_the_retry_does_it(here, lx):
    lx("run", "eats")
    (run,) = ids(lx)
    done = lx("why", run)
    assert "out of memory" in done.out
    assert lx("why", run, "--json").json["cause"] == "oom"
    step = lx("why", run, "--json").json["steps"][0]
    if step.startswith("lx retry") and "memory" in step:  # by a cgroup
        assert step.endswith("resources.memory=128MiB")
    assert lx("retry", run, "resources.memory=512MiB").code == 0
    assert statuses(lx) == ["SUCCEEDED"]
    assert "attempt 1 was FAILED: out of memory" in lx("why", run).out
    assert lx("retry", run).code == 2
    assert "lx clone" in lx("retry", run).err


def test_a_retry_with_another_result_is_refused(here, lx):
    lx("run", "base", "hp.code=1")
    (run,) = ids(lx)
    done = lx("retry", run, "hp.code=0")
    assert done.code == 2
    assert f"lx clone {run[14:]} hp.code=0" in done.err
    done = lx("retry", run, "resources.memry=1GiB")
    assert done.code == 2
    assert "Did you mean" in done.err
    assert statuses(lx) == ["FAILED"]


def test_a_clone_has_the_config_of_the_run_but_for_what_is_said(here, lx):
    lx("run", "base", "hp.code=3", "resources.cpus=0.25")
    (run,) = ids(lx)
    assert lx("clone", run, "hp.code=0").code == 0
    (clone,) = set(ids(lx)) - {run}
    config = json.loads(next(here.glob(f"runs/demo/{clone}/config.json")).read_text())
    assert config["hp"]["code"] == 0
    assert config["resources"]["cpus"] == 0.25
    assert len(statuses(lx)) == 2


def test_a_pipeline_runs_in_its_order_and_knows_what_it_comes_after(here, lx):
    assert lx("run", "pipeline").code == 0
    train, prepare = (Path(run["dir"]) for run in lx("ls", "--json").json)
    assert (train.name[-3:], prepare.name[-3:]) == ("000", "001")
    assert (train / "output.log").read_text().strip() == str(prepare)


def test_what_depends_on_a_failure_is_told_and_resumed_with_it(here, lx):
    assert lx("run", "pipeline", "hp.code=1").code == 1
    train = ids(lx)[0]
    assert lx("why", train, "--json").json["cause"] == "upstream"
    assert "is FAILED" in lx("why", train).out
    assert statuses(lx) == ["CANCELLED", "FAILED"]


def test_a_run_of_an_earlier_sweep_can_be_depended_on(here, lx):
    lx("run", "base")
    (run,) = ids(lx)
    assert lx("run", "train", f"depends_on=[{run}]").code == 0
    assert statuses(lx) == ["SUCCEEDED"] * 2


def test_dependencies_that_cannot_be_are_refused_before_anything_is_written(here, lx):
    done = lx("run", "train", "depends_on=[prepar]")
    assert done.code == 2
    assert "neither an experiment of this sweep nor a run" in done.err
    assert "goes round in a circle" in lx("run", "circle").err
    assert not (here / "runs").exists()


def test_a_cause_that_cannot_be_retried_is_refused(here, lx):
    done = lx("run", "base", "retries={oomm: 1}")
    assert done.code == 2
    assert "Did you mean 'oom'?" in done.err


def test_a_paused_sweep_starts_nothing_until_it_is_resumed_and_why_says_so(here, lx):
    process = subprocess.Popen([*LX, "run", "waits", "-j", "1"], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: (here / "runs").exists() and "RUNNING" in statuses(lx))
        second = ids(lx)[1]
        wait_for(lambda: "a slot (1 of 1 in use, -j 1)" in lx("why", second).out)
        assert "waits for a slot (1 of 1 in use, -j 1)" in lx("ls").out
        assert lx("pause").code == 0
        assert "end of the pause" in lx("why", second).out
        (here / "go").touch()
        wait_for(lambda: statuses(lx) == ["SUCCEEDED", "QUEUED"])
        time.sleep(0.5)
        assert statuses(lx) == ["SUCCEEDED", "QUEUED"]
        assert "goes on" in lx("resume").out
        assert process.wait(20) == 0
        assert statuses(lx) == ["SUCCEEDED"] * 2
    finally:
        process.kill()
        process.wait()


def test_two_sweeps_share_the_machine_and_why_names_who_holds_it(here, lx):
    cpus = len(os.sched_getaffinity(0))
    process = subprocess.Popen([*LX, "run", "waits", "-j", "1", f"resources.cpus={cpus}"], stdout=subprocess.DEVNULL)
    second = None
    try:
        wait_for(lambda: (here / "runs").exists() and "RUNNING" in statuses(lx))
        holder = ids(lx)[0]
        second = subprocess.Popen([*LX, "run", "base"], stdout=subprocess.DEVNULL)
        wait_for(lambda: len(ids(lx)) == 3)
        waiting = next(run["id"] for run in lx("ls", "--json").json if run["experiment"] == "demo")
        wait_for(lambda: f"in use by {holder[14:]} of" in lx("why", waiting).out)
        (here / "go").touch()
        assert second.wait(20) == 0
        assert process.wait(20) == 0
        assert statuses(lx) == ["SUCCEEDED"] * 3
    finally:
        for each in (process, second):
            if each:
                each.kill()
                each.wait()


def test_a_retry_joins_a_sweep_that_is_at_work(here, lx):
    process = subprocess.Popen(
        [*LX, "run", "waits", "-j", "2", "command=sh -c 'test {{ hp.code }} = 1 || test -e mended || exit 1; "
         "while [ {{ hp.code }} = 1 -a ! -e go ]; do sleep 0.05; done'"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: (here / "runs").exists() and statuses(lx) == ["FAILED", "RUNNING"])
        (here / "mended").touch()
        done = lx("retry", ids(lx)[0])
        assert "queued again" in done.out
        wait_for(lambda: statuses(lx) == ["SUCCEEDED", "RUNNING"])
        (here / "go").touch()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


GRACEFUL = """import os, signal, sys, time
def save(*_):
    time.sleep(0.5)
    open("saved", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
open("began", "w").close()
time.sleep(60)
"""


@pytest.fixture
def graceful(here):
    """A training that saves before it ends."""
    (here / "lxconfig.py").write_text(f"{CONFIG}\nsaves = Experiment(name='saves', command=['python', 'saves.py'], hp=HP(), resources=Resources(cpus=0.1))")  # fmt: skip
    (here / "saves.py").write_text(GRACEFUL)
    return here


@pytest.mark.parametrize("command", [[*LX, "run", "saves"], ["sh", "-c", f"{shlex.join(LX)} run saves; true"]])
def test_a_terminal_that_is_closed_ends_runs_within_their_grace(graceful, lx, command):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    wait_for((graceful / "began").exists, 30)
    os.close(terminal)
    wait_for(lambda: statuses(lx) == ["CANCELLED"])
    assert (graceful / "saved").exists()
    assert lx("ls", "--json").json[0]["reason"] == "the terminal was closed"
    os.waitpid(pid, 0)


def test_output_that_nobody_reads_is_no_reason_to_end_a_run(graceful, lx):
    run = subprocess.Popen([*LX, "run", "saves"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for((graceful / "began").exists, 30)
    run.stdout.close()  # as of `| tee`, which Ctrl-C ends first
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(30) == 130
    assert statuses(lx) == ["CANCELLED"]
    assert (graceful / "saved").exists()


@pytest.mark.parametrize("where", [">/dev/full 2>&1", ">&- 2>&-", "| true"])
def test_output_that_goes_nowhere_changes_nothing(here, lx, where):
    (here / "mended").touch()
    done = subprocess.run(f"{shlex.join(LX)} run some -j 2 {where}", check=False, shell=True, timeout=60, capture_output=True, text=True)  # fmt: skip
    assert done.stderr == ""
    assert statuses(lx) == ["SUCCEEDED"] * 5
    subprocess.run(f"{shlex.join(LX)} run some -j 2 {where}", check=False, shell=True, timeout=60)  # which says more
    assert statuses(lx) == ["SUCCEEDED"] * 10


def test_a_run_that_was_lost_with_all_that_watched_it_is_retried(graceful, lx):
    run = subprocess.Popen([*LX, "run", "saves"], stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for((graceful / "began").exists, 30)
    event = wait_for(lambda: [e for e in map(json.loads, next(graceful.glob("runs/saves/*/events.jsonl")).read_text().splitlines()) if e["state"] == "RUNNING"])[0]  # fmt: skip
    os.kill(run.pid, signal.SIGSTOP)  # the keeper, so that it starts no other
    for child in map(int, Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()):
        os.kill(child, signal.SIGKILL)
    os.kill(run.pid, signal.SIGKILL)
    os.kill(event["process"]["pid"], signal.SIGKILL)
    run.wait()
    wait_for(lambda: statuses(lx) == ["LOST"])
    (graceful / "saves.py").write_text("")
    assert lx("retry", ids(lx)[0]).code == 0
    assert statuses(lx) == ["SUCCEEDED"]


def test_a_stop_that_takes_long_says_what_it_waits_for(graceful, lx, monkeypatch):
    monkeypatch.setattr("lightex.cli.stop._QUIET", 0.2)
    subprocess.run([*LX, "run", "saves", "grace=20s", "--detach"], check=True, stdout=subprocess.DEVNULL)
    wait_for((graceful / "began").exists, 30)
    assert "waiting for the end of 1 run, 20 s at most" in lx("stop", ids(lx)[0]).err
    assert (graceful / "saved").exists()


def test_a_folder_that_is_not_there_is_no_empty_one(here, lx):
    assert lx("ls").out.endswith("yet. Start some with: lx run NAME\n")
    assert lx("--root", "typo", "ls").out == f"no runs: there is no folder {here / 'typo'}\n"


def test_a_run_that_lost_its_events_hinders_nothing_and_runs_when_it_is_taken_up_again(here, lx):
    (here / "mended").touch()
    lx("run", "some")
    run = ids(lx)[2]
    next(here.glob(f"runs/demo/{run}/events.jsonl")).write_bytes(b"")
    sweep = run.split("-")[2]
    assert statuses(lx).count("QUEUED") == 1
    assert f"lx resume {sweep}" in lx("why", run).out
    assert "nothing is at work" in lx("priority", "3", sweep).err
    assert lx("resume", sweep).code == 0
    assert statuses(lx) == ["SUCCEEDED"] * 5
    next(here.glob(f"runs/demo/{run}/events.jsonl")).write_bytes(b"")
    assert lx("stop", sweep).code == 0
