"""The Kubernetes engine: against a stateful API server of the tests' own, and, where there is one, a real cluster."""

import os
import threading
import time
from dataclasses import replace

import pytest

from lightex.core.errors import ConfigError
from lightex.core.rundir import ENDED, RUNNING, SUBMITTED, RunDir
from lightex.core.taxonomy import Build, Container, Experiment, Resources, Storage
from lightex.dispatcher.engine import LaunchError, Usage
from lightex.dispatcher.engines.cluster import metrics
from lightex.dispatcher.engines.cluster.metrics import quantity
from lightex.dispatcher.engines.kubernetes import KubernetesEngine
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.helpers import wait_for
from tests.services.docker import BASE

EATS = "kept = []\nfor n in range(400): kept.append(bytearray(1 << 20))\nprint('fed')"


@pytest.mark.docker
class TestKubernetesEngine(EngineContract):
    """Pods are containers of a docker daemon."""

    options = {"container": Container(BASE), "resources": Resources(cpus=0.1)}

    @pytest.fixture
    def make_engine(self, docker_cluster):
        return KubernetesEngine

    def test_more_memory_than_it_said_is_killed_and_told_so(self, engine, job):
        end = self.certificate(engine, job(["python3", "-c", EATS], resources=Resources(memory="64MiB")))
        assert (end["state"], end["cause"], end["signal"]) == ("FAILED", "oom", 9)
        assert end["reason"] == "out of memory: killed by its memory limit of 64 MiB (container)"

    def test_two_nodes_find_each_other_and_end_as_one_run(self, engine, job, docker_cluster):
        asks = 'import os, socket; print(os.environ["NODE_RANK"], os.environ["WORLD_SIZE"], socket.gethostbyname(os.environ["MASTER_ADDR"]))'
        one = job(["python3", "-c", asks], resources=Resources(cpus=0.1, nodes=2))
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "0 2 127.0.0.1\n"
        assert (one.run.path / "output.1.log").read_text() == "1 2 127.0.0.1\n"

    def test_when_one_of_two_nodes_fails_the_other_is_ended(self, engine, job):
        one = job('[ "$NODE_RANK" = 0 ] || exit 7; exec sleep 100', resources=Resources(cpus=0.1, nodes=2), grace=1.0)
        end = self.certificate(engine, one)
        assert (end["state"], end["exit_code"]) == ("FAILED", 7)

    def test_variables_of_the_shell_arrive_by_a_secret_that_goes_with_the_job(
        self, engine, job, docker_cluster, monkeypatch
    ):
        monkeypatch.setenv("HF_TOKEN", "s3cret $(HOME) $$")
        one = job('printf %s "$HF_TOKEN"', inherit=("HF_*",))
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "s3cret $(HOME) $$"
        assert "s3cret" not in str([body for _, kind, body in docker_cluster.bodies if kind != "secrets"])
        wait_for(lambda: not docker_cluster.list("secrets"))

    def test_what_it_wrote_is_the_callers(self, engine, job):
        one = job("touch made; id -u; id -g")
        self.certificate(engine, one)
        assert (one.cwd / "made").stat().st_uid == os.getuid()
        assert one.run.output_file.read_text() == f"{os.getuid()}\n{os.getgid()}\n"

    def test_a_folder_that_the_node_does_not_have_is_what_it_waits_for(self, engine, job, tmp_path, monkeypatch):
        monkeypatch.setattr("lightex.dispatcher.engines.cluster.namespace._STUCK", 0.0)
        monkeypatch.setattr("lightex.dispatcher.engines.cluster.namespace._EVENTS_EVERY", 0.1)
        one = job("true", storage=Storage(dirs={"data": "/nowhere/at all"}))
        handle, _ = engine.submit(one, [])
        assert "/nowhere/at all" in _waits(engine, handle, "/nowhere")
        engine.cancel(handle, force=True)


