"""The swarm engine, against two real daemons on a network of their own."""

import pytest

from lightex.core.taxonomy import Container
from lightex.dispatcher.engines.swarm import SwarmEngine
from lightex.testing import EngineContract
from tests.services.docker import BASE

pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.usefixtures("swarm")]


class TestSwarmEngine(EngineContract):
    options = {"container": Container(BASE)}
    patience = 60.0

    @pytest.fixture
    def make_engine(self):
        return SwarmEngine
