"""Contract suites for authors of sinks: subclass one, give one fixture, run pytest (docs/sinks.md)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lightex
from lightex.core.rundir import RunDir
from lightex.mulogger.delivery import Delivery, choose, progress
from lightex.mulogger.run import Run


@dataclass(frozen=True)
class Held:
    """What a backend holds of a run.

    Attributes:
        params: as text by name.
        metrics: a list of (step, value) by name, in any order.
        status: the backend's word for the state; None where it has none.
    """

    params: Mapping[str, str]
    metrics: Mapping[str, list[tuple[float | None, float]]]
    status: str | None = None


@dataclass(frozen=True)
class Backend:
    """A sink under test.

    Attributes:
        name: of its entry point.
        read: gives what the backend holds of a run that is closed.
        options: of the sink.
        renamed: gives the name under which the backend has a metric.
        nonfinite: whether it holds NaN and infinity.
        statuses: its words for SUCCEEDED and FAILED; None where it has none.
    """

    name: str
    read: Callable[[RunDir], Held]
    options: Mapping[str, Any] = field(default_factory=dict)
    renamed: Callable[[str], str] = str
    nonfinite: bool = True
    statuses: tuple[str, str] | None = None


ODD_NAMES = ["", "a b", "train/loss", "a//b", "/lead", "..", "größe", "名", "a:b", "x" * 300, "a?b", "a*b", "<b>"]
"""Names that backends find hard."""


class SinkContract:
    """The behaviour that every sink must show. Override the fixture `backend`."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        """The backend, empty."""
        raise NotImplementedError

    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
        """A local run that no feeder looks after."""
        for name in [name for name in os.environ if name.startswith("LX_")]:
            monkeypatch.delenv(name)
        monkeypatch.setattr("lightex.mulogger.feeder.ensure", lambda run: None)
        return lightex.start_run("contract", root=tmp_path / "runs", params={"lr": 0.1, "model": {"depth": 3}})

    def deliver(self, backend: Backend, run: Run) -> Held:
        """Feed all of a run, as the feeder does, and read it back."""
        choose(run.directory, backend.name, backend.options)
        delivery = Delivery(run.directory, backend.name)
        assert delivery.open()
        while delivery.feed():
            pass
        failed = [record for record in run.directory.events() if record.get("state") == "FAILED"]
        delivery.close("FAILED" if failed else "SUCCEEDED", "it broke" if failed else None)
        assert progress(run.directory, backend.name).closed
        return backend.read(run.directory)

    def test_params_and_metrics_arrive_with_their_steps(self, backend: Backend, run: Run) -> None:
        """All of them, those out of order and repeated too."""
        with run:
            for step in (0, 1, 5, 3, 3):
                run.log({"loss": 1.0 / (step + 1), "acc": step}, step=step)
        held = self.deliver(backend, run)
        assert held.params["lr"] == "0.1"
        assert held.params["model.depth"] == "3"
        assert sorted(held.metrics[backend.renamed("acc")]) in (
            [(0, 0), (1, 1), (3, 3), (3, 3), (5, 5)],
            [(0, 0), (1, 1), (3, 3), (5, 5)],  # a backend may hold a value of a step once
        )
        assert held.metrics[backend.renamed("loss")][0][1] == pytest.approx(1.0)

    def test_the_status_is_told(self, backend: Backend, run: Run) -> None:
        """A failed run is not a finished one."""
        run.log({"loss": 1.0}, step=0)
        run.finish("FAILED", "it broke")
        held = self.deliver(backend, run)
        assert backend.statuses is None or held.status == backend.statuses[1]

    def test_a_feeder_that_dies_makes_no_gaps_and_no_duplicates(self, backend: Backend, run: Run) -> None:
        """A second one goes on where the first one was, also where the first wrote more than it noted down."""
        choose(run.directory, backend.name, backend.options)
        run.log({"loss": 0.0}, step=0)
        first = Delivery(run.directory, backend.name)
        assert first.open()
        assert first.feed()
        run.log({"loss": 1.0}, step=1)
        assert first.feed()
        first.close()  # without a status: the run goes on
        assert progress(run.directory, backend.name).closed is None
        with run:
            run.log({"loss": 2.0}, step=2)
        assert sorted(self.deliver(backend, run).metrics[backend.renamed("loss")]) == [(0, 0.0), (1, 1.0), (2, 2.0)]

    def test_a_run_that_is_resumed_goes_on(self, backend: Backend, run: Run) -> None:
        """A closed run is opened again."""
        run.log({"loss": 0.0}, step=0)
        run.finish("FAILED", "killed")
        self.deliver(backend, run)
        with lightex.start_run(root=run.dir.parent.parent, resume=run.id) as again:
            again.log({"loss": 1.0}, step=1)
            again.finish()
        held = self.deliver(backend, again)
        assert sorted(held.metrics[backend.renamed("loss")]) == [(0, 0.0), (1, 1.0)]

    def test_odd_names_stay_apart(self, backend: Backend, run: Run) -> None:
        """Whatever the backend's rules are, no two names become one."""
        with run:
            run.log({name: float(number) for number, name in enumerate(ODD_NAMES)}, step=1)
        held = self.deliver(backend, run)
        values = [value for points in held.metrics.values() for step, value in points if step == 1]
        assert sorted(values) == [float(number) for number in range(len(ODD_NAMES))]

    def test_nonfinite_numbers_and_params_that_change_are_no_obstacle(self, backend: Backend, run: Run) -> None:
        """What the backend cannot hold is passed over, what follows arrives."""
        with run:
            run.log({"loss": math.nan, "up": math.inf, "down": -math.inf}, step=0)
            run.log_params({"lr": 0.5, "note": "x" * 20_000, "empty": "", "none": None})
            run.set_tags({"a": "b", "long": "y" * 10_000})
            run.log({"loss": 1.0}, step=1)
        held = self.deliver(backend, run)
        points = dict(held.metrics[backend.renamed("loss")])
        assert points[1] == 1.0
        if backend.nonfinite:
            assert math.isnan(points[0])

    def test_many_metric_names(self, backend: Backend, run: Run) -> None:
        """10,000 distinct ones."""
        with run:
            for start in range(0, 10_000, 500):
                run.log({f"m{number}": 1.0 for number in range(start, start + 500)}, step=1)
        assert len([name for name in self.deliver(backend, run).metrics if name.startswith("m")]) == 10_000

    def test_everything_that_can_be_logged_is_taken(self, backend: Backend, run: Run, tmp_path: Path) -> None:
        """Images, figures, tables, sounds, histograms, texts, files, models: held, or said once that they are not."""
        numpy = pytest.importorskip("numpy")
        pyplot = pytest.importorskip("matplotlib.pyplot")
        graphs = pytest.importorskip("plotly.graph_objects")
        pyplot.switch_backend("agg")
        (tmp_path / "kept.txt").write_text("kept")
        with run:
            run.log_image("images/one", numpy.zeros((4, 5, 3)), step=1, caption="<b>")
            figure, axes = pyplot.subplots()
            axes.plot([1, 2])
            run.log_figure("plot", figure, step=1)
            pyplot.close(figure)
            run.log_figure("interactive", graphs.Figure(graphs.Scatter(y=[1, 2])), step=1)
            run.log_table("table", [{"a": 1, "b": "x|y"}, {"a": 2, "b": None}], step=1)
            run.log_audio("sound", numpy.sin(numpy.arange(800) / 10), 8000, step=1)
            run.log_histogram("weights", numpy.arange(10.0), step=1)
            run.log_text("<script>alert(1)</script>", "note", step=1)
            run.log_artifact(tmp_path / "kept.txt")
            run.log_artifact(tmp_path / "kept.txt", "folder/again.txt")
            run.log_model(tmp_path / "kept.txt", "model")
            run.log({"loss": 1.0}, step=1)
        held = self.deliver(backend, run)
        assert held.metrics[backend.renamed("loss")] == [(1, 1.0)]
