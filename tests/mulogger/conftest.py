"""A plugin sink on the path, and programs that log in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lightex.core import plugins
from lightex.core.rundir import RunDir
from lightex.mulogger.delivery import progress

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def plugin(monkeypatch):
    """The package `lightex-jsonsink`, installed for this process and those that it starts."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    paths = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    plugins.find.cache_clear()
    yield
    plugins.find.cache_clear()
    sys.modules.pop("lightex_jsonsink", None)


def until(condition, seconds=30.0, what="it"):
    """Poll until a condition holds; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)
    return value


@dataclass
class Program:
    """A program that logs, with a folder of runs, of caches and of what the plugin writes."""

    folder: Path

    def start(self, code, **environment):
        """Start it."""
        (self.folder / "program.py").write_text(code)
        return subprocess.Popen([sys.executable, "program.py"], cwd=self.folder, env=os.environ | environment)

    @property
    def run(self):
        """Its first run, or None."""
        found = sorted(self.folder.glob("runs/*/[0-9]*/run.json"))
        return RunDir(found[0].parent) if found else None

    @property
    def json(self):
        """The folder that the plugin writes into."""
        return self.folder / "json"

    def written(self):
        """What the plugin wrote of the first run."""
        path = self.json / f"{self.run.id}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def values(self):
        """The values of the metric `x` that it wrote."""
        return [record["metrics"]["x"] for record in self.written() if "x" in record.get("metrics", {})]

    def logged(self):
        """The values of the metric `x` that the program's calls had returned from."""
        lines = self.run.records_file().read_bytes().split(b"\n")[:-1]
        return [record["metrics"]["x"] for record in map(json.loads, lines) if "x" in record.get("metrics", {})]

    def closed(self, name="jsonsink", seconds=30.0):
        """Wait until a sink was told the end; returns the status."""
        return until(lambda: self.run and progress(self.run, name).closed, seconds, f"the end of {name}")

    def feeder(self):
        """The id of the feeder's process."""
        return until(lambda: next((int(p.read_text() or 0) for p in self.folder.glob("cache/feeders/*/lock")), 0))


@pytest.fixture
def program(tmp_path, monkeypatch, plugin):
    """A folder to run programs in; feeders that are left at the end are ended."""
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LX_SYNC_PATIENCE", "2")
    (tmp_path / "json").mkdir()
    made = Program(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield made
    for lock in tmp_path.glob("cache/feeders/*/lock"):
        try:
            os.kill(int(lock.read_text() or 0) or 2**30, signal.SIGKILL)
        except (ProcessLookupError, ValueError, OverflowError):
            continue
