"""Models, kept and loaded back."""

import pytest

import lightex
from lightex.core.errors import LightexError
from lightex.core.rundir import RunDir
from tests.services import need


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lightex.start_run("demo")


def test_a_scikit_learn_model_is_loaded_back_in_one_call(local):
    from sklearn.linear_model import LogisticRegression

    with local:
        local.log_model(LogisticRegression(C=3).fit([[0], [1]], [0, 1]), "clf", example=[[0.0], [1.0]])
    assert lightex.load_model(local.id, "clf").C == 3
    assert lightex.load_model(local.dir, "clf").predict([[1.0]]).tolist() == [1]
    kept = [r["artifact"]["model"] for r in records(local) if "artifact" in r]
    assert kept[0]["example"] == {"input": [[0.0], [1.0]], "output": [0, 1]}
    assert kept[0]["versions"].keys() == {"scikit-learn", "skops"}
    with pytest.raises(LightexError, match="has no model 'model'"):
        lightex.load_model(local.id)


def test_types_that_could_run_code_are_named_and_not_loaded(local):
    from sklearn.pipeline import FunctionTransformer

    with local:
        local.log_model(FunctionTransformer(func=RunDir))
    with pytest.raises(LightexError, match=r"could run code(.|\n)*lightex.core.rundir.RunDir") as refused:
        lightex.load_model(local.id)
    assert "trusted=['lightex.core.rundir.RunDir']" in refused.value.details[0]
    assert lightex.load_model(local.id, trusted=["lightex.core.rundir.RunDir"]).func is RunDir


@need("torch")
def test_a_pytorch_model_is_loaded_back_without_pickle(local):
    import torch

    def make():
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())

    model = make()
    with local:
        local.log_model(model, "net", example=torch.zeros(1, 3))
    again = lightex.load_model(local.id, "net", into=make())
    assert torch.equal(again[0].weight, model[0].weight)
    assert list(lightex.load_model(local.id, "net")) == ["0.weight", "0.bias"]


def test_the_file_of_a_model_is_kept_and_not_loaded(local, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"x")
    with local:
        path = local.log_model(tmp_path / "m.bin")
    assert path.read_bytes() == b"x"
    with pytest.raises(LightexError, match="does not load models of format 'file'"):
        lightex.load_model(local.id)


def records(run):
    from lightex.core import journal

    return list(journal.read(run.directory.records_file()))