def _waits(engine, handle, words):
    """The reason of a waiting job, once it has these words."""
    deadline, seen = time.monotonic() + 20, []
    while time.monotonic() < deadline:
        state = engine.poll([handle], 0.2).get(handle)
        if state:
            seen.append(state)
            if words in (state.reason or ""):
                return state.reason
    raise AssertionError(seen)


def _until(engine, handle, *wanted):
    """The state of a job, once it is one of these."""
    deadline, seen = time.monotonic() + 20, []
    while time.monotonic() < deadline:
        state = engine.poll([handle], 0.2).get(handle)
        if state:
            seen.append(state)
            if state.state in wanted:
                return state
    raise AssertionError(seen)


@pytest.fixture
def job(tmp_path):
    """Makes jobs whose pods the test ends."""

    def make(number=0, **fields):
        place = tmp_path / "runs" / "demo" / f"261123-101010-abcd-{number:03d}"
        run = RunDir.create(place, {"id": "x"}, {}, {"state": "QUEUED"})
        known = {"resources": Resources(cpus=0.1), "container": Container("image:1"), "grace": 1.0}
        return Job(run=run, command=("true",), env={"LX_SWEEP": "abcd"}, cwd=tmp_path, **known | fields)

    return make


@pytest.fixture
def engine(cluster):
    engine = KubernetesEngine()
    yield engine
    engine.close()


class Started:
    """A job whose pod runs."""

    def __init__(self, engine, cluster, job):
        self.engine, self.cluster, self.job = engine, cluster, job
        self.name = job.name
        self.handle, _ = engine.submit(job, [])
        cluster.wait(lambda: cluster.pods_of(self.name) and cluster.pods_of(self.name)[0]["spec"].get("nodeName"))
        cluster.start_pod(self.name)
        _until(engine, self.handle, RUNNING)

    def end(self):
        return _until(self.engine, self.handle, *ENDED)

    def kill(self):
        """As a queue does whose job is to end at once: it asks again and again."""
        self.engine.cancel(self.handle)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.engine.cancel(self.handle, force=True)
            state = self.engine.poll([self.handle], 0.1).get(self.handle)
            if state and state.state in ENDED:
                return state
        raise AssertionError("it is still there")


@pytest.fixture
def started(engine, cluster, job):
    return Started(engine, cluster, job())


