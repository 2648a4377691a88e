"""Packages and programs that some tests need for real: absent ones skip, or fail where LX_REQUIRE names them."""

import importlib.util
import os

import pytest


def need(*packages: str) -> pytest.MarkDecorator:
    """Skip with a reason where a package is missing; in CI, LX_REQUIRE=sinks makes that a failure."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    required = "sinks" in os.environ.get("LX_REQUIRE", "").split(",")
    return pytest.mark.skipif(
        bool(missing) and not required, reason=f"not installed: {', '.join(missing)} (pip install 'lightex[sinks]')"
    )
