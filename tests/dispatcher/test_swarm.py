"""The swarm engine, against two real daemons on a network of their own."""

import pytest

from lightex.core.errors import ConfigError
from lightex.core.rundir import RUNNING, SUBMITTED
from lightex.core.taxonomy import Build, Container, Experiment, Resources
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.containers import leftovers
from lightex.dispatcher.engines.containers.daemon import AwayError
from lightex.dispatcher.engines.swarm import SwarmEngine
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.helpers import wait_for
from tests.services.docker import BASE

pytestmark = [pytest.mark.swarm, pytest.mark.usefixtures("swarm")]

EATS = "kept = []\nfor n in range(400): kept.append(bytearray(1 << 20))\nprint('fed')"


class TestSwarmEngine(EngineContract):
    options = {"container": Container(BASE)}
    patience = 60.0

    @pytest.fixture
    def make_engine(self):
        return SwarmEngine

    def test_a_job_goes_where_its_labels_say(self, engine, job, swarm):
        end = self.certificate(SwarmEngine(), job("true", resources=Resources(node_labels=["disk=fast"])))
        assert end["state"] == "SUCCEEDED"
        one = job("touch began; exec sleep 60", 1, resources=Resources(node_labels=("disk=slow",)), timeout=60)
        handle, _ = engine.submit(one, [])
        state = _waits(engine, handle)
        assert "no suitable node" in state.reason
        engine.cancel(handle)
        assert self.ends(engine, handle)[handle].state == "CANCELLED"

    def test_gpus_are_slots_of_the_nodes(self, engine, job):
        one = job("echo $DOCKER_RESOURCE_GPU", resources=Resources(gpus=2))
        handle, _ = engine.submit(one, [])
        self.ends(engine, handle)
        names = one.run.output_file.read_text().strip().split(",")
        assert sorted(name[-2:] for name in names) == ["-0", "-1"]

    def test_more_memory_than_it_said_is_killed_and_told_so(self, engine, job):
        end = self.certificate(engine, job(["python3", "-c", EATS], resources=Resources(memory="64MiB")))
        assert (end["state"], end["cause"], end["signal"]) == ("FAILED", "oom", 9)

    def test_what_it_uses_on_this_machine_is_told_while_it_runs(self, engine, job):
        spin = "import time; kept = bytearray(100 << 20)\nwhile True: pass"
        handle, _ = engine.submit(job(["sh", "-c", 'python3 -c "$0" & wait', spin]), [])
        try:
            wait_for(
                lambda: engine.poll([handle], 0.1).get(handle, JobState(SUBMITTED)).state == RUNNING, self.patience
            )
            used = wait_for(lambda: (u := engine.usage([handle]).get(handle)) and u.memory > 100 << 20 and u)
            wait_for(lambda: engine.usage([handle])[handle].cpu_seconds > used.cpu_seconds)
        finally:
            engine.cancel(handle, force=True)
            self.ends(engine, handle)
        assert engine.usage([handle]) == {}

    def test_a_node_that_is_cut_off_loses_its_run_which_is_retried_on_another(self, engine, job, swarm):
        """One attempt runs on the second node, whose link goes down; the next one is made for wherever there is room."""
        worker = swarm.nodes[1]
        one = job(
            'echo "$LX_ATTEMPT"; touch began$LX_ATTEMPT; [ "$LX_ATTEMPT" = 2 ] || exec sleep 100',
            retries={"lost": 1},
            backoff=0.1,
            resources=Resources(cpus=0.5),
        )
        swarm.manager.docker("node", "update", "--availability", "drain", str(swarm.manager.name))
        queue = Queue([one], engine, "swarm")

        def cut(queue, _job, state):
            if state and state.state == "RUNNING" and one.run.events()[-1]["attempt"] == 1:
                swarm.cut_off(worker)
                swarm.manager.docker("node", "update", "--availability", "active", str(swarm.manager.name))

        queue.watch = cut
        try:
            assert queue.run() == {"SUCCEEDED": 1}, [event.get("reason") for event in one.run.events()]
        finally:
            swarm.bring_back(worker)
        lost = next(event for event in one.run.events() if event["state"] == "LOST")
        assert lost["cause"] == "lost"
        # Now and then the swarm itself takes the task from the node, before it calls the node down.
        assert lost["reason"].startswith((f"node {worker.name} is down", f"node {worker.name} may not go on"))
        assert one.run.output_file.read_text().endswith("--- attempt 2 ---\n2\n")


def _waits(engine, handle):
    for _ in range(100):
        state = engine.poll([handle], 0.5).get(handle)
        if state and state.reason:
            return state
    raise AssertionError("it never said what it waits for")


def test_an_image_that_nodes_cannot_get_is_refused(tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\n")
    experiment = Experiment("demo", command="true", container=Container(Build()))
    with pytest.raises(ConfigError, match="2 nodes of the swarm cannot get an image that is built here"):
        SwarmEngine().prepare([experiment], tmp_path, print)


def test_an_image_is_built_pushed_and_pulled_by_the_nodes(tmp_path, monkeypatch, swarm):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo inside > /said\n")
    container = Container(Build(repository="10.99.0.254:5000/demo"))
    told = []
    engine = SwarmEngine()
    engine.prepare([Experiment("demo", command="true", container=container)], tmp_path, told.append)
    assert any(line.startswith("pushing 10.99.0.254:5000/demo:") for line in told)
    case = TestSwarmEngine()
    make = TestSwarmEngine.job.__wrapped__(case, tmp_path)
    one = make(
        "cat /said", container=container, project=tmp_path, resources=Resources(cpus=0.1, node_labels=("disk=fast",))
    )
    assert case.certificate(engine, one)["state"] == "SUCCEEDED"
    assert one.run.output_file.read_text() == "inside\n"


def test_options_that_a_swarm_has_not_are_refused(tmp_path):
    for container in (Container(BASE, options={"privileged": True}), Container(BASE, keep=True)):
        with pytest.raises(ConfigError):
            SwarmEngine().check(Experiment("demo", command="true", container=container), tmp_path)


def test_a_stop_that_the_manager_has_not_heard_is_said_again(tmp_path, monkeypatch):
    case, engine, heard = TestSwarmEngine(), SwarmEngine(), []
    one = TestSwarmEngine.job.__wrapped__(case, tmp_path)("exec sleep 600")
    stop = leftovers.stop_service

    def away(handle):
        heard.append(handle)
        if len(heard) == 1:
            raise AwayError("no docker daemon answers")
        stop(handle)

    handle, _ = engine.submit(one, [])
    monkeypatch.setattr(leftovers, "stop_service", away)
    engine.cancel(handle)  # while it is made, too: the service is not there yet
    assert case.ends(engine, handle)[handle].state in ("FAILED", "CANCELLED")  # by the signal, or before it had begun
    assert len(heard) > 1
    engine.close()