class TestEnds:
    """What becomes of a pod is told in words."""

    def test_evicted(self, started, cluster):
        cluster.evict(started.name)
        end = started.end()
        assert (end.state, end.cause) == ("LOST", "lost")
        assert end.reason == "it was evicted from node node1: The node was low on resource: memory."

    def test_preempted(self, started, cluster):
        cluster.preempt(started.name)
        end = started.end()
        assert (end.state, end.cause) == ("LOST", "lost")
        assert "preempted on node node1" in end.reason

    @pytest.mark.parametrize("gone", [True, False])
    def test_its_node_is_lost(self, started, cluster, gone):
        cluster.lose_node("node1", gone=gone)
        end = started.end()
        assert (end.state, end.cause) == ("LOST", "lost")
        assert end.reason.startswith("node node1 is")

    def test_killed_for_its_memory(self, started, cluster):
        cluster.end_pod(started.name, code=137, reason="OOMKilled", container="command")
        end = started.end()
        assert (end.cause, end.signal) == ("oom", 9)

    def test_an_image_that_is_not_there(self, engine, cluster, job):
        one = job()
        handle, _ = engine.submit(one, [])
        name = one.name
        cluster.wait(lambda: cluster.pods_of(name))
        words = 'Back-off pulling image "image:1": ErrImagePull: pull access denied, repository does not exist'
        cluster.block_pod(name, "ImagePullBackOff", words)
        end = _until(engine, handle, *ENDED)
        assert (end.state, end.cause) == ("FAILED", "launch")
        assert end.reason == f"there is no image image:1 for it: {words}"

    def test_a_registry_that_is_away_for_now_is_waited_for(self, engine, cluster, job):
        one = job()
        handle, _ = engine.submit(one, [])
        name = one.name
        cluster.wait(lambda: cluster.pods_of(name))
        cluster.block_pod(name, "ErrImagePull", "dial tcp: i/o timeout")
        assert _waits(engine, handle, "i/o timeout")
        cluster.start_pod(name)
        _until(engine, handle, RUNNING)

    def test_no_node_has_room(self, engine, cluster, job):
        handle, _ = engine.submit(job(resources=Resources(cpus=100)), [])
        assert _waits(engine, handle, "nodes are available") == "0/1 nodes are available: 1 Insufficient cpu."

    def test_its_deadline_in_the_cluster(self, engine, cluster, job):
        started = Started(engine, cluster, job(options={"deadline": 1}))
        end = started.end()
        assert (end.state, end.cause) == ("FAILED", "timeout")
        assert "deadline" in end.reason

    def test_somebody_deletes_its_job(self, started, cluster):
        cluster.delete("jobs", started.name, propagationPolicy="Background")
        end = started.end()
        assert (end.state, end.reason) == ("CANCELLED", "its Job was deleted in the cluster")

    def test_pods_that_may_not_be_made(self, engine, cluster, job, monkeypatch):
        monkeypatch.setattr("lightex.dispatcher.engines.cluster.namespace._STUCK", 0.0)
        monkeypatch.setattr("lightex.dispatcher.engines.cluster.namespace._EVENTS_EVERY", 0.1)
        cluster.refuse_pods("exceeded quota: compute, requested: cpu=100m")
        handle, _ = engine.submit(job(), [])
        assert _waits(engine, handle, "exceeded quota")

    def test_a_queue_that_has_not_admitted_it(self, engine, cluster, job):
        one = job(options={"queue": "team"})
        handle, _ = engine.submit(one, [])
        name = one.name
        cluster.wait(lambda: cluster.get("jobs", name))
        assert cluster.get("jobs", name)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        cluster.patch("jobs", name, {"spec": {"suspend": True}})
        assert _waits(engine, handle, "queue team has not admitted it")

    def test_what_was_used_is_told(self, started, cluster):
        cluster.end_pod(started.name, message="lx peak_memory=1048576 cpu_us=1500000 cpu_ns=\n")
        end = started.end()
        assert (end.state, end.peak_memory, end.cpu_seconds) == ("SUCCEEDED", 1048576, 1.5)


class TestUsage:
    """What the metrics API tells is told on; a cluster without one costs nothing but a question."""

    def test_what_runs_is_told_by_the_names_of_jobs(self, started, cluster):
        cluster.measures = {"cpu": "1250m", "memory": "64Mi"}
        found = wait_for(lambda: started.engine.usage([started.handle]))
        assert found == {started.handle: Usage(cores=1.25, memory=64 << 20)}
        assert started.engine.usage([started.handle]) == {}  # nothing new

    def test_each_gets_its_sample_though_another_was_asked_about_when_the_answer_came(
        self, started, engine, cluster, job
    ):
        cluster.measures = {"cpu": "251135218n", "memory": "97668Ki"}  # as a metrics server writes it
        other = Started(engine, cluster, job(1))
        assert wait_for(lambda: engine.usage([other.handle]))
        expected = Usage(cores=pytest.approx(0.251135218), memory=97668 << 10)
        assert engine.usage([started.handle]) == {started.handle: expected}
        assert cluster.requests["list", "podmetrics"] == 1

    def test_one_that_is_away_for_now_is_asked_again_soon(self, started, cluster, monkeypatch):
        monkeypatch.setattr(metrics, "EVERY", 0.2)
        cluster.measures = {"cpu": "1", "memory": "1Mi"}
        cluster.fail("list", "podmetrics", code=503, times=10)  # twice, with what is tried again by itself
        assert wait_for(lambda: started.engine.usage([started.handle]), seconds=30)

    def test_without_one_nothing_is_known_and_it_is_asked_once(self, started, cluster):
        wait_for(lambda: started.engine.usage([started.handle]) or cluster.requests["list", "podmetrics"])
        assert [started.engine.usage([started.handle]) for _ in range(50)] == [{}] * 50
        assert cluster.requests["list", "podmetrics"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("2", 2.0),
        ("1500000n", 0.0015),
        ("64Mi", 67108864.0),
        ("97668Ki", 100012032.0),
        ("2E", 2e18),
        ("1Ei", 2.0**60),
        ("1e3", 1000.0),
        ("5k", 5000.0),
        (None, 0),
        ("?", 0),
    ],
)
def test_quantities(text, value):
    assert quantity(text) == pytest.approx(value)


