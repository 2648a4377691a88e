"""The ray engine, against a cluster of two nodes and its Jobs API."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Experiment, Resources
from lightex.dispatcher.engines.rayside.link import Link
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.helpers import wait_for
from tests.services import ray as service
from tests.services.docker import skip_or_fail

pytestmark = [pytest.mark.ray]

HERE = {"second": 1}


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory):
    if importlib.util.find_spec("ray") is None:
        skip_or_fail("ray", "not installed: pip install 'lightex[ray]'")
    cluster = service.Cluster()
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LX_CACHE", str(cache))
        patch.setenv("RAY_AUTH_TOKEN", service.TOKEN["RAY_AUTH_TOKEN"])
        try:
            cluster.up()
            held = Link(cluster.address)  # its broker stays for all tests, which saves each of them a second
            held.open()
            yield cluster, cache
            held.close()
        finally:
            service.end_brokers(cache)
            cluster.down()


@pytest.fixture
def cluster(_cluster, monkeypatch):
    """Both nodes; RAY_ADDRESS names the head."""
    found, cache = _cluster
    monkeypatch.setenv("LX_CACHE", str(cache))
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", service.TOKEN["RAY_AUTH_TOKEN"])
    found.start_second()
    return found


def test_nodes_need_no_lightex():
    pytest.importorskip("ray")
    pack = "ray.cloudpickle.dumps(by_value(ray))"
    program = f"import ray, sys\nfrom lightex.dispatcher.engines.rayside.cluster import by_value\nsys.stdout.buffer.write({pack})"
    packed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    unpack = """
import os, sys
class NoLightEx:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "lightex":
            raise ImportError(name)
sys.meta_path.insert(0, NoLightEx())
import ray
owner, run = ray.cloudpickle.loads(sys.stdin.buffer.read())
meter = run.__globals__["_run"].__globals__["_Meter"](os.getsid(0), print)
for meter.due in (0, 0):
    meter.look()
