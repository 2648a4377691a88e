"""What `lx doctor -e kubernetes` says of a cluster."""

import pytest

from lightex.core.errors import LightexError
from lightex.core.taxonomy import Build, Container, Experiment, Storage
from lightex.dispatcher.engines.cluster import api, examine
from lightex.dispatcher.engines.kubernetes import KubernetesEngine


def words(*experiments, project):
    return {(each.what, each.ok): each.words for each in KubernetesEngine().examine(experiments, project)}


def wants(**options):
    return Experiment("demo", command="true", container=Container("image:1"), engine_options={"kubernetes": options})


def test_a_ready_cluster(cluster, tmp_path):
    found = words(wants(), project=tmp_path)
    assert found["cluster", True].startswith("Kubernetes v1.")
    assert "create jobs" in found["rights", True]
    assert found["namespace", True] == "default"
    assert not [each for each in found if each[1] is False]


def test_rights_that_are_lacking_are_named_one_by_one(cluster, tmp_path):
    cluster.deny("create", "jobs")
    cluster.deny("create", "secrets")
    found = words(wants(), project=tmp_path)
    assert found["rights", False].startswith("you may not create jobs in namespace default")
    assert "container.inherit" in found["rights", None]
    with pytest.raises(LightexError, match="you may not create Jobs"):
        examine.check_rights(api.connect(), "default")


def test_whether_what_runs_use_can_be_seen(cluster, tmp_path):
    assert words(wants(), project=tmp_path)["metrics", None].startswith("the cluster has no metrics API")
    cluster.measures = {"cpu": "1", "memory": "1Mi"}
    assert words(wants(), project=tmp_path)["metrics", True] == "what runs use is told while they run"
    cluster.deny("list", "podmetrics")
    assert words(wants(), project=tmp_path)["metrics", None].startswith("you may not list pods of metrics.k8s.io")
    cluster.fail("discover", "podmetrics", code=503, times=10)  # its server is not there
    assert "the metrics API does not tell" in words(wants(), project=tmp_path)["metrics", None]


def test_what_options_name_is_looked_for(cluster, tmp_path):
    cluster.add_priority_class("low", 1)
    found = words(wants(priority_class="low", service_account="nobody", secrets=["wandb"]), project=tmp_path)
    assert found["priority class", True] == "low"
    assert found["service account", False] == "there is no service account 'nobody' in the cluster"
    assert found["secret", False] == "there is no secret 'wandb' in the cluster"


def test_a_namespace_that_is_not_there(cluster, tmp_path):
    assert words(wants(namespace="nope"), project=tmp_path)["namespace", False].startswith(
        "there is no namespace 'nope'"
    )


def test_claims_and_images(cluster, tmp_path):
    cluster.add_claim("sets")
    storage = Storage(dirs={"data": "pvc://sets/x", "more": "pvc://none"})
    built = Experiment("demo", command="true", container=Container(Build()), storage=storage)
    found = list(KubernetesEngine().examine([built], tmp_path))
    assert [each.ok for each in found if each.what == "storage"] == [None, True, False]
    assert "nodes cannot get it" in next(each.words for each in found if each.what == "image")


def test_no_cluster_at_all_and_one_that_is_away(cluster, tmp_path, monkeypatch):
    cluster.down()
    assert "does not answer" in words(wants(), project=tmp_path)["cluster", False]
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert "export KUBECONFIG=PATH" in words(wants(), project=tmp_path)["cluster", False]


def test_a_login_that_has_run_out(cluster, tmp_path):
    cluster.token = "another"
    assert "log in again" in words(wants(), project=tmp_path)["cluster", False]