class TestFaults:
    """A server that refuses, forgets, answers late or is away loses nothing."""

    @pytest.mark.parametrize("code", [429, 500, 503])
    def test_a_busy_server_is_asked_again(self, engine, cluster, job, code):
        cluster.fail("create", "jobs", code=code, times=2, **({"retry_after": 1} if code == 429 else {}))
        assert Started(engine, cluster, job()).name in str(cluster.list("jobs"))

    def test_one_that_stays_busy_is_what_a_job_waits_for(self, engine, cluster, job):
        cluster.fail("create", "jobs", code=503, times=None)
        handle, _ = engine.submit(job(), [])
        assert _waits(engine, handle, "is busy")
        cluster.heal()
        cluster.wait(lambda: cluster.list("jobs"), seconds=20)
        assert _until(engine, handle, SUBMITTED)

    @pytest.mark.parametrize("after", [True, False])
    def test_an_answer_that_is_lost_makes_no_second_job(self, engine, cluster, job, after):
        cluster.drop("create", "jobs", after=after)
        Started(engine, cluster, job())
        assert len(cluster.list("jobs")) == 1

    def test_what_it_does_not_take_is_told(self, engine, cluster, job):
        cluster.fail("create", "jobs", code=422, message="spec.template: Invalid value", times=1)
        end = _until(engine, engine.submit(job(), [])[0], *ENDED)
        assert (end.state, end.cause) == ("FAILED", "launch")
        assert "spec.template: Invalid value" in end.reason

    def test_a_right_that_is_lacking_is_told(self, engine, cluster, job):
        cluster.deny("create", "jobs")
        end = _until(engine, engine.submit(job(), [])[0], *ENDED)
        assert "forbidden" in end.reason
        assert "lx doctor -e kubernetes" in end.reason

    def test_a_watch_that_is_cut_goes_on_where_it_was(self, started, cluster):
        lists = cluster.requests["list", "pods"]
        cluster.cut_watches()
        cluster.end_pod(started.name, code=3)
        assert started.end().exit_code == 3
        assert cluster.requests["list", "pods"] == lists

    def test_a_watch_whose_place_is_forgotten_lists_again(self, started, cluster):
        cluster.forget_history()
        cluster.cut_watches()
        cluster.end_pod(started.name, code=3)
        assert started.end().exit_code == 3
        assert cluster.requests["list", "pods"] > 1

    def test_what_went_while_it_was_away_is_known_to_be_gone(self, started, cluster):
        cluster.down()
        cluster.delete("jobs", started.name, propagationPolicy="Background")
        cluster.forget_history()
        cluster.up()
        assert started.end().state == "CANCELLED"

    def test_a_server_that_is_away_is_waited_for(self, started, cluster, job):
        cluster.down()
        second, _ = started.engine.submit(job(1), [])
        assert _waits(started.engine, second, "does not answer")
        cluster.end_pod(started.name, code=4)
        cluster.up()
        assert started.end().exit_code == 4
        cluster.wait(lambda: len(cluster.list("jobs")) >= 1)

    def test_the_end_that_nobody_saw_is_there_for_the_next(self, started, cluster, job):
        started.engine.close()
        cluster.end_pod(started.name, code=5)
        second = KubernetesEngine()
        assert _until(second, started.handle, *ENDED).exit_code == 5
        second.close()

    def test_a_job_is_removed_when_its_end_is_noted_and_not_before(self, started, cluster):
        cluster.end_pod(started.name)
        started.end()
        started.engine.poll([], 0)
        assert cluster.get("jobs", started.name)
        second = KubernetesEngine()
        _until(second, started.handle, *ENDED)
        second.forget(started.handle)
        cluster.wait(lambda: not cluster.get("jobs", started.name))
        second.close()

    def test_what_a_killed_one_has_left_is_removed_by_the_next(self, started, cluster, tmp_path):
        started.job.run.append_event({"state": "SUCCEEDED", "attempt": 1, "time": 1.0})
        cluster.end_pod(started.name)
        second = KubernetesEngine()
        second.submit(replace(started.job, attempt=2), [])
        deadline = time.monotonic() + 20
        while cluster.get("jobs", started.name) and time.monotonic() < deadline:
            second.poll([f"lx/default/{started.name}"], 0.1)
        assert not cluster.get("jobs", started.name)
        second.close()

    def test_one_that_is_to_end_before_it_is_made_never_is(self, engine, cluster, job):
        cluster.down()
        handle, _ = engine.submit(job(), [])
        engine.cancel(handle)
        assert _until(engine, handle, *ENDED).state == "CANCELLED"
        cluster.up()
        assert not cluster.list("jobs")

    def test_a_pod_on_a_node_that_is_gone_can_be_ended_all_the_same(self, started, cluster, monkeypatch):
        monkeypatch.setattr("lightex.dispatcher.engines.kubernetes._FORCE_AGAIN", 0.2)
        cluster.terminating = None  # its node never says that the pod has ended
        assert started.kill().state in ENDED

    def test_what_is_to_be_killed_is_given_up_where_the_server_stays_away(self, started, cluster, monkeypatch):
        monkeypatch.setattr("lightex.dispatcher.engines.kubernetes._PATIENCE", 0.5)
        cluster.down()
        state = started.kill()
        assert (state.state, state.cause) == ("LOST", "lost")
        assert "does not answer" in state.reason

    def test_a_job_is_found_where_it_was_made_though_the_kubeconfig_has_another_namespace_now(self, started, cluster):
        text = cluster.kubeconfig.read_text()
        assert "namespace" in text
        other = cluster.kubeconfig.with_name("other")
        other.write_text(text.replace("namespace: default", "namespace: elsewhere").replace(
            '"namespace": "default"', '"namespace": "elsewhere"'))  # fmt: skip
        os.environ["KUBECONFIG"] = str(other)
        second = KubernetesEngine()
        assert second.find(started.job) is None
        assert second.find(replace(started.job, handle=started.handle))[0] == started.handle
        second.close()

    def test_a_quota_is_waited_for_and_what_is_refused_leaves_no_secret(self, engine, cluster, job, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "x")
        monkeypatch.setattr("lightex.dispatcher.engines.kubernetes._QUOTA_AGAIN", 0.1)
        words = 'jobs.batch "x" is forbidden: exceeded quota: count, requested: count/jobs.batch=1'
        cluster.fail("create", "jobs", code=403, message=words, times=3)
        one = job(inherit=("HF_TOKEN",))
        handle, _ = engine.submit(one, [])
        assert _waits(engine, handle, "exceeded quota")
        cluster.wait(lambda: cluster.list("jobs"))
        cluster.fail("create", "jobs", code=422, message="Invalid value", times=1)
        second, _ = engine.submit(job(1, inherit=("HF_TOKEN",)), [])
        assert _until(engine, second, *ENDED).cause == "launch"
        assert [each["metadata"]["name"] for each in cluster.list("secrets")] == [one.name]

    def test_a_log_in_that_runs_out_is_waited_for(self, engine, cluster, job):
        before, cluster.token = cluster.token, "another"
        handle, _ = engine.submit(job(), [])
        assert "log in again" in _waits(engine, handle, "does not know you")
        cluster.token = before
        cluster.wait(lambda: cluster.list("jobs"))


