"""The docker engine, against a real daemon."""

import http.server
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lightex.core.errors import ConfigError
from lightex.core.rundir import ENDED, FAILED, LOST, RUNNING, SUBMITTED, SUCCEEDED
from lightex.core.taxonomy import Container, Experiment, Resources, Storage
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.containers import call
from lightex.dispatcher.engines.containers.daemon import connect
from lightex.dispatcher.engines.docker import DockerEngine
from lightex.dispatcher.engines.strays import marks, processes_of
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.helpers import wait_for
from tests.services import docker as services
from tests.services.docker import BASE

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker")]

EATS = "kept = []\nfor n in range(400): kept.append(bytearray(1 << 20))\nprint('fed')"


class TestDockerEngine(EngineContract):
    options = {"container": Container(BASE)}

    @pytest.fixture
    def make_engine(self):
        return DockerEngine

    def output(self, engine, job):
        handle, _ = engine.submit(job, [])
        end = self.ends(engine, handle)[handle]
        text = job.run.output_file.read_text()
        assert end.state == SUCCEEDED, (end, text)
        return text.split("\n")

    def test_more_memory_than_it_said_is_killed_and_told_so(self, engine, job):
        end = self.certificate(engine, job(["python3", "-c", EATS], resources=Resources(memory="64MiB")))
        assert (end["state"], end["cause"], end["signal"]) == ("FAILED", "oom", 9)
        assert end["reason"] == "out of memory: killed by its memory limit of 64 MiB (container)"

    def test_memory_that_a_child_takes_counts_too(self, engine, job):
        one = job(["sh", "-c", 'python3 -c "$0"; exit 3', EATS], resources=Resources(memory="64MiB"))
        end = self.certificate(engine, one)
        assert (end["cause"], end["exit_code"]) == ("oom", 3)

    def test_what_it_used_is_told(self, engine, job):
        spin = (
            "import time; kept = bytearray(100 << 20); end = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass"
        )
        end = self.certificate(engine, job(["python3", "-c", spin], resources=Resources(cpus=1, memory="300MiB")))
        assert 100 << 20 < end["peak_memory"] < 300 << 20
        assert 0.5 < end["cpu_seconds"] < 3.5

    def test_what_it_uses_is_told_while_it_runs(self, engine, job):
        spin = "import time; kept = bytearray(100 << 20)\nwhile True: pass"
        one = job(["sh", "-c", 'python3 -c "$0" & wait', spin], container=Container(BASE, network="bridge"))
        handle, _ = engine.submit(one, [])
        try:
            wait_for(lambda: engine.poll([handle], 0.1).get(handle, JobState(SUBMITTED)).state == RUNNING)
            used = wait_for(lambda: (u := engine.usage([handle]).get(handle)) and u.memory > 100 << 20 and u)
            wait_for(lambda: engine.usage([handle])[handle].cpu_seconds > used.cpu_seconds)
            assert used.received is not None  # a network of its own
        finally:
            engine.cancel(handle, force=True)
            self.ends(engine, handle)
        assert engine.usage([handle]) == {}

    def test_what_it_writes_is_the_callers_and_home_can_be_written(self, engine, job, monkeypatch):
        monkeypatch.setattr(os, "getuid", lambda: 1234)
        monkeypatch.setattr(os, "getgid", lambda: 2345)
        monkeypatch.setattr(os, "getgroups", lambda: [2345, 3456])
        one = job("id -u; id -G; touch mine $HOME/x && echo $HOME; date > $LX_RUN_DIR/records.jsonl")
        for place in (one.cwd, one.run.path):
            os.chown(place, 1234, 2345)
        one.run.output_file.touch()
        os.chown(one.run.output_file, 1234, 2345)
        lines = self.output(engine, one)
        assert lines[:3] == ["1234", "2345 3456", "/tmp"]
        for path in (one.cwd / "mine", one.run.records_file()):
            assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)

    def test_shared_memory_is_half_of_the_memory_or_what_was_said(self, engine, job):
        size = ["python3", "-c", "import os; s = os.statvfs('/dev/shm'); print(s.f_blocks * s.f_frsize)"]
        assert self.output(engine, job(size, 0, resources=Resources(memory="256MiB")))[0] == str(128 << 20)
        assert self.output(engine, job(size, 1, resources=Resources(shared_memory="8MiB")))[0] == str(8 << 20)

    def test_cpus_are_bounded(self, engine, job):
        spin = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
        used = float(self.output(engine, job(["python3", "-c", spin], resources=Resources(cpus=0.2)))[0])
        assert used < 0.6

    def test_gpus_are_asked_for_by_their_names(self, job):
        made = call.make_call(job("true"), BASE, ["0", "GPU-b"])
        container = connect().create_container(**call.creation(made))["Id"]
        try:
            found = connect().inspect_container(container)
        finally:
            connect().remove_container(container)
        requests = found["HostConfig"]["DeviceRequests"]
        assert [(each["DeviceIDs"], each["Capabilities"]) for each in requests] == [(["0", "GPU-b"], [["gpu"]])]
        assert not any(text.startswith(("CUDA_VISIBLE_DEVICES", "NVIDIA_")) for text in found["Config"]["Env"])

    def test_without_gpus_none_is_seen(self, engine, job):
        lines = self.output(engine, job('echo "$CUDA_VISIBLE_DEVICES|$NVIDIA_VISIBLE_DEVICES"'))
        assert lines[0] == "|void"

    def test_a_server_on_this_machine_is_reached_by_the_environment_of_its_logger(self, engine, job, monkeypatch):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NOT_ASKED_FOR", "secret")
        asks = "import os, urllib.request as u; print(u.urlopen(os.environ['MLFLOW_TRACKING_URI']).status, len(os.environ))"
        try:
            one = job(["python3", "-c", asks + "; print('NOT_ASKED_FOR' in os.environ)"], inherit=("MLFLOW_*",))
            lines = self.output(engine, one)
        finally:
            server.shutdown()
            server.server_close()
        assert lines[0].startswith("200 ")
        assert lines[1] == "False"

    def test_options_arrive(self, engine, job):
        options = {"ulimit": ["nofile=77:78"], "tmpfs": ["/scratch:size=1m"], "hostname": "inside", "cap-drop": ["ALL"]}
        one = job("ulimit -n; hostname; grep scratch /proc/mounts; grep CapBnd /proc/self/status",
                  container=Container(BASE, network="none", options=options))  # fmt: skip
        lines = self.output(engine, one)
        assert lines[:2] == ["77", "inside"]
        assert "size=1024k" in lines[2]
        assert lines[3].endswith("0000000000000000")

    def test_folders_are_mounted_where_they_are(self, engine, job, tmp_path):
        data, extra, linked = tmp_path / "da ta", tmp_path / 'a"b,c', tmp_path / "linked"
        for folder in (data, extra):
            folder.mkdir()
            (folder / "file").write_text(folder.name)
        one = job('cat "$1/file" "$2/file" /in/file; echo x >/in/file || echo read-only')
        link = one.cwd / "link"  # inside the project, and leads out of it
        linked.mkdir()
        (linked / "file").write_text(" linked ")
        link.symlink_to(linked)
        one = job(["sh", "-c", one.command[2], "sh", str(data), str(link)], 1,
                  storage=Storage(dirs={"data": str(data), "link": str(link)}),
                  container=Container(BASE, mounts={str(extra): "/in:ro"}))  # fmt: skip
        text = "\n".join(self.output(engine, one))
        assert "da ta linked " + 'a"b,c' in text
        assert "read-only" in text

    def test_a_volume_is_one_of_dockers(self, engine, job):
        name = f"lx-test-{os.getpid()}"
        try:
            for number, words in enumerate(("echo kept > /v/file", "cat /v/file")):
                one = job(words, number, container=Container(BASE, mounts={f"volume:{name}": "/v"}))
                lines = self.output(engine, one)
            assert lines[0] == "kept"
        finally:
            engine.close()
            connect().remove_volume(name)

    def test_runs_may_be_on_a_volume(self, engine, job):
        """One that is seen here at the path where runs are: as a share is that all nodes of a swarm have."""
        one, name = job("echo there"), f"lx-runs-{os.getpid()}"
        place = one.run.path.parent
        connect().create_volume(name, driver_opts={"type": "none", "o": "bind", "device": str(place)})
        one = replace(one, container=Container(BASE, mounts={f"volume:{name}": str(place)}))
        try:
            assert [(each.kind, each.target) for each in call.make_call(one, BASE, 0).mounts if each.kind == "volume"]
            assert self.output(engine, one)[0] == "there"
        finally:
            engine.close()
            connect().remove_volume(name)

    def test_an_end_that_nobody_saw_is_known_to_the_next_dispatcher(self, make_engine, job):
        first, one = make_engine(), job("sleep 0.2; echo done; exit 7")
        handle, _ = first.submit(one, [])
        wait_for(lambda: one.run.output_file.exists() and "done" in one.run.output_file.read_text())
        second = make_engine()  # the first one is not asked any more, as if it had been killed
        assert second.find(one)[0] == handle
        end = self.ends(second, handle)[handle]
        assert end.exit_code == 7
        assert 0.1 <= end.duration < 5  # seconds; the daemon notes a start down after it
        second.close()
        assert connect().containers(all=True, filters={"name": handle}) == []

    def test_a_container_that_never_started_is_as_if_it_had_not_been(self, make_engine, job):
        one = job("true")
        connect().create_container(**call.creation(call.make_call(one, BASE, 0)))
        engine = make_engine()
        assert engine.find(one) is None
        handle, _ = engine.submit(one, [])
        assert self.ends(engine, handle)[handle].state == SUCCEEDED
        engine.close()

    def test_what_a_killed_dispatcher_left_of_an_ended_run_is_taken_away(self, make_engine, job):
        ended, open_one, gone = job("true"), job("true", 1), job("true", 2)
        (gone.run.path.parent.parent / ".sweeps").mkdir()
        for one in (ended, open_one, gone):
            handle, _ = (engine := make_engine()).submit(one, [])
            self.ends(engine, handle, noted=False)
        ended.run.append_event({"state": "SUCCEEDED", "attempt": 1})
        open_one.run.append_event({"state": "RUNNING", "attempt": 1})
        shutil.rmtree(gone.run.path)
        engine = make_engine()
        engine.poll([], 0)
        engine.close()
        labels = {each["Labels"]["lightex.run"] for each in connect().containers(all=True)}
        connect().remove_container(open_one.name, force=True)
        assert not {str(ended.run.path), str(gone.run.path)} & labels
        assert str(open_one.run.path) in labels

    def test_a_job_that_is_ended_while_it_waits_for_its_image_never_starts(self, make_engine, job, monkeypatch):
        engine, go = make_engine(), threading.Event()
        monkeypatch.setattr(engine._images, "ensure", lambda *_: go.wait())
        one = job("true")
        handle, _ = engine.submit(one, [])
        engine.cancel(handle)
        assert self.ends(engine, handle)[handle].state == "CANCELLED"
        go.set()
        engine.close()
        assert not one.run.output_file.exists()

    def test_a_container_that_somebody_removes_is_lost(self, engine, job):
        one = job("touch began; sleep 100")
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began")
        connect().remove_container(handle, force=True)
        end = self.ends(engine, handle)[handle]
        assert end.state in (LOST, FAILED)  # it may be seen to end before it is gone

    def test_a_container_is_kept_where_that_is_asked_for(self, make_engine, job):
        engine = make_engine()
        handle, _ = engine.submit(job("exit 3", container=Container(BASE, keep=True)), [])
        self.ends(engine, handle)
        engine.close()
        try:
            assert connect().inspect_container(handle)["State"]["ExitCode"] == 3
        finally:
            connect().remove_container(handle)

    def test_a_process_of_this_machine_stands_for_it(self, engine, job):
        one = job("touch began; while [ ! -e go ]; do sleep 0.05; done")
        queue = Queue([one], engine, "docker")
        thread = threading.Thread(target=queue.run)
        thread.start()
        running = wait_for(lambda: next((event for event in one.run.events() if event["state"] == "RUNNING"), None))
        wait_for((one.cwd / "began").exists)
        mark = running["process"]
        sessions = {os.getsid(pid) for pid in processes_of({marks(one)})}  # by it a GPU's processes are known for ours
        (one.cwd / "go").touch()
        thread.join()
        assert sessions == {mark["pid"]}
        assert queue.leases.held == {}

    def test_an_image_that_is_not_to_be_had_says_so(self, engine, job):
        end = self.certificate(engine, job("true", container=Container(f"{BASE}x")))
        assert (end["state"], end["cause"]) == ("FAILED", "launch")
        assert f"Did you mean '{BASE}'?" in end["reason"]

    def test_an_image_without_python_says_so(self, engine, job):
        end = self.certificate(engine, job(["python4", "train.py"]))
        assert (end["cause"], end["reason"]) == ("launch", f"command not found: python4 is not in the image {BASE}")

    def test_what_may_not_be_run_says_so(self, engine, job):
        end = self.certificate(engine, job(["/etc/passwd"]))
        assert end["cause"] == "launch"
        assert "/etc/passwd: " in end["reason"]


