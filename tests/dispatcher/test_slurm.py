"""The slurm engine, against a real controller and two nodes."""

import pytest

from lightex.dispatcher.engines.slurm import SlurmEngine
from lightex.testing import EngineContract

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]


class TestSlurmEngine(EngineContract):
    patience = 40.0

    @pytest.fixture
    def make_engine(self):
        return SlurmEngine