class TestRequests:
    def test_a_hundred_experiments_need_few(self, cluster, job):
        """At most 5 each, as the API server sees them; also where pods are ended from elsewhere."""
        engine = KubernetesEngine()
        ending = threading.Event()

        def play():
            while not ending.wait(0.01):
                for pod in cluster.list("pods"):
                    if pod.get("status", {}).get("phase") == "Pending" and pod["spec"].get("nodeName"):
                        cluster.start_pod(pod["metadata"]["name"])
                    elif pod.get("status", {}).get("phase") == "Running":
                        cluster.end_pod(pod["metadata"]["name"])

        player = threading.Thread(target=play)
        player.start()
        try:
            ended = Queue([job(number) for number in range(100)], engine, "kubernetes").run()
        finally:
            ending.set()
            player.join()
        assert ended == {"SUCCEEDED": 100}
        cluster.wait(lambda: not cluster.list("jobs"))
        assert sum(cluster.requests.values()) <= 100 * 5 / 2, cluster.requests

    def test_no_more_jobs_are_open_than_allowed(self, cluster, job):
        engine = KubernetesEngine()
        queue = Queue([job(number, options={"most_open": 3}) for number in range(8)], engine, "kubernetes")
        seen = []

        def watch(queue, _job, _state):
            seen.append(len(cluster.list("jobs")))
            for pod in cluster.list("pods"):
                if pod["spec"].get("nodeName"):
                    if pod["status"].get("phase") == "Running":
                        cluster.end_pod(pod["metadata"]["name"])
                    elif pod["status"].get("phase") == "Pending":
                        cluster.start_pod(pod["metadata"]["name"])

        queue.watch = watch
        assert queue.run() == {"SUCCEEDED": 8}
        assert 1 < max(seen) <= 6  # 3, and those that have ended and are removed a moment later


