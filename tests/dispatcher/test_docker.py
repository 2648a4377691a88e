"""The docker engine, against a real daemon."""

import pytest

from lightex.core.taxonomy import Container
from lightex.dispatcher.engines.docker import DockerEngine
from lightex.testing import EngineContract

BASE = "lightex-test/base:py3.11"


class TestDockerEngine(EngineContract):
    options = {"container": Container(BASE)}

    @pytest.fixture
    def make_engine(self):
        return DockerEngine
