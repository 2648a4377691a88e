"""What runs beside an experiment on a node: as real processes, with a real FIFO and a real service."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lightex.core.errors import StorageError
from lightex.core.rundir import RunDir
from lightex.storage import node as module
from lightex.storage import worktree
from lightex.storage.mirror import Mirror, everyones, name_of, users
from lightex.storage.node import Node, main
from tests.helpers import wait_for
from tests.services import free_port

pytestmark = pytest.mark.s3


class Pod:
    """A run of the user's, and the folders of a pod that shares no disk with it."""

    def __init__(self, run, folder, s3, **more):
        self.run, self.folder, self.remote = run, folder, s3.at("remote")
        self.mirror = Mirror(self.remote, name_of(run.path))
        self.there = folder / "run"
        self.told = {
            "remote": {"url": f"s3://{s3.bucket}/remote", "endpoint": s3.endpoint}, "name": name_of(run.path),
            "run": str(self.there), "attempt": 1, "rank_from": "JOB_COMPLETION_INDEX", "alive": str(folder / "lx" / "alive"),
            "every": 0.05, "patience": 5, "termination": str(folder / "termination"), **more,
        }  # fmt: skip
        folder.mkdir()
        (folder / "termination").touch()

    def start(self, step, **environment):
        words = [sys.executable, "-m", "lightex.storage.node", step]
        env = {**os.environ, "LX_NODE": json.dumps(self.told), **environment}
        return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stage(self, **environment):
        with self.start("stage", **environment) as process:
            out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        return out

    def command(self, script, output="output.log"):
        """The command, as the wrapper of its container starts it."""
        shell = 'exec 9>"$0"; exec sh -c "$1" >>"$2" 2>&1'
        return subprocess.Popen(
            ["sh", "-c", shell, self.told["alive"], script, str(self.there / output)], cwd=self.there
        )

    def pull(self):
        return self.mirror.pull(self.run.path, users)

    def output(self):
        self.pull()
        return self.run.output_file.read_text() if self.run.output_file.exists() else ""


@pytest.fixture
def pod(run_dir, tmp_path, s3):
    made = Pod(run_dir, tmp_path / "pod", s3)
    made.mirror.push(run_dir.path, users)
    return made


def end(process, code=0):
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    return out, err


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SigCgt")), 16) >> (number - 1) & 1


