"""Experiments on Kubernetes, by the command line; pods are containers of a docker daemon."""

import os
import signal
import subprocess

import pytest
import yaml

from tests.helpers import LX, kill_supervisor, wait_for
from tests.services.docker import BASE

pytestmark = [pytest.mark.docker]

THERE = ["-e", "kubernetes", f"container.image={BASE}", "container.mount_lightex=true"]


def runs(lx, *arguments):
    return lx("ls", "--json", *arguments).json


def test_a_sweep_runs_as_jobs_with_no_change_but_the_image(project, lx, docker_cluster):
    done = lx("run", "grid", *THERE)
    assert done.code == 0, done
    assert "3 succeeded" in done.out
    assert sorted(run["metrics"]["loss"] for run in runs(lx)) == pytest.approx([0.001 / 3, 0.01 / 3, 0.1 / 3])
    assert "done 0.01" in lx("logs", runs(lx)[1]["id"]).out
    wait_for(lambda: not docker_cluster.list("jobs"))


def test_a_supervisor_that_is_killed_is_replaced_and_nothing_runs_twice(project, lx, docker_cluster):
    (project / "train.py").write_text(
        "import os, time\nopen(os.environ['LX_RUN_DIR'] + '/began', 'a').write('x')\n"
        "while not os.path.exists('go'): time.sleep(0.05)\n"
    )
    with (project / "said").open("wb") as said:
        keeper = subprocess.Popen([*LX, "run", "grid", *THERE], stdout=said, stderr=said, start_new_session=True)
    try:
        wait_for(lambda: len(list(project.glob("runs/demo/*/began"))) == 3, seconds=60)
        kill_supervisor(keeper)
        (project / "go").touch()
        assert keeper.wait(60) == 0, (project / "said").read_text()
    finally:
        if keeper.poll() is None:
            os.killpg(keeper.pid, signal.SIGKILL)
    assert [path.read_text() for path in project.glob("runs/demo/*/began")] == ["x"] * 3
    assert [run["status"] for run in runs(lx)] == ["SUCCEEDED"] * 3


def test_a_stopped_sweep_leaves_nothing_in_the_cluster(project, lx, docker_cluster):
    (project / "train.py").write_text("import time; print('began', flush=True); time.sleep(100)")
    with (project / "said").open("wb") as said:
        process = subprocess.Popen([*LX, "run", "grid", *THERE, "grace=1"], stdout=said, stderr=said,
                                   start_new_session=True)  # fmt: skip
    wait_for(lambda: len(list(project.glob("runs/demo/*/output.log"))) == 3, seconds=60)
    wait_for(lambda: all("began" in path.read_text() for path in project.glob("runs/demo/*/output.log")), seconds=60)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert {run["status"] for run in runs(lx)} == {"CANCELLED"}
    wait_for(lambda: not docker_cluster.list("jobs") and not docker_cluster.list("pods"))


def test_the_printed_manifest_does_the_same(project, lx, docker_cluster, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    done = lx("run", "base", *THERE, 'container.inherit=["HF_TOKEN"]', "--print-manifest")
    assert done.code == 0, done
    assert "s3cret" not in done.out
    assert '--from-literal=HF_TOKEN="$HF_TOKEN"' in done.out
    (job,) = [each for each in yaml.safe_load_all(done.out) if each]
    name = job["metadata"]["name"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"HF_TOKEN": "x"}}
    docker_cluster.create(secret)
    docker_cluster.create(job)
    wait_for(lambda: docker_cluster.get("jobs", name)["status"].get("succeeded"), seconds=60)
    assert "resume" in done.err
    resumed = lx("resume", "-j", "1")
    assert "nothing to resume, 1 succeeded" in resumed.out, resumed


def test_mistakes_are_told_before_anything_is_written(project, lx, cluster):
    for more, words in (
        (["engine_options.kubernetes.namespce=x"], "Did you mean 'namespace'?"),
        (["container.options={'privileged': True}"], "'privileged' is an option of docker's"),
        (["engine_options.kubernetes.context=prod"], "there is no context 'prod'"),
        (["engine_options.kubernete.namespace=x"], "there is no engine 'kubernete'. Did you mean 'kubernetes'?"),
    ):
        done = lx("run", "base", *THERE, *more)
        assert done.code == 2, done
        assert words in done.err
    done = lx("run", "base", *THERE, "engine_options.kubernetes.namespace=nowhere")
    assert 'namespaces "nowhere" not found' in done.err, done
    done = lx("run", "base", *THERE, 'engine_options.kubernetes.labels={"a b": "c"}')
    assert "namespace default does not take Jobs of demo" in done.err, done
    assert not cluster.list("jobs")
    cluster.deny("create", "jobs")
    done = lx("run", "base", *THERE)
    assert "you may not create Jobs in namespace default" in done.err
    cluster.down()
    assert "does not answer" in lx("run", "base", *THERE).err
    assert not (project / "runs").exists()


def test_several_nodes_are_not_for_every_engine(project, lx):
    done = lx("run", "base", "resources.nodes=2")
    assert done.code == 2
    assert "demo wants 2 nodes, and the engine process runs a command on one" in done.err
    assert "kubernetes" in done.err


def test_the_manifest_of_a_teams_mlflow(lx):
    done = lx("mlflow", "manifest", "-n", "team")
    assert done.code == 0
    assert [each["kind"] for each in yaml.safe_load_all(done.out)] == ["PersistentVolumeClaim", "Deployment", "Service"]
    assert 'env={"MLFLOW_TRACKING_URI": "http://mlflow.team:5000"}' in done.out
