"""What tests of qviz share."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
