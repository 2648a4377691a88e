"""The docker engine, against a real daemon."""

import pytest

from lightex.core.taxonomy import Container
from lightex.dispatcher.engines.docker import DockerEngine
from lightex.testing import EngineContract
from tests.services.docker import BASE

pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.usefixtures("docker")]


class TestDockerEngine(EngineContract):
    options = {"container": Container(BASE)}

    @pytest.fixture
    def make_engine(self):
        return DockerEngine
