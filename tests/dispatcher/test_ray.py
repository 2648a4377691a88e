"""The ray engine, against a cluster of two nodes and its Jobs API."""

import importlib.util
import os
import signal
import time

import pytest

from lightex.core.taxonomy import Resources
from lightex.dispatcher.engines.rayside.link import Link
from lightex.dispatcher.queue import Queue
from lightex.testing import EngineContract
from tests.helpers import wait_for
from tests.services import ray as service
from tests.services.docker import skip_or_fail

pytestmark = [pytest.mark.ray]

HERE = {"second": 1}


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory):
    if importlib.util.find_spec("ray") is None:
        skip_or_fail("ray", "not installed: pip install 'lightex[ray]'")
    cluster = service.Cluster()
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (service.TOKEN | {"LX_CACHE": str(cache)}).items():
            patch.setenv(name, value)
        try:
            cluster.up()
            held = Link(cluster.address)  # its broker stays for all tests, which saves each of them a second
            held.open()
            yield cluster, cache
            held.close()
        finally:
            service.end_brokers(cache)
            cluster.down()


@pytest.fixture
def cluster(_cluster, monkeypatch):
    """Both nodes; RAY_ADDRESS names the head."""
    found, cache = _cluster
    monkeypatch.setenv("LX_CACHE", str(cache))
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    for name, value in service.TOKEN.items():
        monkeypatch.setenv(name, value)
    found.start_second()
    return found


@pytest.mark.usefixtures("cluster")
class TestRayEngine(EngineContract):
    patience = 60.0

    @pytest.fixture
    def make_engine(self):
        from lightex.dispatcher.engines.ray import RayEngine

        return RayEngine
