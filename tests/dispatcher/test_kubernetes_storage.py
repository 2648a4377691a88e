"""Data, code and runs by S3 to pods that see nothing of this machine's disk, and back; volumes that pods mount."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lightex.core.rundir import ENDED, RUNNING, RunDir
from lightex.core.taxonomy import Container, Resources, Storage, Store
from lightex.dispatcher.engines.kubernetes import KubernetesEngine
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue
from tests.helpers import wait_for
from tests.services.docker import BASE, copy_packages

pytestmark = [
    pytest.mark.docker,
    pytest.mark.s3,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="packages of this Python are not those of the image's"),
]

TRAIN = """
import os, pathlib, sys, time
import lightex

data, out, epochs = sys.argv[1:]
with lightex.start_run() as run:
    for step in range(int(epochs)):
        print("read", pathlib.Path(data, "set.txt").read_text(), flush=True)
        run.log({"loss": 1 / (step + 1)}, step=step)
        time.sleep(0.2)
    pathlib.Path("/tmp/model.bin").write_bytes(bytes(range(256)) * 4000)
    run.log_artifact("/tmp/model.bin")
pathlib.Path(out, f"of-{os.environ.get('NODE_RANK', 0)}").write_text("made")
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory, _daemon):
    """An image with Python and LightEx: what its Dockerfile makes with a network."""
    folder = tmp_path_factory.mktemp("image")
    copy_packages(folder / "packages", "lightex", "boto3")
    shutil.copytree(Path(__file__).parents[2] / "src/lightex", folder / "packages/lightex", dirs_exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nCOPY packages /usr/local/lib/python3.11/dist-packages\n")
    name = "lightex-test/lightex:1"
    subprocess.run(["docker", "build", "-q", "-t", name, "."], cwd=folder, check=True, capture_output=True,
                   env={**os.environ, "DOCKER_HOST": _daemon})  # fmt: skip
    return name


@pytest.fixture
def job(tmp_path, image, s3, docker_cluster, monkeypatch):
    """Makes jobs of a project whose folders the pods do not see."""
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    s3.put("data/set.txt", b"the data")
    project = tmp_path / "pro ject"
    project.mkdir()
    (project / "train.py").write_text(textwrap.dedent(TRAIN))
    storage = Storage(
        dirs={
            "data": Store(f"s3://{s3.bucket}/data", endpoint=s3.endpoint),
            "out": Store(f"s3://{s3.bucket}/out", endpoint=s3.endpoint, write=True),
        },
        remote=Store(f"s3://{s3.bucket}/lightex", endpoint=s3.endpoint),
    )
    folders = KubernetesEngine.folders(storage, project)

    def make(*command, number=0, epochs=3, **fields):
        place = project / "runs" / "demo" / f"261123-101010-abcd-{number:03d}"
        run = RunDir.create(place, {"id": place.name, "command": []}, {}, {"state": "QUEUED"})
        words = command or ("python3", "train.py", folders["data"], folders["out"], str(epochs))
        env = {"LX_RUN_DIR": str(run.path), "LX_RUN_ID": run.id, "LX_SWEEP": "abcd", "LX_ATTEMPT": "1"}
        known = {
            "resources": Resources(cpus=0.1),
            "container": Container(image),
            "options": {"lightex_image": image, "pull_policy": "IfNotPresent"},
            "storage": storage,
            "grace": 5.0,
        }
        return Job(run=run, command=words, env=env, cwd=project, project=project, **known | fields)

    return make


def run_all(*jobs):
    ended = Queue(list(jobs), KubernetesEngine(), "kubernetes").run()
    return ended, jobs[0].run.events()[-1]


def test_code_and_data_go_there_and_runs_come_back_whole(job, s3, tmp_path):
    jobs = [job(number=number) for number in range(3)]
    ended, last = run_all(*jobs)
    assert ended == {"SUCCEEDED": 3}, last
    for each in jobs:
        assert each.run.output_file.read_text() == "read the data\n" * 3
        assert len(each.run.records_file().read_text().splitlines()) >= 3
        assert (each.run.artifacts / "model.bin").read_bytes() == bytes(range(256)) * 4000
        assert [event["state"] for event in each.run.events() if event["state"] not in ("SUBMITTED",)] == [
            "QUEUED", "RUNNING", "SUCCEEDED"]  # fmt: skip
    assert s3.read("out/of-0") == b"made"
    assert len(s3.keys("lightex/code/")) == 1, "a sweep sends its code once"
    wait_for(lambda: not s3.keys("lightex/runs/"))  # what is here whole is not kept twice


def test_a_run_is_seen_while_it_runs(job):
    one = job(epochs=1000)
    engine = KubernetesEngine()
    handle, _ = engine.submit(one, [])
    deadline = time.monotonic() + 40
    # A file may be there, empty, before what was written first has come back.
    while not all(file.exists() and file.stat().st_size for file in (one.run.output_file, one.run.records_file())):
        assert time.monotonic() < deadline, one.run.events()
        assert all(state.state not in ENDED for state in engine.poll([handle], 0.1).values())
    assert one.run.output_file.read_text().startswith("read the data\n")
    engine.cancel(handle)
    while not (state := engine.poll([handle], 0.2).get(handle)) or state.state not in ENDED:
        assert time.monotonic() < deadline
    logged = one.run.records_file().read_text().splitlines()
    assert all(json.loads(line) for line in logged)
    engine.close()


def test_the_next_supervisor_gets_what_is_back_in_the_store(job):
    one = job(epochs=10)
    first = KubernetesEngine()
    handle, _ = first.submit(one, [])
    deadline = time.monotonic() + 40
    while not any(state.state == RUNNING for state in first.poll([handle], 0.1).values()):
        assert time.monotonic() < deadline
    first.close()
    second = KubernetesEngine()
    while not (state := second.poll([handle], 0.2).get(handle)) or state.state not in ENDED:
        assert time.monotonic() < deadline
    assert state.state == "SUCCEEDED"
    assert one.run.output_file.read_text() == "read the data\n" * 10
    second.close()


def test_a_further_attempt_finds_what_the_first_has_kept(job):
    first = job(
        "sh", "-c", 'mkdir -p "$LX_RUN_DIR/artifacts"; echo kept >"$LX_RUN_DIR/artifacts/ckpt"; echo one; exit 3'
    )
    assert run_all(first)[1]["exit_code"] == 3
    env = {**first.env, "LX_ATTEMPT": "2"}
    from dataclasses import replace

    words = ("sh", "-c", 'cat "$LX_RUN_DIR/artifacts/ckpt"')
    second = replace(first, attempt=2, env=env, command=words)
    assert run_all(second)[0] == {"SUCCEEDED": 1}
    assert first.run.output_file.read_text() == "one\n--- attempt 2 ---\nkept\n"


def test_another_user_than_root_can_do_all_of_it(job):
    options = {**job(number=9).options, "user": "1234:1234"}
    one = job(options=options)
    ended, last = run_all(one)
    assert ended == {"SUCCEEDED": 1}, last
    assert one.run.output_file.read_text() == "read the data\n" * 3


def test_what_depends_on_a_run_gets_all_that_it_has_kept(job):
    first = job("sh", "-c", 'mkdir -p "$LX_RUN_DIR/artifacts"; head -c 20000000 /dev/zero >"$LX_RUN_DIR/artifacts/big"')
    assert run_all(first)[0] == {"SUCCEEDED": 1}
    second = job("sh", "-c", f'wc -c <"{first.run.path}/artifacts/big"', number=1, after=(first.run.path,))
    ended, last = run_all(second)
    assert ended == {"SUCCEEDED": 1}, last
    assert second.run.output_file.read_text().strip() == "20000000"


def test_two_nodes_each_bring_back_what_they_wrote(job):
    one = job(resources=Resources(cpus=0.1, nodes=2))
    ended, last = run_all(one)
    assert ended == {"SUCCEEDED": 1}, last
    for name in ("output.log", "output.1.log"):
        assert (one.run.path / name).read_text() == "read the data\n" * 3
    assert one.run.records_file(0).exists()
    assert one.run.records_file(1).exists()


def test_data_that_is_not_there_is_told(job, s3):
    s3.client.delete_object(Bucket=s3.bucket, Key="data/set.txt")
    _, last = run_all(job())
    assert (last["state"], last["cause"]) == ("FAILED", "launch")
    assert last["reason"].startswith("its folders could not be brought: ")
    assert f"s3://{s3.bucket}/data" in last["reason"]


def test_a_command_that_is_killed_brings_back_what_it_wrote(job):
    one = job("python3", "-c", "print('eats', flush=True); kept = [bytearray(1 << 20) for _ in range(400)]",
              resources=Resources(cpus=0.1, memory="64MiB"))  # fmt: skip
    _, last = run_all(one)
    assert (last["state"], last["cause"]) == ("FAILED", "oom")
    assert one.run.output_file.read_text() == "eats\n"


def test_a_claim_is_seen_where_the_template_says(docker_cluster, tmp_path):
    """A persistent volume claim; and one that this machine sees too, by which runs need not travel."""
    shared = docker_cluster.add_claim("shared")
    data = docker_cluster.add_claim("sets")
    (data / "small").mkdir()
    (data / "small" / "x").write_text("claimed")
    project = shared / "home" / "project"
    project.mkdir(parents=True)
    storage = Storage(dirs={"data": "pvc://sets/small"}, remote=Store("pvc://shared/home", path=str(shared / "home")))
    place = KubernetesEngine.folders(storage, project)["data"]
    assert place == "/lx/dirs/data"
    run = RunDir.create(project / "runs/demo/261123-101010-abcd-000", {"id": "x"}, {}, {"state": "QUEUED"})
    one = Job(run=run, command=("cat", f"{place}/x"), env={}, cwd=project, project=project, storage=storage,
              resources=Resources(cpus=0.1), container=Container(BASE))  # fmt: skip
    assert run_all(one)[0] == {"SUCCEEDED": 1}, run.events()[-1]
    assert run.output_file.read_text() == "claimed"
    (made,) = [body for _, kind, body in docker_cluster.bodies if kind == "jobs"]
    volumes = made["spec"]["template"]["spec"]["volumes"]
    assert not [each for each in volumes if "hostPath" in each]