def test_a_run_from_its_begin_to_its_end(pod, s3, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("x")
    packed = worktree.pack(project, tmp_path / "packed", 1000)
    worktree.send(pod.remote, packed)
    before = RunDir.create(tmp_path / "runs/demo/before", {"id": "before"}, {}, {"state": "SUCCEEDED"})
    (before.path / "artifacts").mkdir()
    (before.artifacts / "model").write_text("m")
    Mirror(pod.remote, "runs/before").push(before.path, everyones)
    s3.put("data/a", b"data")
    s3.put("data/sub/b", b"data")
    pod.told |= {
        "code": packed.digest, "project": str(pod.folder / "project"),
        "upstream": [{"name": "runs/before", "path": str(pod.folder / "before")}],
        "dirs": [{"name": "data", "url": f"s3://{s3.bucket}/data", "endpoint": s3.endpoint, "path": str(pod.folder / "data")},
                 {"name": "out", "url": f"s3://{s3.bucket}/out", "endpoint": s3.endpoint, "path": str(pod.folder / "out"),
                  "write": True}],
    }  # fmt: skip
    out = pod.stage()
    assert [line.split(":")[0] for line in out.splitlines()] == [pod.told["name"], "runs/before",
                                                                 f"code {packed.digest[:12]}", "data", "out"]  # fmt: skip
    assert (pod.folder / "project/train.py").read_text() == "x"
    assert (pod.folder / "before/artifacts/model").read_text() == "m"
    assert (pod.folder / "data/sub/b").read_bytes() == b"data"
    assert pod.there.stat().st_mode & 0o777 == 0o777
    assert (pod.there / "output.log").stat().st_mode & 0o777 == 0o666
    back = pod.start("return")
    command = pod.command(
        'echo begun; while [ ! -e ../go ]; do sleep 0.02; done; mkdir artifacts; echo m >artifacts/m; cat ../data/a >../out/x; echo "ended"'
    )
    wait_for(lambda: pod.output() == "begun\n")
    assert pod.pull() == frozenset()
    (pod.folder / "go").touch()
    assert command.wait(10) == 0
    end(back)
    assert pod.pull() == {(0, 1)}
    assert pod.mirror.missing(pod.run.path, 1, 1) == []
    assert pod.output() == "begun\nended\n"
    assert (pod.run.artifacts / "m").read_text() == "m\n"
    assert s3.read("out/x") == b"data"
    assert s3.keys("data") == ["data/a", "data/sub/b"]


def test_it_waits_for_children_and_for_a_command_that_has_not_begun(pod):
    pod.stage()
    back = pod.start("return")
    command = pod.command('(while [ ! -e ../go ]; do sleep 0.02; done; echo late) & echo early; kill -9 "$$"')
    assert command.wait(10) == -signal.SIGKILL
    wait_for(lambda: pod.output() == "early\n")
    assert back.poll() is None
    (pod.folder / "go").touch()
    end(back)
    assert pod.output() == "early\nlate\n"
    assert pod.pull() == {(0, 1)}


def test_a_very_short_command_is_seen(pod):
    pod.stage()
    command = pod.command("echo x")
    time.sleep(0.05)
    assert command.poll() is None  # it does not begin before somebody listens
    end(pod.start("return"))
    assert command.wait(10) == 0
    assert pod.output() == "x\n"


def test_sigterm_does_not_end_it_while_the_command_lives(pod):
    pod.stage()
    back = pod.start("return")
    command = pod.command("trap 'while [ ! -e ../go ]; do sleep 0.02; done; echo saved; exit 3' TERM; echo begun; "
                          "while :; do sleep 0.02; done")  # fmt: skip
    wait_for(lambda: pod.output() == "begun\n")
    for process in (command, back):
        process.terminate()
    (pod.folder / "go").touch()
    assert command.wait(10) == 3
    end(back)
    assert pod.output() == "begun\nsaved\n"
    assert pod.mirror.missing(pod.run.path, 1, 1) == []


def test_sigterm_ends_it_where_the_command_never_began(pod, monkeypatch):
    pod.stage()
    back = pod.start("return")
    wait_for(lambda: catches(back.pid, signal.SIGTERM))
    back.terminate()
    end(back)
    assert pod.pull() == {(0, 1)}


def test_started_again_it_goes_on_or_ends(pod):
    pod.stage()
    back = pod.start("return")
    command = pod.command("echo one; while [ ! -e ../go ]; do sleep 0.02; done; echo two")
    wait_for(lambda: pod.output() == "one\n")
    back.kill()
    end(back, -signal.SIGKILL)
    back = pod.start("return")
    wait_for((pod.folder / "lx" / ".alive.seen").exists)
    back.kill()
    end(back, -signal.SIGKILL)
    (pod.folder / "go").touch()
    command.wait(10)  # nobody sees it end
    end(pod.start("return"))
    assert pod.output() == "one\ntwo\n"
    assert pod.mirror.missing(pod.run.path, 1, 1) == []


def test_a_further_attempt_on_a_fresh_node(pod, tmp_path, s3):
    pod.stage()
    back = pod.start("return")
    pod.command("echo first").wait(10)
    end(back)
    again = Pod(pod.run, tmp_path / "again", s3, attempt=2)
    again.stage()
    again.stage()  # as when the pod's sandbox was made anew
    assert (again.there / "output.log").read_text() == "first\n--- attempt 2 ---\n"
    back = again.start("return")
    again.command("echo second").wait(10)
    end(back)
    assert pod.pull() == {(0, 1), (0, 2)}
    assert pod.mirror.missing(pod.run.path, 1, 2) == []
    assert pod.output() == "first\n--- attempt 2 ---\nsecond\n"


def test_two_nodes_each_send_what_they_have_made(pod, tmp_path, s3):
    (pod.run.path / "artifacts").mkdir()
    (pod.run.path / "artifacts/old").write_text("old")
    Mirror(pod.remote, pod.told["name"]).push(pod.run.path, everyones)  # of a former attempt
    pods = [pod, Pod(pod.run, tmp_path / "second", s3)]
    ends = []
    for rank, each in enumerate(pods):
        each.told |= {"nodes": 2, "attempt": 2}
        environment = {"JOB_COMPLETION_INDEX": str(rank)}
        each.stage(**environment)
        output = f"output.{rank}.log" if rank else "output.log"
        assert (each.there / output).read_text() == "--- attempt 2 ---\n"
        ends.append(each.start("return", **environment))
        command = each.command(
            f"echo {rank}; echo {rank} >artifacts/{rank}; [ {rank} = 0 ] || echo new >artifacts/old", output
        )
        assert command.wait(10) == 0
    for process in ends:
        end(process)
    assert pod.pull() == {(0, 2), (1, 2)}
    assert pod.mirror.missing(pod.run.path, 2, 2) == []
    assert (pod.run.path / "output.1.log").read_text() == "--- attempt 2 ---\n1\n"
    assert {path.name: path.read_text() for path in pod.run.artifacts.iterdir()} == {
        "0": "0\n",
        "1": "1\n",
        "old": "new\n",
    }


def test_on_a_shared_disk_only_folders_are_brought_and_sent(run_dir, tmp_path, s3):
    pod = Pod(run_dir, tmp_path / "pod", s3)
    out = {
        "name": "out",
        "url": f"s3://{s3.bucket}/out",
        "endpoint": s3.endpoint,
        "path": str(pod.folder / "out"),
        "write": True,
    }
    pod.there = run_dir.path
    pod.told |= {"remote": None, "run": str(run_dir.path), "dirs": [out]}
    pod.stage()
    back = pod.start("return")
    assert pod.command(f"echo x; echo y >'{pod.folder}/out/y'").wait(10) == 0
    end(back)
    assert s3.keys() == ["out/y"]
    assert run_dir.output_file.read_text() == "x\n"


class Gate:
    """A way to the service that can be closed."""

    def __init__(self, endpoint):
        self.target = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.listener, self.pairs = None, []

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()

    def _serve(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for each in self.pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.pairs.clear()


@pytest.fixture
def gate(s3):
    made = Gate(s3.endpoint)
    made.open()
    yield made
    made.close()


def test_a_store_that_goes_away_is_waited_for(pod, gate):
    pod.told["remote"]["endpoint"] = gate.url
    pod.told["patience"] = 30
    pod.stage()
    back = pod.start("return")
    command = pod.command("echo one; while [ ! -e ../go ]; do sleep 0.02; done; echo two")
    wait_for(lambda: pod.output() == "one\n")
    gate.close()
    (pod.folder / "go").touch()
    assert command.wait(10) == 0
    assert "tries again" in next(line for line in back.stdout if "tries again" in line)
    gate.open()
    end(back)
    assert pod.output() == "one\ntwo\n"
    assert pod.mirror.missing(pod.run.path, 1, 1) == []


def test_a_store_that_stays_away_is_given_up_in_words(pod, s3):
    pod.told["remote"]["endpoint"] = f"http://127.0.0.1:{free_port()}"
    pod.told["patience"] = 0
    _, err = end(pod.start("stage"), 1)
    assert err.startswith("lightex stage: s3://")
    assert "this was tried for 0.0 s" in err
    assert "Traceback" not in err
    assert (pod.folder / "termination").read_text() in err


def test_what_cannot_be_had_is_said(pod, s3, monkeypatch, capsys):
    def fails(text, step="stage"):
        monkeypatch.setenv("LX_NODE", text)
        assert main([step]) == 1
        return capsys.readouterr().err

    umask = os.umask(0o22)
    try:
        assert "not a step: nonsense" in fails("", "nonsense")
        assert "LX_NODE is not understood" in fails("")
        assert "LX_NODE is not understood" in fails("[]")
        assert "LX_NODE is not understood: Node.__init__() missing 1" in fails('{"alive": "x"}')
        assert "unexpected keyword argument 'typo'" in fails('{"run": "x", "alive": "x", "typo": 1}')
        assert "there is no such run" in fails(json.dumps(pod.told | {"name": "runs/nosuch"}))
        assert "no such object" in fails(json.dumps(pod.told | {"code": "0" * 64, "project": str(pod.folder / "p")}))
        nowhere = {"name": "data", "url": "s3://nosuch/x", "endpoint": s3.endpoint, "path": str(pod.folder / "d")}
        assert "there is no bucket 'nosuch'" in fails(json.dumps(pod.told | {"dirs": [nowhere]}))
        assert "there is no bucket 'nosuch'" in (pod.folder / "termination").read_text()
        s3.put(f"remote/{pod.told['name']}/files/artifacts/x", b"x")
        s3.client.put_object(
            Bucket=s3.bucket, Key=f"remote/{pod.told['name']}/files/x", Body=b"x", Metadata={"lx-sha256": "0"}
        )
        assert "is damaged" in fails(json.dumps(pod.told))
        assert "No such file or directory" in fails(
            json.dumps(pod.told | {"alive": str(pod.folder / "none/alive")}), "return"
        )
    finally:
        os.umask(umask)


def test_a_folder_that_cannot_be_sent_does_not_hold_up_the_run(pod, s3, monkeypatch):
    (pod.folder / "out").mkdir()
    nowhere = {
        "name": "out",
        "url": "s3://nosuch/x",
        "endpoint": s3.endpoint,
        "path": str(pod.folder / "out"),
        "write": True,
    }
    pod.stage()
    (pod.folder / "out/x").write_text("x")
    pod.told["dirs"] = [nowhere]
    back = pod.start("return")
    assert pod.command("echo x").wait(10) == 0
    _, err = end(back, 1)
    assert "there is no bucket 'nosuch'" in err
    assert pod.pull() == {(0, 1)}
    assert pod.output() == "x\n"


def test_the_number_of_a_node(monkeypatch):
    node = Node.of('{"run": "/r", "alive": "/a/alive", "rank_from": "MINE", "project": null}')
    assert (node.rank, node.project, node.beside("x")) == (0, None, Path("/a/.alive.x"))
    monkeypatch.setenv("MINE", "3")
    assert node.rank == 3


def test_pauses_grow(monkeypatch):
    slept, now = [], [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        module.time, "sleep", lambda seconds: (slept.append(seconds), now.__setitem__(0, now[0] + seconds))
    )

    def away():
        raise module.AwayError("away")

    with pytest.raises(StorageError, match="away") as caught:
        module._patiently(Node(Path("/r"), Path("/a"), patience=100), away)
    assert slept == [1, 2, 4, 8, 16, 30, 30]
    assert "this was tried for 01:40" in str(caught.value)
