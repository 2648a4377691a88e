"""The MLflow sink, against a local SQLite store (a server over HTTP: test_feeder_faults.py)."""

import shutil

import pytest

from lightex.mulogger.delivery import native, progress
from lightex.testing import Backend, Held, SinkContract
from tests.services import need

pytestmark = [need("mlflow"), pytest.mark.filterwarnings("ignore")]


def read(run):
    sink = native(run, "mlflow")
    found = sink.client.get_run(sink.run_id)
    metrics = {}
    if len(found.data.metrics) > 1000:  # the histories of so many would take minutes
        return Held(found.data.params, {name: [(1, value)] for name, value in found.data.metrics.items()})
    for name in found.data.metrics:
        history = sink.client.get_metric_history(sink.run_id, name)
        metrics[name] = [(point.step, point.value) for point in history]
    return Held(found.data.params, metrics, found.info.status)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """Making the tables takes seconds: once, then copied."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


class TestMlflow(SinkContract):
    @pytest.fixture
    def backend(self, tmp_path, empty_store, monkeypatch):
        monkeypatch.chdir(tmp_path)
        shutil.copy(empty_store, tmp_path / "mlflow.db")
        return Backend(
            "mlflow",
            read,
            options={"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
            statuses=("FINISHED", "FAILED"),
        )

    def test_a_model_is_registered_where_asked(self, backend, run):
        from sklearn.linear_model import LogisticRegression

        with run:
            run.log_model(LogisticRegression().fit([[0], [1]], [0, 1]), example=[[0.0]], register="classifier")
        self.deliver(backend, run)
        sink = native(run.directory, "mlflow")
        (version,) = sink.client.search_model_versions("name = 'classifier'")
        assert version.run_id == sink.run_id
        files = [file.path for file in sink.client.list_artifacts(sink.run_id, "models/model")]
        assert files == ["models/model/model.json", "models/model/model.skops"]

    def test_a_changed_param_is_kept_as_it_was_and_said(self, backend, run):
        with run:
            run.log_param("lr", 0.9)
        assert self.deliver(backend, run).params["lr"] == "0.1"
        assert "keeps the first value" in progress(run.directory, "mlflow").notices[0]
