"""The Kubernetes engine on a real cluster, the one of KUBECONFIG: `pytest -m kubernetes` (docs/kubernetes.md).

LX_TEST_IMAGE: an image with Python 3 that its nodes have or can pull (default: python:3.12-slim).
LX_TEST_LIGHTEX_IMAGE: one with LightEx and boto3, for folders on s3.
LX_TEST_ADDRESS: where pods reach this machine, for an S3 service that is started here.
Nodes see this machine's temporary folder: it is the cluster of one machine, or TMPDIR names a shared folder.
"""

import os
import time
import uuid
from pathlib import Path

import pytest

from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Container, Resources, Storage, Store
from lightex.dispatcher.engines.cluster import api, metrics
from lightex.dispatcher.engines.kubernetes import KubernetesEngine
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.services.docker import skip_or_fail

pytestmark = pytest.mark.kubernetes

KUBECONFIG = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
IMAGE = os.environ.get("LX_TEST_IMAGE", "python:3.12-slim")
LIGHTEX = os.environ.get("LX_TEST_LIGHTEX_IMAGE")
ADDRESS = os.environ.get("LX_TEST_ADDRESS")

EATS = "kept = []\nfor n in range(400): kept.append(bytearray(1 << 20))\nprint('fed')"


@pytest.fixture(scope="module")
def namespace():
    """A namespace of the test's own, which is removed with all that is in it."""
    if not Path(KUBECONFIG).exists():
        skip_or_fail("kubernetes", f"there is no cluster: {KUBECONFIG} does not exist (KUBECONFIG)")

    os.environ["KUBECONFIG"] = KUBECONFIG
    try:
        cluster = api.connect()
        cluster.ask("GET", "/version")
    except api.ClusterError as error:
        skip_or_fail("kubernetes", str(error))
    name = f"lx-test-{uuid.uuid4().hex[:8]}"
    cluster.ask(
        "POST", "/api/v1/namespaces", body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    deadline = time.monotonic() + 30
    while True:  # pods are refused until it is there
        try:
            cluster.ask("GET", api.in_namespace("serviceaccounts", name, "default"))
            break
        except api.ClusterError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield name
    cluster.ask("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(autouse=True)
def _kubeconfig(namespace, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", KUBECONFIG)


class TestOnACluster(EngineContract):
    patience = 120.0

    @pytest.fixture
    def make_engine(self):
        return KubernetesEngine

    @pytest.fixture
    def job(self, tmp_path, namespace):
        make = EngineContract.job.__wrapped__(self, tmp_path)
        own = {"container": Container(IMAGE), "options": {"namespace": namespace, "pull_policy": "IfNotPresent"}}
        known = own | {"resources": Resources(cpus=0.05)}
        return lambda command, number=0, **fields: make(command, number, **known | fields)

    def test_more_memory_than_it_said_is_killed_and_told_so(self, engine, job):
        end = self.certificate(engine, job(["python3", "-c", EATS], resources=Resources(cpus=0.1, memory="64MiB")))
        assert (end["state"], end["cause"], end["signal"]) == ("FAILED", "oom", 9)

    def test_what_it_used_is_told(self, engine, job):
        end = self.certificate(engine, job(["python3", "-c", "bytearray(100 << 20)"], resources=Resources(cpus=1)))
        assert end["peak_memory"] > 100 << 20
        assert end["cpu_seconds"] > 0

    def test_what_it_uses_is_told_while_it_runs(self, engine, job, namespace):
        try:
            api.connect().ask("GET", metrics.of_pods(namespace))
        except api.ClusterError as error:
            pytest.skip(f"the cluster has no metrics API: {error.message}")
        hold = "import time\nheld = bytearray(100 << 20)\nwhile time.sleep(0.01) is None: sum(range(10000))"
        handle, _ = engine.submit(job(["python3", "-c", hold], resources=Resources(cpus=0.5)), [])
        deadline = time.monotonic() + self.patience  # its first sample takes the metrics server two looks
        while not (used := engine.usage([handle]).get(handle)):
            assert time.monotonic() < deadline
            engine.poll([handle], 0.5)
        engine.cancel(handle, force=True)
        self.ends(engine, handle)
        assert 100 << 20 < used.memory < 200 << 20
        assert 0 < used.cores < 1.1

    def test_two_nodes_talk_to_each_other(self, engine, job):
        talk = (
            "import os, socket\n"
            "where = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])\n"
            "if os.environ['NODE_RANK'] == '0':\n"
            "    print(socket.create_server(('', where[1])).accept()[0].recv(9).decode())\n"
            "else:\n"
            "    for _ in range(300):\n"
            "        try: socket.create_connection(where).sendall(b'hello'); break\n"
            "        except OSError: import time; time.sleep(0.1)\n"
        )
        one = job(["python3", "-c", talk], resources=Resources(cpus=0.05, nodes=2))
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "hello\n"

    def test_when_one_of_two_nodes_fails_the_other_is_ended(self, engine, job):
        one = job('[ "$NODE_RANK" = 0 ] || exit 7; exec sleep 100', grace=1.0, resources=Resources(cpus=0.05, nodes=2))
        end = self.certificate(engine, one)
        assert (end["state"], end["exit_code"]) == ("FAILED", 7)

    def test_a_request_that_no_node_can_meet_says_what_it_waits_for(self, engine, job):
        handle, _ = engine.submit(job("true", resources=Resources(cpus=1000)), [])
        deadline = time.monotonic() + 60
        while not (state := engine.poll([handle], 0.5).get(handle)) or "Insufficient cpu" not in (state.reason or ""):
            assert time.monotonic() < deadline
        engine.cancel(handle)
        self.ends(engine, handle)

    def test_variables_of_the_shell_arrive_by_a_secret(self, engine, job, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "s3cret $(HOME) $$")
        one = job('printf %s "$HF_TOKEN"', inherit=("HF_*",))
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "s3cret $(HOME) $$"


@pytest.mark.s3
@pytest.mark.skipif(not (LIGHTEX and ADDRESS), reason="LX_TEST_LIGHTEX_IMAGE and LX_TEST_ADDRESS are not set")
@pytest.mark.parametrize("nodes", [1, 2])
def test_code_data_and_runs_by_s3(namespace, s3, tmp_path, monkeypatch, nodes):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    s3.put("data/set.txt", b"the data")
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(
        "import os, sys, lightex\n"
        "with lightex.start_run() as run:\n"
        "    run.log({'loss': 1.0}, step=0)\n"
        "print(open(sys.argv[1] + '/set.txt').read(), os.environ.get('NODE_RANK', 0))\n"
        "open(sys.argv[2] + '/made', 'w').write('made')\n"
    )
    inside = s3.endpoint.replace("127.0.0.1", str(ADDRESS))
    own = {"endpoint": s3.endpoint, "endpoint_inside": inside}
    dirs = {"data": Store(f"s3://{s3.bucket}/data", **own), "out": Store(f"s3://{s3.bucket}/out", write=True, **own)}
    storage = Storage(dirs=dirs, remote=Store(f"s3://{s3.bucket}/lightex", **own))
    folders = KubernetesEngine.folders(storage, project)
    run = RunDir.create(project / "runs/demo/261123-101010-abcd-000", {"id": "x"}, {}, {"state": "QUEUED"})
    env = {"LX_RUN_DIR": str(run.path), "LX_RUN_ID": run.id, "LX_ATTEMPT": "1"}
    one = Job(
        run=run,
        command=("python3", "train.py", folders["data"], folders["out"]),
        env=env,
        cwd=project,
        project=project,
        storage=storage,
        resources=Resources(cpus=0.05, nodes=nodes),
        container=Container(str(LIGHTEX)),
        options={"namespace": namespace, "lightex_image": LIGHTEX, "pull_policy": "IfNotPresent"},
    )
    ended = Queue([one], KubernetesEngine(), "kubernetes").run()
    assert ended == {"SUCCEEDED": 1}, run.events()[-1]
    assert run.output_file.read_text() == "the data 0\n"
    assert s3.read("out/made") == b"made"
    for rank in range(nodes):
        assert run.records_file(rank).exists()
