"""The docker daemon: reaching it, and its errors in words that help."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from docker import from_env
from docker.api import APIClient
from docker.context import ContextAPI
from docker.errors import APIError, DockerException
from requests.exceptions import RequestException

from lightex.core.errors import LightexError, UnreachableError
from lightex.core.liveness import user

_POOL = 256  # connections that are kept; each running container has one for its output
_TIMEOUT = 60  # seconds that an answer may take; following an output has no limit


class DaemonError(LightexError):
    """What the daemon refused, in its own words."""


class AwayError(DaemonError, UnreachableError):
    """No daemon answers, or not to this user."""


def address() -> str:
    """Where the daemon is: DOCKER_HOST, or what the current context of the docker command says.

    Raises:
        AwayError: that context cannot be read.
    """
    try:
        found = os.environ.get("DOCKER_HOST") or ContextAPI.kwargs_from_context().get("base_url")
    except Exception as error:
        raise AwayError(f"the context of docker is broken: {error}", "look with: docker context ls") from error
    return str(found or "unix:///var/run/docker.sock").replace("http+unix:", "unix:")


def connect() -> APIClient:
    """A client of the daemon, the same for all threads of this process.

    Raises:
        AwayError: it does not answer.
    """
    return _connect(os.getpid(), address())


@cache
def _connect(process: int, where: str) -> APIClient:  # noqa: ARG001  a fork must not talk in its parent's connections
    with reaching():
        return from_env(timeout=_TIMEOUT, max_pool_size=_POOL).api


def facts() -> dict[str, Any]:
    """What the daemon says of itself (`docker info`).

    Raises:
        AwayError: it does not answer.
    """
    return _facts(address())


@cache
def _facts(where: str) -> dict[str, Any]:  # noqa: ARG001
    with reaching():
        found: dict[str, Any] = connect().info()
        return found


def is_local() -> bool:
    """Whether it is reached through a socket of this machine, so that paths mean the same there."""
    return address().startswith("unix:")


def is_rootless() -> bool:
    """Whether the daemon has not root's rights: then root inside is the user outside."""
    return any("name=rootless" in each for each in facts().get("SecurityOptions") or ())


@contextmanager
def reaching() -> Iterator[None]:
    """Within this block the errors of the daemon and of the way to it are ours.

    Raises:
        DaemonError: the daemon refused something.
        AwayError: it does not answer.
    """
    try:
        yield
    except APIError as error:
        raise DaemonError(words(error)) from error
    except (RequestException, DockerException, OSError) as error:
        raise _away(error) from error


def words(error: APIError) -> str:
    """What the daemon says is wrong, on one line."""
    return " ".join(str(error.explanation or error).split())


def _away(error: BaseException) -> AwayError:
    where = address()
    for cause in _causes(error):
        if isinstance(cause, PermissionError):
            return AwayError(
                f"{user()} may not talk to the docker daemon at {where}",
                f"let an administrator run: usermod -aG docker {user()}; then log in anew",
            )
        if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
            return AwayError(
                f"no docker daemon answers at {where}",
                "start it (systemctl start docker, or Docker Desktop), or install it: https://docs.docker.com/engine/install",
                "one that is elsewhere is named by DOCKER_HOST, or chosen with: docker context use NAME",
            )
    return AwayError(f"the docker daemon at {where} does not answer: {error}", "look with: docker info")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that lies behind it, also what requests and urllib3 keep among their arguments."""
    waiting, seen = [error], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [
            each for each in (found.__cause__, found.__context__, *found.args) if isinstance(each, BaseException)
        ]
