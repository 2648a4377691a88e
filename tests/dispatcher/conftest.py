"""Daemons that the tests of this folder share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import docker as services


@pytest.fixture(scope="session")
def _daemon() -> Iterator[str]:
    reason = services.lacks("docker", "dockerd") or ("" if services.PYTHON.exists() else "there is no Debian Python")
    if reason:
        services.skip_or_fail("docker", reason)
    folder = Path(tempfile.mkdtemp(prefix="lx-docker-"))  # short: a socket's path has 107 characters at most
    try:
        with services.daemon(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def docker(_daemon: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a docker daemon that has the base image; DOCKER_HOST names it."""
    monkeypatch.setenv("DOCKER_HOST", _daemon)
    return _daemon


@pytest.fixture(scope="session")
def _swarm() -> Iterator[services.Swarm]:
    reason = services.lacks("docker", "dockerd", "docker-registry", "ip", "nsenter", "unshare")
    if reason:
        services.skip_or_fail("swarm", reason)
    folder = Path(tempfile.mkdtemp(prefix="lx-swarm-"))
    swarm = services.Swarm(folder)
    try:
        swarm.up()
        yield swarm
    finally:
        swarm.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def swarm(_swarm: services.Swarm, monkeypatch: pytest.MonkeyPatch) -> services.Swarm:
    """A swarm of two nodes; DOCKER_HOST names its manager."""
    monkeypatch.setenv("DOCKER_HOST", _swarm.manager.socket)
    return _swarm
