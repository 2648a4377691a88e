"""The images that the daemon has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from docker.errors import ImageNotFound, NotFound

from lightex.core.cache import cache_folder
from lightex.dispatcher.engines.containers.daemon import connect, reaching

# github.com/distribution/reference, regexp.go
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-f]{{32,}})?"
)


@dataclass(frozen=True)
class Image:
    """An image that the daemon has.

    Attributes:
        name: what containers call it by.
        id: its digest.
        env: the variables that it sets.
        entrypoint: what it puts before a command.
        log: what its build printed, if it was built on this machine.
    """

    name: str
    id: str
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    log: Path | None = None


def is_name(text: str) -> bool:
    """Whether a text can be the name of an image."""
    return _REFERENCE.fullmatch(text) is not None


def inspect(name: str) -> Image | None:
    """The image of that name, if the daemon has it.

    Raises:
        DaemonError: the daemon refuses, or does not answer.
    """
    with reaching():
        try:
            found = connect().inspect_image(name)
        except (ImageNotFound, NotFound):
            return None
    config = found.get("Config") or {}
    pairs = (text.partition("=") for text in config.get("Env") or ())
    env = {key: value for key, _, value in pairs}
    log = log_of(name)
    return Image(name, found["Id"], env, tuple(config.get("Entrypoint") or ()), log if log.is_file() else None)


def log_of(name: str) -> Path:
    """Where the output of an image's build is kept."""
    return cache_folder() / "images" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.log"