def test_an_image_without_a_shell_says_so(tmp_path):
    init = shutil.which("docker-init")
    shutil.copyfile(os.path.realpath(init), tmp_path / "init")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY init /init\n")
    subprocess.run(
        ["docker", "build", "-q", "-t", "lightex-test/none:1", str(tmp_path)], check=True, capture_output=True
    )
    case = TestDockerEngine()
    make = TestDockerEngine.job.__wrapped__(case, tmp_path)
    engine = DockerEngine()
    end = case.certificate(engine, make(["/init", "--version"], container=Container("lightex-test/none:1")))
    assert end["cause"] == "launch"
    assert "has no /bin/sh" in end["reason"]


def test_an_entrypoint_stands_before_the_command(tmp_path):
    (tmp_path / "Dockerfile").write_text(f'FROM {BASE}\nENTRYPOINT ["python3", "-c"]\n')
    subprocess.run(
        ["docker", "build", "-q", "-t", "lightex-test/entry:1", str(tmp_path)], check=True, capture_output=True
    )
    case = TestDockerEngine()
    make = TestDockerEngine.job.__wrapped__(case, tmp_path)
    one = make(["print('by the entrypoint')"], container=Container("lightex-test/entry:1"))
    other = make(["echo", "without"], 1, container=Container("lightex-test/entry:1", options={"entrypoint": ""}))
    assert [case.certificate(DockerEngine(), each)["state"] for each in (one, other)] == ["SUCCEEDED", "SUCCEEDED"]
    assert one.run.output_file.read_text() + other.run.output_file.read_text() == "by the entrypoint\nwithout\n"