class TestChecks:
    """What cannot run is refused before anything is written."""

    def refused(self, tmp_path, **fields):
        known = {"command": "true", "container": Container("image:1")}
        with pytest.raises(ConfigError) as refused:
            KubernetesEngine().check(Experiment("demo", **known | fields), tmp_path)
        return str(refused.value)

    def test_no_image(self, tmp_path):
        assert "says no image" in self.refused(tmp_path, container=None)

    def test_an_image_that_nodes_cannot_get(self, tmp_path):
        (tmp_path / "Dockerfile").write_text("FROM x\n")
        assert "cannot get an image that is built here" in self.refused(tmp_path, container=Container(Build()))

    def test_an_option_that_there_is_not(self, tmp_path):
        words = self.refused(tmp_path, engine_options={"kubernetes": {"name_space": "x"}})
        assert "there is no 'name_space'. Did you mean 'namespace'?" in words

    def test_an_option_of_docker(self, tmp_path):
        words = self.refused(tmp_path, container=Container("image:1", options={"privileged": True}))
        assert "'privileged' is an option of docker's" in words

    def test_folders_on_s3_without_an_image_that_brings_them(self, tmp_path):
        words = self.refused(tmp_path, storage=Storage(dirs={"data": "s3://bucket/data"}))
        assert "lightex_image" in words

    def test_a_project_that_nodes_do_not_see(self, tmp_path):
        words = self.refused(tmp_path, storage=Storage(remote="pvc://claim"))
        assert "is not to be seen from this machine" in words

    def test_an_option_that_is_not_valid_any_more(self, engine, job):
        with pytest.raises(LaunchError, match="there is no 'nope'"):
            engine.submit(job(options={"nope": 1}), [])

    def test_a_context_that_there_is_not(self, engine, job):
        with pytest.raises(LaunchError, match="there is no context 'prod' in the kubeconfig"):
            engine.submit(job(options={"context": "prod"}), [])
