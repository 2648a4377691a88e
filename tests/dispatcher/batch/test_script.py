"""The scripts that Slurm runs: what they hold, and what they do in bash."""

import os
import shlex
import signal
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.liveness import birth_mark
from lightex.core.taxonomy import Container, Resources
from lightex.dispatcher.engines.batch import notes, request, script
from tests.helpers import wait_for


def test_it_notes_where_it_began_and_how_it_ended(job, bash):
    one = job(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert bash(one).wait() == 3
    assert one.run.output_file.read_text() == "out\nerr\n"
    found = notes.read(one.run, 1, "lx-abcd-1/7")
    assert (found.job, found.host, found.exit_code, found.launch, found.warned) == ("9_7", "c1", 3, False, None)
    assert 0 < found.duration < 5
    assert 0 <= found.cpu_seconds < 5


def test_notes_of_another_submission_are_none_of_ours(job, bash):
    one = job()
    bash(one).wait()
    assert notes.read(one.run, 1, "lx-abcd-2/7") is None
    assert notes.read(one.run, 2, "lx-abcd-1/7") is None


def test_a_script_that_was_submitted_anew_does_nothing_for_the_former_job(job, bash):
    one = job(["touch", "began"])
    process = bash(one, SLURM_JOB_NAME="lx-abcd-0")
    assert process.wait() == 0
    assert not (one.cwd / "began").exists()
    assert script.place_in(one.run, 1) == "lx-abcd-1/7"


@pytest.mark.parametrize(("number", "words"), [(signal.SIGTERM, "saved TERM"), (signal.SIGUSR1, "saved USR1")])
def test_signals_are_passed_on_and_its_end_is_waited_for(job, bash, number, words):
    line = "trap 'echo saved TERM; exit 0' TERM; trap 'echo saved USR1; exit 75' USR1; touch began; while :; do sleep 0.05; done"
    one = job(["/bin/sh", "-c", line], options={"signal": "USR1@5m"})
    process = bash(one)
    wait_for((one.cwd / "began").exists)
    process.send_signal(number)
    code = process.wait(10)
    assert words in one.run.output_file.read_text()
    found = notes.read(one.run, 1, "lx-abcd-1/7")
    assert (code, found.exit_code, found.warned) == ((0, 0, None) if number == signal.SIGTERM else (75, 75, "USR1"))


def test_a_warning_is_for_the_command_alone_and_not_for_what_it_has_started(job, bash):
    line = "trap 'exit 75' USR1; (sleep 100; echo killed) & touch began; while :; do sleep 0.05 & wait $!; done"
    one = job(["/bin/bash", "-c", line], options={"signal": "USR1@5m"})
    process = bash(one)
    wait_for((one.cwd / "began").exists)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 75
    assert "killed" not in one.run.output_file.read_text()  # nor "User defined signal 1"


def test_what_a_command_leaves_behind_is_ended(job, bash):
    one = job(["/bin/sh", "-c", "sleep 300 & echo $! >pid"])
    bash(one).wait()
    pid = int((one.cwd / "pid").read_text())
    wait_for(lambda: birth_mark(pid) is None)


def test_a_folder_that_a_node_does_not_see_is_told_by_the_exit_code(job, monkeypatch, tmp_path):
    one = job()
    script.write(one, "lx-abcd-1/0")
    text, array = script.of_array("lx-abcd-1", (), None, [(0, one)])
    assert array == "0"
    script.path_of(one.run, 1).unlink()
    quick = text.replace("sleep 1", "sleep 0.01")
    done = subprocess.run(["bash"], input=quick.encode(), env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, check=False)
    assert done.returncode == script.NOT_SEEN


def test_an_array_runs_the_script_of_each(job, tmp_path):
    one = job(["/bin/sh", "-c", "echo $SLURM_ARRAY_TASK_ID"])
    script.write(one, "lx-abcd-1/5")
    text, array = script.of_array("lx-abcd-1", ("--mem=3M",), 2, [(4, one), (5, one)])
    assert array == "4-5%2"
    assert "#SBATCH --array=4-5%2\n#SBATCH --mem=3M\n" in text
    env = {**os.environ, "SLURM_ARRAY_TASK_ID": "5", "SLURM_JOB_NAME": "lx-abcd-1", "SLURM_JOB_ID": "3"}
    subprocess.run(["bash"], input=os.fsencode(text), env=env, check=True)
    assert one.run.output_file.read_text() == "5\n"


def test_apptainer_runs_the_command_in_the_image_and_sees_what_it_needs(job, bash, tmp_path, monkeypatch):
    shim = tmp_path / "bin" / "apptainer"
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shim.chmod(0o755)
    container = Container("pytorch/pytorch:2.9", mounts={"data": "/data:ro"})
    options = {"runtime": "apptainer", "runtime_options": ["--no-home"]}
    one = job(["python3", "train.py"], container=container, options=options, resources=Resources(gpus=1))
    assert bash(one, PATH=f"{shim.parent}:{os.environ['PATH']}").wait() == 0
    folder = str(one.cwd)
    assert one.run.output_file.read_text().splitlines() == [
        "exec", "--bind", f"{folder}:{folder}", "--bind", f"{folder}/data:/data:ro", "--pwd", folder, "--nv", "--no-home",
        "docker://pytorch/pytorch:2.9", "python3", "train.py",
    ]  # fmt: skip
    local = replace(one, options={**options, "image": "/shared/torch.sif"})
    assert "/shared/torch.sif python3 train.py" in script.of_job(local, None)


def test_pyxis_is_asked_by_srun(job):
    one = job(
        container=Container("torch:2.9"), options={"runtime": "pyxis", "image": "/shared/torch.sqsh", "srun": ["-v"]}
    )
    text = script.of_job(one, None)
    line = next(line for line in text.splitlines() if line.startswith("srun=("))
    words = shlex.split(line.removeprefix("srun=(").removesuffix(")"))
    folder = str(one.cwd)
    assert words == ["--container-image=/shared/torch.sqsh", f"--container-mounts={folder}:{folder}",
                     f"--container-workdir={folder}", "-v"]  # fmt: skip
    assert "several=1" in text


@given(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_an_option_is_one_word_of_a_line(value):
    """sbatch reads quotes and backslashes as a shell does, in the values that it is given here."""
    line = request.lines((f"--comment={value}",)).removeprefix("#SBATCH ").removesuffix("\n")
    assert "\n" not in line
    if not set(value) & set("$`!*?[]{}()<>|&;~"):
        assert shlex.split(line.replace("#", "\\#") if '"' not in line else line) == [f"--comment={value}"]
