"""The TensorBoard sink, read back by TensorBoard's own reader."""

import pytest

from lightex.testing import Backend, Held, SinkContract
from tests.services import need

pytestmark = [need("tensorboard"), pytest.mark.filterwarnings("ignore")]


def accumulated(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return found


def read(run):
    from tensorboard.plugins.hparams import metadata

    found = accumulated(run)
    metrics = {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}
    contents = found.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
    params = {
        name: f"{value.number_value:g}" if value.WhichOneof("kind") == "number_value" else value.string_value
        for name, value in start.hparams.items()
    }
    return Held(params, metrics, {1: "success", 2: "failure"}[end.status])


class TestTensorBoard(SinkContract):
    @pytest.fixture
    def backend(self):
        return Backend("tensorboard", read, statuses=("success", "failure"), renamed=lambda name: name or "_")

    def test_media_are_where_its_plugins_look_for_them(self, backend, run):
        import numpy as np

        with run:
            run.log_image("img", np.zeros((4, 5, 3)), step=2)
            run.log_audio("sound", np.zeros(80), 8000, step=2)
            run.log_histogram("w", [1.0, 2.0, 2.0], step=2)
            run.log_text("hello", "note", step=2)
        self.deliver(backend, run)
        found = accumulated(run.directory)
        (image,) = found.Images("img")
        assert (image.step, image.width, image.height) == (2, 5, 4)
        assert found.Audio("sound")[0].sample_rate == 8000
        assert found.Histograms("w")[0].histogram_value.num == 3
        assert found.Tensors("note/text_summary")[0].tensor_proto.string_val[0] == b"hello"
