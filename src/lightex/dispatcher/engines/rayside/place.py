"""Which Ray is meant: in one word, that a handle holds and any process of the user understands."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

from lightex.core.errors import ConfigError, UnreachableError
from lightex.dispatcher.engines.rayside.options import Options

LOCAL = "local"
"""The Ray that lx starts on this machine for itself."""

_PATIENCE = 5.0  # seconds that an address may take to answer


def place_of(read: Options) -> str:
    """ "local", "HOST:PORT" of a cluster's head, or "http(s)://HOST:PORT" of its Jobs API.

    Raises:
        ConfigError: the address is none of these.
    """
    given, said = read.address, "engine_options.ray.address"
    if given in (None, "", "auto"):
        given, said = os.environ.get("RAY_ADDRESS") or None, "RAY_ADDRESS"
        if given in (None, "auto"):
            return _started_here() or LOCAL
    place = str(given).rstrip("/")
    if place == LOCAL or is_jobs_api(place):
        return place
    if place.startswith("ray://"):
        raise ConfigError(
            f"{said}: {place} is an address of Ray's client, whose tasks end with its connection",
            "from a node of the cluster: HOST:6379; from outside, its Jobs API: http://HOST:8265",
        )
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or "/" in place:
        raise ConfigError(
            f"{said}: '{place}' is no address of a Ray", 'valid: "HOST:PORT", "http://HOST:PORT" or "local"'
        )
    return place


def is_jobs_api(place: str) -> bool:
    """Whether it is spoken to over HTTP."""
    return place.startswith(("http://", "https://"))


def reach(place: str) -> None:
    """Look whether something listens there: Ray itself takes a minute to say that nothing does.

    Raises:
        UnreachableError: nothing does.
    """
    try:
        if is_jobs_api(place):
            with urllib.request.urlopen(f"{place}/api/version", timeout=_PATIENCE):  # noqa: S310  it begins with http
                return
        host, _, port = place.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except urllib.error.HTTPError:  # it answers; what it wants is told by Ray's own client
        return
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise UnreachableError(
            f"no Ray answers at {place}: {getattr(why, 'strerror', None) or why}",
            "is it up (ray status --address ...)? engine_options.ray.address=local starts one of lx's own here",
        ) from error


def _started_here() -> str | None:
    """The address of the Ray that this user's `ray start` has started on this machine, where it answers."""
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp")  # noqa: S108
    file = folder / "ray" / "ray_current_cluster"
    try:
        if file.stat().st_uid != os.getuid():  # commands would run as somebody else
            return None
        place = file.read_text().strip()
        reach(place)
    except (OSError, UnreachableError):
        return None
    return place or None
