"""Getting images ready: there, pulled, or built when something that goes into them has changed."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker.api import APIClient
from docker.utils.build import create_archive

from lightex.core.errors import ConfigError, LightexError, did_you_mean
from lightex.core.escapes import without_escapes
from lightex.core.taxonomy import Build
from lightex.core.units import format_size
from lightex.dispatcher.engines.containers import context as contexts
from lightex.dispatcher.engines.containers.context import Context
from lightex.dispatcher.engines.containers.daemon import AwayError, DaemonError, connect, reaching
from lightex.dispatcher.engines.containers.image import Image, inspect, is_name, log_of

_LARGE = 1 << 30  # bytes of a context that deserve a hint
_LAST_LINES = 12
_NOT_AGAIN = 30.0  # seconds in which what has failed is not tried again: a thousand experiments may ask for it

Tell = Callable[[str], None]


class ImageError(LightexError):
    """There is no such image, or it cannot be built."""


class Images:
    """Gets images ready, each once, however many threads ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: dict[tuple[str, str], Image] = {}
        self._failed: dict[tuple[str, str], tuple[float, ImageError]] = {}

    def ensure(self, wanted: str | Build, project: Path, tell: Tell) -> Image:
        """The image, which is pulled or built if need be.

        Args:
            wanted: its name, or what it is built from.
            project: the folder that the context of a build is relative to.
            tell: is given lines of progress.

        Raises:
            ImageError: it is not to be had; says why and what to do.
            DaemonError: the daemon refuses, or does not answer.
        """
        key = repr(wanted), str(project)
        if not self._lock.acquire(blocking=False):
            tell("waits for its image")
            self._lock.acquire()
        try:
            failed_at, error = self._failed.get(key, (0.0, None))
            if error and time.monotonic() - failed_at < _NOT_AGAIN:
                raise error
            if key not in self._ready:
                try:
                    self._ready[key] = _ensure(wanted, project, tell)
                except ImageError as error:
                    self._failed[key] = time.monotonic(), error
                    raise
            return self._ready[key]
        finally:
            self._lock.release()


def look(wanted: str | Build, project: Path) -> tuple[str, Image | None]:
    """The name that an image has or would have, and the image if it is there.

    Raises:
        ConfigError: there is no Dockerfile to build it from.
        DaemonError: the daemon refuses, or does not answer.
    """
    name = Context.of(wanted, project).name if isinstance(wanted, Build) else wanted
    return name, inspect(name)


def check(wanted: str | Build, project: Path) -> None:
    """Look whether a name can be one, or there is something to build from.

    Raises:
        ConfigError: it cannot, or there is not.
    """
    if isinstance(wanted, Build):
        contexts.check(wanted, project)
    elif not is_name(wanted):
        raise ConfigError(
            f"container.image: '{wanted}' cannot be the name of an image",
            "names are in lower case, with a tag: python:3.12-slim, registry.example.com:5000/team/name:1",
            "what is to be built is said in lxconfig.py: container=Container(image=Build())",
        )


def _ensure(wanted: str | Build, project: Path, tell: Tell) -> Image:
    client = connect()
    if isinstance(wanted, str):
        return inspect(wanted) or _pull(client, wanted, tell)
    check(wanted, project)
    context = Context.of(wanted, project)
    image = inspect(context.name) or _build(client, context, tell)
    if wanted.repository:
        _push(client, context.name, tell)
    return image


def _pull(client: APIClient, name: str, tell: Tell) -> Image:
    told = f"pulling {name}"
    tell(told)
    states: dict[str, str] = {}
    try:
        with reaching():
            tag = None if ":" in name.rpartition("/")[2] or "@" in name else "latest"
            for event in client.pull(name, tag=tag, stream=True, decode=True):
                if error := event.get("error"):
                    raise _missing(client, name, str(error))
                if layer := event.get("id"):
                    states[layer] = str(event.get("status"))
                    done = sum(state in ("Pull complete", "Already exists") for state in states.values())
                    if told != (told := f"pulling {name}: {done} of {len(states)} layers"):
                        tell(told)
    except LightexError as error:
        raise error if isinstance(error, ImageError) else _missing(client, name, error.message) from error
    if image := inspect(name):
        return image
    raise _missing(client, name, "it was pulled, and is not there")


