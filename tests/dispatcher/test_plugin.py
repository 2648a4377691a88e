"""An engine in a package of its own passes the contract, and `lx` finds it by its name."""

import os
import sys
from pathlib import Path

import pytest

from lightex.core import plugins
from lightex.testing import EngineContract

PLUGIN = Path(__file__).parent / "plugin"
PAGE = Path(__file__).parents[2] / "docs" / "writing-an-engine.md"


@pytest.fixture
def plugin(monkeypatch):
    """The package `lightex-nohup`, installed for this process and those that it starts."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]))
    plugins.find.cache_clear()
    yield
    plugins.find.cache_clear()
    sys.modules.pop("lightex_nohup", None)


class TestNohupEngine(EngineContract):
    @pytest.fixture
    def make_engine(self, plugin):
        return plugins.load(plugins.ENGINES, "nohup")


def test_a_sweep_runs_on_it_by_its_name(plugin, project, lx):
    done = lx("run", "grid", "-e", "nohup")
    assert done.code == 0, done.err
    runs = lx("ls", "--json").json
    assert [run["status"] for run in runs] == ["SUCCEEDED"] * 3
    assert {
        event["engine"] for path in Path("runs/demo").iterdir() for event in _events(path) if "engine" in event
    } == {"nohup"}


def _events(path):
    from lightex.core.rundir import RunDir

    return RunDir(path).events()


def test_the_page_shows_every_method_that_has_no_default():
    text = PAGE.read_text()
    for name in ("capacity", "submit", "find", "poll", "cancel", "close"):
        assert f"def {name}(self" in text
    assert len(text.splitlines()) < 80
