"""The script that runs a command in a pod, with the shells that images have."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lightex.dispatcher.engines.cluster import manifest
from tests.helpers import wait_for

SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


class Wrapped:
    """A command in the wrapper, as a process of this machine or as the first one of a process namespace of its own."""

    def __init__(self, shell, folder, first):
        self.words = [shell, *(["sh"] if shell == "busybox" else [])]
        self.folder, self.first = folder, first
        self.output = folder / "output.log"

    def start(self, command, alive="", grace="", env=None):
        words = [*self.words, "-c", manifest._script(), "lx", str(self.output), alive, grace, *command]
        if self.first:
            words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *words]
        given = {**os.environ, "TMPDIR": str(self.folder), **(env or {})}
        return subprocess.Popen(words, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder)

    def run(self, *command, **options):
        process = self.start(command, **options)
        said, _ = process.communicate(timeout=20)
        return process.returncode, said

    def terminate(self, process):
        inside = process.pid
        if self.first:
            inside = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(inside, signal.SIGTERM)


@pytest.fixture(params=[(shell, first) for shell in SHELLS for first in (False, True)], ids=str)
def wrapped(request, tmp_path):
    shell, first = request.param
    if first and (os.geteuid() != 0 or not shutil.which("unshare")):
        pytest.skip("needs root and unshare for a process namespace")
    return Wrapped(shell, tmp_path, first)


def test_output_goes_to_the_file_and_to_the_log(wrapped):
    code, said = wrapped.run("sh", "-c", "echo out; echo err >&2; printf '\\377\\000x'; exit 3")
    assert code == 3
    assert wrapped.output.read_bytes() == said == b"out\nerr\n\xff\x00x"
    assert [path.name for path in wrapped.folder.iterdir()] == ["output.log"]


def test_without_tee_the_file_has_it(wrapped, monkeypatch):
    programs = wrapped.folder / "bin"
    programs.mkdir()
    for name in ("sh", "echo", "cat", "sed", "sleep", "rm", "unshare", "dash", "bash", "busybox"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    if wrapped.words[0] == "busybox":
        pytest.skip("busybox has its own tee")
    code, said = wrapped.run("sh", "-c", "echo out", env={"PATH": str(programs)})
    assert (code, said, wrapped.output.read_text()) == (0, b"", "out\n")


def test_arguments_arrive_as_they_are(wrapped):
    words = ["a b", "", "$HOME", "`x`", "*", "two\nlines"]
    wrapped.run("sh", "-c", 'printf "<%s>" "$@"', "sh", *words)
    assert wrapped.output.read_text() == "".join(f"<{word}>" for word in words)


def test_a_missing_command_says_so(wrapped):
    code, _ = wrapped.run("no-such-program")
    assert code == 127
    assert wrapped.output.read_text() == "lx: command not found: no-such-program\n"


def test_a_signal_is_told_as_shells_do(wrapped):
    assert wrapped.run("sh", "-c", "kill -9 $$")[0] == 137


def test_a_signal_goes_on_to_the_command_which_ends_by_itself(wrapped):
    process = wrapped.start(["sh", "-c", "trap 'echo saved; exit 5' TERM; touch began; while :; do sleep 0.05; done"])
    wait_for((wrapped.folder / "began").exists)
    wrapped.terminate(process)
    process.communicate(timeout=20)
    assert process.returncode == 5
    assert "saved\n" in wrapped.output.read_text()


def test_one_that_will_not_end_is_killed_after_its_grace(wrapped):
    process = wrapped.start(["sh", "-c", "trap '' TERM; touch began; while :; do sleep 0.05; done"], grace="1")
    wait_for((wrapped.folder / "began").exists)
    began = time.monotonic()
    wrapped.terminate(process)
    process.communicate(timeout=20)
    assert process.returncode == 137
    assert time.monotonic() - began > 0.9


def test_what_a_command_leaves_behind_does_not_hold_up_its_end(wrapped):
    if not wrapped.first:
        pytest.skip("only in a container is all of it ended")
    began = time.monotonic()
    code, _ = wrapped.run("sh", "-c", "sleep 60 & echo left")
    assert code == 0
    assert time.monotonic() - began < 4


def test_the_pipe_is_held_open_by_all_that_lives_of_the_command(wrapped):
    alive = wrapped.folder / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    process = wrapped.start(["sh", "-c", "sleep 0.3; echo done"], alive=str(alive))
    assert os.read(reader, 1) == b"" or process.wait(20) is not None
    process.communicate(timeout=20)
    os.close(reader)
    assert wrapped.output.read_text() == "done\n"


def test_each_of_several_nodes_has_its_rank_and_its_file(wrapped):
    code, _ = wrapped.run("sh", "-c", "echo $NODE_RANK $RANK", env={"JOB_COMPLETION_INDEX": "2"})
    assert code == 0
    assert (wrapped.folder / "output.2.log").read_text() == "2 2\n"
    assert not wrapped.output.exists()