def _missing(client: APIClient, name: str, why: str) -> ImageError:
    with reaching():
        there = sorted({tag for image in client.images() for tag in image.get("RepoTags") or ()} - {"<none>:<none>"})
    return ImageError(
        f"there is no image '{name}' here, and it cannot be pulled.{did_you_mean(name, there)}",
        f"the daemon says: {why}",
        f"images here: {', '.join(there[:8]) or 'none'}" + (f" and {len(there) - 8} more" if len(there) > 8 else ""),
        "one of your own is built by: container=Container(image=Build()); lx init --docker writes its Dockerfile",
    )


def _build(client: APIClient, context: Context, tell: Tell) -> Image:
    log = log_of(context.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if context.size > _LARGE:
        tell(
            f"{context.folder} holds {format_size(context.size)}; what the image does not need belongs in .dockerignore"
        )
    tell(f"building {context.name} from {context.build.dockerfile}")
    with tempfile.NamedTemporaryFile(dir=log.parent, suffix=".part", delete=False) as kept:
        failed: str | None = None
        try:
            for event in _events(client, context):
                text = without_escapes(event.get("stream") or event.get("error") or "")
                kept.write(text.encode())
                failed = event.get("error") or failed
                if line := _worth_telling(text):
                    tell(f"building: {line}")
        except BaseException:
            Path(kept.name).unlink(missing_ok=True)
            raise
    if failed:
        raise _not_built(context, failed, Path(kept.name).replace(log.with_suffix(".failed.log")))
    Path(kept.name).replace(log)
    image = inspect(context.name)
    if image is None:
        raise _not_built(context, "the daemon told no error, and there is no image", log)
    return image


def _events(client: APIClient, context: Context) -> Iterator[dict[str, Any]]:
    """What the daemon tells of a build."""
    build = context.build
    with tempfile.TemporaryFile() as archive:
        create_archive(str(context.folder), files=list(context.files), fileobj=archive)
        archive.seek(0)
        options = {"dockerfile": build.dockerfile, "buildargs": dict(build.args), "target": build.target}
        try:
            with reaching():
                yield from client.build(
                    fileobj=archive,
                    custom_context=True,
                    tag=context.name,
                    decode=True,
                    rm=True,
                    forcerm=True,
                    **options,
                )
        except AwayError:
            raise
        except DaemonError as error:  # a Dockerfile that does not parse is refused at once
            yield {"error": error.message}


def _worth_telling(text: str) -> str | None:
    """The line of a build's output that tells where it is."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else None


def _not_built(context: Context, error: str, log: Path) -> ImageError:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith((" --->", "Removing intermediate"))][-_LAST_LINES:]
    hint = (
        "it wants BuildKit: build it with `docker build`, and name the image in the config"
        if "BuildKit" in error
        else ""
    )
    return ImageError(
        f"the image could not be built from {context.folder / context.build.dockerfile}: {' '.join(error.split())}",
        *(f"... {line.rstrip()}" for line in lines if line.strip() != error.strip()),
        *([hint] if hint else []),
        f"all of it: {log}",
    )


def _push(client: APIClient, name: str, tell: Tell) -> None:
    """Bring an image to its registry, unless it is there."""
    with suppress(DaemonError), reaching():
        client.inspect_distribution(name)
        return
    tell(f"pushing {name}")
    repository, _, tag = name.rpartition(":")
    with reaching():
        for event in client.push(repository, tag=tag, stream=True, decode=True):
            if error := event.get("error"):
                raise ImageError(
                    f"the image {name} cannot be pushed to its registry: {error}",
                    "log in with: docker login; or name another container.image.repository",
                )