"""
    done = subprocess.run([sys.executable, "-c", unpack], input=packed, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"'memory': " in done.stdout


@pytest.mark.usefixtures("cluster")
class TestRayEngine(EngineContract):
    patience = 60.0

    @pytest.fixture
    def make_engine(self):
        from lightex.dispatcher.engines.ray import RayEngine

        return RayEngine

    def waits(self, engine, handle, words):
        """What a job waits for, once it says so."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            state = engine.poll([handle], 0.2).get(handle)
            if state and words in (state.reason or ""):
                return state
        raise AssertionError(f"it never said: {words}")

    def test_custom_resources_and_labels_say_where_it_runs(self, engine, job):
        found = []
        for number, more in enumerate(
            ({"options": {"resources": HERE}}, {"resources": Resources(node_labels=("disk=fast",))})
        ):
            one = job("cat /proc/$PPID/environ | tr '\\0' '\\n' | grep ^RAY_RAYLET_PID=", number, **more)
            assert self.certificate(engine, one)["state"] == "SUCCEEDED"
            found.append(one.run.output_file.read_text())
        elsewhere = job(
            "cat /proc/$PPID/environ | tr '\\0' '\\n' | grep ^RAY_RAYLET_PID=", 2, resources=Resources(gpus=1)
        )
        assert self.certificate(engine, elsewhere)["state"] == "SUCCEEDED"
        assert found[0] == found[1] != elsewhere.run.output_file.read_text()

    def test_gpus_are_those_that_ray_gives(self, engine, job):
        two = job('printf "%s" "$CUDA_VISIBLE_DEVICES"', resources=Resources(gpus=2))
        none = job('printf "<%s>" "$CUDA_VISIBLE_DEVICES"', 1)
        self.ends(engine, *(engine.submit(each, [])[0] for each in (two, none)))
        assert sorted(two.run.output_file.read_text().split(",")) == ["0", "1"]
        assert none.run.output_file.read_text() == "<>"

    def test_what_waits_says_for_what_and_can_be_cancelled(self, engine, job):
        many = job("touch began", resources=Resources(gpus=3))
        handle, _ = engine.submit(many, [])
        assert "the most that one has is 2 GPU" in self.waits(engine, handle, "no node has 3 GPU").reason
        engine.cancel(handle)
        assert self.ends(engine, handle)[handle].state == "CANCELLED"
        assert not (many.cwd / "began").exists()

    def test_an_order_that_comes_twice_is_carried_out_once(self, engine, make_engine, job):
        """A supervisor that was killed behind its order is followed by one that gives it again."""
        one = job("echo x >> began; while [ ! -e go ]; do sleep 0.05; done")
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began")
        second = make_engine()
        assert second.submit(one, [])[0] == handle
        (one.cwd / "go").touch()
        assert self.ends(second, handle)[handle].state == "SUCCEEDED"
        second.close()
        assert (one.cwd / "began").read_text() == "x\n"

    def test_what_a_command_leaves_behind_is_ended(self, engine, job):
        one = job("setsid sleep 4242 & (sleep 4343 &) ; exit 0")
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        mark = f"LX_RUN_DIR={one.run.path}"
        wait_for(lambda: not service.processes_with(mark))

    def test_a_command_ends_with_its_worker_and_is_lost(self, engine, job):
        one = job("echo $PPID > worker; setsid sleep 4242 & touch began; exec sleep 4343")
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began")
        os.kill(int((one.cwd / "worker").read_text()), signal.SIGKILL)
        state = self.ends(engine, handle)[handle]
        assert (state.state, state.cause) == ("LOST", "lost")
        assert "worker" in state.reason
        wait_for(lambda: not service.processes_with(f"LX_RUN_DIR={one.run.path}"))

    def test_a_node_that_dies_loses_its_run_which_is_retried_on_the_other(self, engine, job, cluster):
        """The first attempt is sent to the second node, which is killed while it works."""
        one = job(
            'echo "$LX_ATTEMPT"; [ "$LX_ATTEMPT" = 2 ] || exec sleep 100',
            retries={"lost": 1},
            backoff=0.1,
            resources=Resources(cpus=2),
        )
        blocker = job("touch blocks; while [ ! -e go ]; do sleep 0.05; done", 1, resources=Resources(cpus=2, gpus=1))
        held, _ = engine.submit(blocker, [])
        self.starts(engine, blocker, held, blocker.cwd / "blocks")
        queue = Queue([one], engine, "ray")

        def kill(queue, _job, state):
            if state and state.state == "RUNNING" and one.run.events()[-1]["attempt"] == 1:
                cluster.kill("second")
                (blocker.cwd / "go").touch()

        queue.watch = kill
        assert queue.run() == {"SUCCEEDED": 1}, [event.get("reason") for event in one.run.events()]
        lost = next(event for event in one.run.events() if event["state"] == "LOST")
        assert lost["cause"] == "lost"
        assert lost["reason"].startswith("node ")
        assert lost["reason"].endswith("is lost")
        assert one.run.output_file.read_text() == "1\n--- attempt 2 ---\n2\n"
        assert not service.processes_with(f"LX_RUN_DIR={one.run.path}")

    def test_several_nodes_find_each_other(self, engine, job):
        """Rank 0 listens at the address that all were told, and hears from rank 1."""
        program = (
            "import os, socket\n"
            "at = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])\n"
            "rank, world = os.environ['RANK'], os.environ['WORLD_SIZE']\n"
            "if rank == '0':\n"
            "    server = socket.create_server(('', at[1])); print('heard', server.accept()[0].recv(99).decode(), 'of', world)\n"
            "else:\n"
            "    for _ in range(200):\n"
            "        try: socket.create_connection(at).sendall(b'rank ' + rank.encode()); break\n"
            "        except OSError: __import__('time').sleep(0.05)\n"
            "    print('said', os.environ['NODE_RANK'])\n"
        )
        one = job(["python3", "-c", program], resources=Resources(cpus=1, nodes=2))
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "heard rank 1 of 2\n"
        assert (one.run.path / "output.1.log").read_text() == "said 1\n"

    @pytest.mark.parametrize("nodes", [1, 2])
    def test_what_it_uses_on_its_nodes_is_told_while_it_runs(self, engine, job, nodes):
        spin = "import time; kept = bytearray(100 << 20)\nwhile True: pass"
        one = job(["sh", "-c", 'python3 -c "$0" & wait', spin], resources=Resources(cpus=1, nodes=nodes))
        handle, _ = engine.submit(one, [])
        try:
            used = self.heard(engine, handle, lambda used: used.memory > nodes * 100 << 20)
            assert 0 < used.cores < nodes * 2
            assert used.written is not None
        finally:
            engine.cancel(handle, force=True)
            self.ends(engine, handle)
        assert engine.usage([handle]) == {}

    def heard(self, engine, handle, enough):
        """A sample of what a job uses that is enough."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            engine.poll([handle], 0.1)
            if (used := engine.usage([handle]).get(handle)) and enough(used):
                return used
        raise AssertionError("it was never told")

    def test_where_one_of_several_nodes_fails_the_others_are_ended(self, engine, job):
        one = job('[ "$RANK" = 0 ] || exit 3; exec sleep 100', resources=Resources(cpus=1, nodes=2), grace=1.0)
        end = self.certificate(engine, one)
        assert (end["state"], end["exit_code"]) == ("FAILED", 3)

    def test_a_snapshot_of_the_code_is_what_runs(self, engine, job, tmp_path):
        project = tmp_path / "project"
        (project / "inner").mkdir(parents=True)
        (project / "inner" / "said.txt").write_text("as it was")
        first, second = (
            replace(
                job("cat said.txt", number, options={"code": "snapshot"}, project=project, code="abc"),
                cwd=project / "inner",
            )
            for number in (0, 1)
        )
        first.run.path.parent.parent.joinpath(".sweeps", "None").mkdir(parents=True)
        for each in (first, second):
            handle, _ = engine.submit(each, [])
            self.ends(engine, handle)
            (project / "inner" / "said.txt").write_text("changed")
        assert [each.run.output_file.read_text() for each in (first, second)] == ["as it was"] * 2

    def test_a_runtime_environment_reaches_the_command(self, engine, job):
        one = job('echo "$FROM_RAY"', options={"runtime_env": {"env_vars": {"FROM_RAY": "a  b"}}})
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "a  b\n"

    def test_a_run_that_a_node_does_not_see_says_so(self, engine, job):
        one = job("true")
        handle, _ = engine.submit(one, [])
        moved = one.run.path.rename(one.run.path.with_name("moved"))
        state = self.ends(engine, handle)[handle]
        moved.rename(one.run.path)
        assert (state.state, state.cause) == ("FAILED", "launch")
        assert "does not see" in state.reason


class TestJobsApi:
    """Ray itself takes seconds for each of its jobs, so that what is alike is tried at once.

    What fails takes a second: of jobs that fail at once, Ray 2.60 now and then says that it lost their supervisor.
    """

    case = TestRayEngine()
    job = EngineContract.job

    @pytest.fixture
    def engine(self, cluster, monkeypatch):
        from lightex.dispatcher.engines.ray import RayEngine

        monkeypatch.setenv("RAY_ADDRESS", cluster.jobs_api)
        engine = RayEngine()
        yield engine
        engine.close()

    options = {}

    def test_jobs_end_as_tasks_do(self, engine, job, tmp_path):
        odd = ["a b", "", "$HOME", "`x`", 'q"q', "q'q", "ü名", "-x", "*", "back\\slash", "two\nlines"]
        project = tmp_path / "project"
        project.mkdir()
        (project / "said.txt").write_text("as it was\n")
        jobs = [
            job(["/bin/sh", "-c", 'printf "<%s>" "$@"; printf %s "$ODD"', "sh", *odd], 0, env={"ODD": "a  b\n'$x ü"}),
            job("echo out; echo err >&2; sleep 1; exit 3", 1),
            job("sleep 1; kill -9 $$", 2),
            job("sleep 1; exec no-such-program-anywhere", 3),
            job("echo attempt $LX_ATTEMPT", 4, attempt=2),
            job("cat said.txt", 5, options={"code": "snapshot"}, project=project),
        ]
        jobs[5] = replace(jobs[5], cwd=project)
        handles = [engine.submit(each, [])[0] for each in jobs]
        ends = self.case.ends(engine, *handles)
        for number in (1, 2, 3):  # Ray now and then does not know how one that failed has ended
            for attempt in range(2, 6):
                if ends[handles[number]].state == "LOST":
                    jobs[number].run.output_file.unlink(missing_ok=True)
                    handles[number], _ = engine.submit(replace(jobs[number], attempt=attempt), [])
                    ends |= self.case.ends(engine, handles[number])
        found = [(ends[handle].state, ends[handle].exit_code, ends[handle].signal) for handle in handles]
        assert found == [  # of Ray's own telling: driver_exit_code
            ("SUCCEEDED", 0, None),
            ("FAILED", 3, None),
            ("FAILED", None, 9),
            ("FAILED", 127, None),
            ("SUCCEEDED", 0, None),
            ("SUCCEEDED", 0, None),
        ], [(ends[handle].cause, ends[handle].reason) for handle in handles]
        assert (ends[handles[3]].cause, ends[handles[3]].reason) == (
            "launch",
            "command not found: no-such-program-anywhere",
        )
        written = [each.run.output_file.read_text() for each in jobs]
        assert written[0] == "".join(f"<{word}>" for word in odd) + "a  b\n'$x ü"
        assert written[1].endswith("out\nerr\n")
        assert written[4:] == ["--- attempt 2 ---\nattempt 2\n", "as it was\n"]

    def test_a_job_is_found_again_and_stopped(self, engine, job):
        from lightex.dispatcher.engines.ray import RayEngine

        one = job("trap 'echo saved; exit 0' TERM; touch began; while :; do sleep 0.05; done")
        handle, _ = engine.submit(one, [])
        self.case.starts(engine, one, handle, one.cwd / "began")
        second = RayEngine()
        assert second.find(one) == (handle, {})
        assert second.find(job("true", 1)) is None
        second.cancel(handle)
        assert self.case.ends(second, handle)[handle].state in ("CANCELLED", "SUCCEEDED")
        assert "saved" in one.run.output_file.read_text()
        second.close()
        assert self.case.ends(engine, f"{handle}0")[f"{handle}0"].state == "LOST"


class TestMistakes:
    """What is told before anything is written."""

    def test_what_no_node_has_is_refused_unless_the_cluster_grows(self, cluster, tmp_path):
        from lightex.dispatcher.engines.ray import RayEngine

        wants = Experiment("demo", command="true", resources=Resources(gpus=3))
        with pytest.raises(ConfigError, match="no node has 3 GPUs; the most that one has is 2 GPUs"):
            RayEngine().prepare([wants], tmp_path, print)
        RayEngine().prepare([replace(wants, engine_options={"ray": {"autoscales": True}})], tmp_path, print)
        with pytest.raises(ConfigError, match="no node is labelled disk=slow"):
            RayEngine().prepare([Experiment("demo", command="true", resources=Resources(node_labels=("disk=slow",)))],
                                tmp_path, print)  # fmt: skip

    def test_several_nodes_are_not_for_the_jobs_api(self, cluster, tmp_path):
        from lightex.dispatcher.engines.ray import RayEngine

        options = {"ray": {"address": cluster.jobs_api}}
        wants = Experiment("demo", command="true", resources=Resources(nodes=2), engine_options=options)
        with pytest.raises(ConfigError, match="a job of Ray's Jobs API runs on one"):
            RayEngine().check(wants, tmp_path)

    def test_the_doctor_tells_of_nodes_and_of_what_cannot_run(self, cluster, tmp_path):
        from lightex.dispatcher.engines.ray import RayEngine

        wants = Experiment("demo", command="true", resources=Resources(gpus=3))
        found = {(each.what, each.ok): each.words for each in RayEngine().examine([wants], tmp_path)}
        assert cluster.address in found["ray", True]
        assert "2 cpus" in found["node", True]
        assert "no node has 3 GPUs" in found["demo", False]
