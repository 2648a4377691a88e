"""Ray's token: who has it may run commands in a cluster."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_MODE, _TOKEN, _PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def use_ours() -> None:
    """Have this process's Ray take the token that the user has, where nothing else is said.

    `ray start` (2.60) makes a cluster that wants the token as soon as there is one; `ray.init` sends none by itself. A
    cluster that wants none does not mind.
    """
    if _MODE not in os.environ and (
        _TOKEN in os.environ or _PATH in os.environ or (Path.home() / ".ray" / "auth_token").exists()
    ):
        os.environ[_MODE] = "token"


def make() -> None:
    """Have the Ray that this process starts want a token that it alone knows, and leave none in the user's home."""
    os.environ |= {_MODE: "token", _TOKEN: secrets.token_hex(32)}
    os.environ.pop(_PATH, None)
