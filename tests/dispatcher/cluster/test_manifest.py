"""A job as objects of Kubernetes: what the published schemas take, and what a person can read and apply."""

import json
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Container, Resources, Storage, Store
from lightex.dispatcher.engines.cluster import manifest, mlflow, options, printing
from lightex.dispatcher.engines.cluster.manifest import Travel
from lightex.dispatcher.job import Job

VERSIONS = ("1.34", "1.35", "1.36", "1.37")

EVERYTHING = {
    "namespace": "team",
    "service_account": "trainer",
    "pull_policy": "Always",
    "pull_secrets": ["registry"],
    "secrets": ["wandb"],
    "priority_class": "low",
    "queue": "team",
    "node_selector": {"zone": "a"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "labels": {"cost-centre": "7"},
    "annotations": {"note": "x"},
    "user": "1000:100",
    "ttl": "1h",
    "deadline": "2d",
    "pod": {
        "runtimeClassName": "nvidia",
        "securityContext": {"fsGroup": 5},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
    },
    "lightex_image": "lightex:1",
}
TRAVEL = Travel(
    {"run": "/r"}, Path("/code"), True, {"url": "s3://b/p", "endpoint": None}, {"AWS_ACCESS_KEY_ID": "secret"}
)


@pytest.fixture
def job(tmp_path):
    def make(**fields):
        run = RunDir(tmp_path / "runs" / "demo" / "261123-101010-abcd-003")
        run.path.mkdir(parents=True, exist_ok=True)
        known = {"resources": Resources(), "container": Container("image:1"), "project": tmp_path, "cwd": tmp_path}
        env = {"LX_SWEEP": "abcd", "ODD": "$(HOME) $$ $X"}
        return Job(run=run, command=("python", "train.py", "$(x)"), env=env, **known | fields)

    return make


def made(job, travel=None, **given):
    return manifest.objects(job, "image:1", options.read(given), given.get("namespace", "default"), travel)


@cache
def _strict(version):
    return lambda found: kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_the_last_versions_take_all_that_can_be_said(job, version, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "x")
    stores = Storage(
        dirs={
            "a": "s3://b/x",
            "b": Store("s3://b/y", write=True),
            "c": "nfs://server/export",
            "d": "pvc://claim/x",
            "e": "/e",
        },
        remote="s3://b/lightex",
    )
    needs = Resources(cpus=1.5, memory="2GiB", gpus=2, shared_memory="1GiB", node_labels=("disk=fast",), nodes=2)
    container = Container("image:1", mounts={"volume:claim": "/v:ro"}, options={"entrypoint": "/entry"}, keep=True)
    full = job(storage=stores, resources=needs, container=container, inherit=("HF_*",), after=(Path("/before"),))
    small = job()
    shared = job(storage=Storage(remote=Store("nfs://server/home", path=str(tmp_path)), dirs={"d": "data"}))
    for found in (
        made(full, TRAVEL, **EVERYTHING),
        made(small),
        made(shared),
        made(full, TRAVEL, s3_secret="s3", lightex_image="l:1"),
    ):
        for each in filter(None, (found.job, found.service)):
            _strict(version)(each)
    for each in mlflow.objects("team", "mlflow:1", "1Gi", "fast"):
        _strict(version)(each)


def test_a_port_of_nfs_is_refused_which_a_pod_has_no_words_for(job):
    with pytest.raises(ConfigError, match="no port") as caught:
        made(job(storage=Storage(dirs={"c": "nfs://server:2050/export"})))
    assert 'mountOptions ["port=2050"]' in str(caught.value)


def test_what_is_said_is_there(job, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "never written down")
    needs = Resources(cpus=1.5, memory="2GiB", gpus=2, node_labels=("disk=fast",), nodes=2)
    found = made(job(resources=needs, inherit=("HF_*",), grace=7.5), TRAVEL, **EVERYTHING)
    spec = found.job["spec"]
    pod = spec["template"]["spec"]
    command, returns = pod["containers"]
    assert spec | {"template": 0} == {
        "backoffLimit": 0, "ttlSecondsAfterFinished": 3600, "activeDeadlineSeconds": 172800, "template": 0,
        "completions": 2, "parallelism": 2, "completionMode": "Indexed"}  # fmt: skip
    assert command["resources"]["limits"] == {"cpu": "1500m", "memory": str(2 << 30), "nvidia.com/gpu": "2"}
    assert pod["nodeSelector"] == {"disk": "fast", "zone": "a"}
    assert pod["securityContext"] == {"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 5}
    assert pod["terminationGracePeriodSeconds"] == 8 + manifest.RETURNS
    assert (returns["name"], pod["initContainers"][0]["name"]) == ("return", "stage")
    assert "never written down" not in json.dumps(found.job)
    assert "secret" not in json.dumps([found.job, found.service]).replace("secretKeyRef", "").replace(
        "Secrets", ""
    ).replace("secretRef", "")
    assert found.secret == {"HF_TOKEN": "never written down", "AWS_ACCESS_KEY_ID": "secret"}
    assert "never" not in repr(found)
    env = {each["name"]: each for each in command["env"]}
    name = found.job["metadata"]["name"]
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": name, "key": "HF_TOKEN"}
    assert env["MASTER_ADDR"]["value"] == f"{name}-0.{name}"
    assert found.service["metadata"]["name"] == name == pod["subdomain"]


def test_nothing_is_taken_for_a_variable_of_kubernetes(job):
    """It replaces $(NAME) in arguments and values, and makes $ of $$ (k8s.io/kubernetes/third_party/forked/golang/expansion)."""
    command = made(job()).job["spec"]["template"]["spec"]["containers"][0]
    assert command["args"][-1] == "$$(x)"
    assert {each["name"]: each.get("value") for each in command["env"]}["ODD"] == "$$(HOME) $$$$ $$X"


def test_names_are_short_and_no_other_runs(job, tmp_path):
    names = {job().name, job(attempt=2).name}
    assert len(names) == 2
    assert all(len(name) <= 52 and name.startswith("lx-abcd-003-") for name in names)  # a pod's host name has 63


@given(st.text(), st.text(max_size=100))
def test_yaml_of_any_text_is_read_as_the_same_text(name, text):
    """By PyYAML, which reads YAML 1.1 as kubectl does: there `no` is no text."""
    given = {"a": [text, {"b": name}], "c": f"{text}\n{name}"}
    # What YAML 1.1 cannot hold, a command line cannot either, but for these: they are not for this test.
    assert yaml.safe_load(printing.dump([given])) == given


@pytest.mark.parametrize(
    "text", ["no", "Yes", "on", "1e3", "0x10", "1:30", "~", "null", "2026-01-01", "=", "", " x", "a\nb ", "ü\n"]
)
def test_yaml_of_odd_words_is_read_as_the_same_words(text):
    assert yaml.safe_load(printing.dump([{"a": text}])) == {"a": text}


def test_the_server_of_a_team_is_one_that_mlflow_starts(tmp_path, monkeypatch):
    """With the arguments of the manifest, and asked by the names that it has in a cluster."""
    from tests.services import free_port

    pytest.importorskip("mlflow")
    import subprocess
    import sys
    import urllib.request

    from tests.helpers import wait_for

    port = free_port()
    words = mlflow.arguments("team", str(tmp_path), "127.0.0.1", port)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *words, "--workers", "1"], stdout=log, stderr=log,
                                  start_new_session=True)  # fmt: skip

    def asked(host):
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    try:
        wait_for(lambda: asked("mlflow.team:5000") == 200, seconds=60)
        assert asked("mlflow") == asked("127.0.0.1:5000") == 200
        assert asked("evil.example.com") == 403
    finally:
        import os

        os.killpg(server.pid, 9)
        server.wait()
