"""What goes into the build of an image, and the name that tells all of it: the same name, the same image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.utils.build import exclude_paths

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Build
from lightex.dispatcher.engines.containers.image import inspect, is_name

_DEPTH = 3  # how deep folders of runs are looked for
_ALWAYS_OUT = ("**/.git", "**/__pycache__", "**/.venv", "**/*.part")  # before .dockerignore, which can take them back


@dataclass(frozen=True)
class Context:
    """What goes into a build.

    Attributes:
        build: what the config says.
        folder: where the files are.
        files: those that are not ignored, relative to it, in order.
        name: of the image: it tells the contents of all that, and of the images that it starts from.
        size: bytes of the files.
    """

    build: Build
    folder: Path
    files: tuple[str, ...]
    name: str
    size: int

    @classmethod
    def of(cls, build: Build, project: Path) -> Context:
        """Read a context.

        Raises:
            ConfigError: it has no Dockerfile.
            DaemonError: the daemon refuses, or does not answer.
        """
        check(build, project)
        folder = _folder(build, project)
        files = tuple(sorted(exclude_paths(str(folder), [*_ignored(folder)], dockerfile=build.dockerfile)))
        bases = [_id_of(name) for name in _bases((folder / build.dockerfile).read_text(errors="replace"), build.args)]
        said = f"{build.dockerfile}\0{sorted(build.args.items())}\0{build.target}\0{bases}"
        digest, size = hashlib.blake2b(said.encode(), digest_size=8), 0
        for name in files:
            try:
                size += _digest(folder, name, digest)
            except OSError as error:
                raise ConfigError(
                    f"{folder / name} goes into the image, and cannot be read: {error.strerror}",
                    "what the image does not need belongs in .dockerignore",
                ) from error
        slug = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-") or "project"
        return cls(build, folder, files, f"{build.repository or f'lightex/{slug}'}:{digest.hexdigest()}", size)


def check(build: Build, project: Path) -> None:
    """Look whether there is something to build from.

    Raises:
        ConfigError: there is not.
    """
    folder = _folder(build, project)
    if not (folder / build.dockerfile).is_file():
        raise ConfigError(
            f"container.image: there is no {build.dockerfile} in {folder}",
            "lx init --docker writes one from what the project needs",
            'or name an image that exists: container=Container(image="python:3.12-slim")',
        )


def _bases(dockerfile: str, args: Mapping[str, str]) -> Iterator[str]:
    """The images that a Dockerfile starts from."""
    known: dict[str, str] = {}
    for word, rest in re.findall(r"(?mi)^\s*(ARG|FROM)\s+(.*)$", dockerfile):
        if word.upper() == "ARG":
            name, _, default = rest.strip().partition("=")
            known[name] = args.get(name, default.strip("\"'"))
        else:
            words = [part for part in rest.split() if not part.startswith("--")]
            yield re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), words[0]) if words else ""


def _id_of(name: str) -> str | None:
    """What a name stands for on this machine now; None: nothing, or it is the name of a stage."""
    image = inspect(name) if is_name(name) else None
    return image.id if image else None


def _folder(build: Build, project: Path) -> Path:
    return Path(os.path.abspath(project / Path(build.context).expanduser()))  # noqa: PTH100  links are kept


def _run_folders(folder: Path) -> Iterator[Path]:
    """The folders of runs in a folder, which have a `.sweeps`."""
    for depth in range(1, _DEPTH + 1):
        yield from (found.parent for found in folder.glob("*/" * depth + ".sweeps"))


def _ignored(folder: Path) -> Iterator[str]:
    """What does not go into a context: folders of runs, which change with every run, and what .dockerignore names."""
    yield from _ALWAYS_OUT
    yield from (found.relative_to(folder).as_posix() for found in _run_folders(folder))
    with suppress(FileNotFoundError):
        lines = (line.strip() for line in (folder / ".dockerignore").read_text(errors="replace").splitlines())
        yield from (line for line in lines if line and not line.startswith("#"))


def _digest(folder: Path, name: str, digest: Any) -> int:
    """Add one file to a digest: its name, whether it can be run, and what it holds. Returns its bytes."""
    path = folder / name
    if path.is_symlink():
        digest.update(f"{name}\0->{path.readlink()}\0".encode())
        return 0
    if not path.is_file():
        digest.update(f"{name}\0".encode())
        return 0
    stat = path.stat()
    digest.update(f"{name}\0{stat.st_mode & 0o111}\0{stat.st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return stat.st_size