def test_who_may_not_write_the_output_is_told_so(tmp_path):
    case, engine = TestDockerEngine(), DockerEngine()
    make = TestDockerEngine.job.__wrapped__(case, tmp_path)
    end = case.certificate(engine, make("true", container=Container(BASE, options={"user": "1234"})))
    assert (end["state"], end["cause"]) == ("FAILED", "launch")
    assert "output.log: Permission denied" in end["reason"]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (Container(BASE, network="brigde"), "Did you mean 'bridge'?"),
        (Container(BASE, options={"runtime": "runk"}), "Did you mean 'runc'?"),
    ],
)
def test_what_the_daemon_has_not_is_refused_before_anything_is_written(container, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        DockerEngine().prepare([Experiment("demo", command="true", container=container)], tmp_path, print)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (None, "says no image to run in"),
        (Container(BASE), "is not a folder"),
        (Container(BASE, mounts={"nowhere": "/in"}), "nowhere does not exist"),
        (Container(BASE, mounts={".": "in"}), "is no path inside a container"),
        (Container(BASE, mounts={".": "/in:rq"}), "'/in:rq' is no path inside a container"),
        (Container(BASE, options={"cap-ad": ["X"]}), "Did you mean 'cap-add'?"),
        (Container(BASE, options={"cap-add": "X"}), "must be a list of texts, got 'X'"),
        (Container(BASE, options={"privileged": 1}), "must be true or false, got 1"),
        (Container(BASE, options={"ulimit": ["nofile=many"]}), "docker would not understand"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(container, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        DockerEngine().check(Experiment("demo", command="true", cwd="nowhere", container=container), tmp_path)
    assert words in str(error.value)


def test_a_daemon_that_goes_and_comes_back_loses_no_end(monkeypatch, tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="lx-live-"))
    name = f"lxl{os.getpid() % 10000}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    daemon = services.Daemon(folder, "--live-restore", namespace=name, name=name)
    case = TestDockerEngine()
    make = TestDockerEngine.job.__wrapped__(case, tmp_path)
    one, other = make("touch began; while [ ! -e go ]; do sleep 0.05; done; exit 5"), make("true", 1)
    try:
        daemon.start()
        services.make_base(daemon.socket)
        monkeypatch.setenv("DOCKER_HOST", daemon.socket)
        engine = DockerEngine()
        handle, _ = engine.submit(one, [])
        # A daemon that goes while it is starting a container ends it: until it has answered, and not only until it runs.
        assert wait_for(lambda: engine.poll([handle], 0.1).get(handle)).state == RUNNING
        wait_for((one.cwd / "began").exists)
        daemon.process.terminate()
        daemon.process.wait()
        assert all(state.state not in ENDED for state in engine.poll([handle], 1.0).values())
        late, _ = engine.submit(other, [])
        assert "no docker daemon answers" in wait_for(lambda: engine.poll([late], 0.1).get(late)).reason
        daemon.start()
        (one.cwd / "go").touch()
        ends = case.ends(engine, handle, late)
        assert (ends[handle].exit_code, ends[late].state) == (5, SUCCEEDED), ends[handle]
        engine.close()
    finally:
        (one.cwd / "go").touch()
        daemon.stop()
        subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(folder, ignore_errors=True)
