"""What is left of runs whose ends are noted down is taken away, also where a dispatcher was killed before it could."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from docker.errors import NotFound

from lightex.dispatcher.engines.containers import service
from lightex.dispatcher.engines.containers.daemon import DaemonError, connect, reaching
from lightex.dispatcher.engines.noted import is_over

_OURS = {"label": "lightex.run"}


def remove_container(handle: str) -> None:
    """Remove a container. Where the daemon is away it stays, for `remove_containers`."""
    with suppress(DaemonError), reaching():
        connect().remove_container(handle, v=True, force=True)


def remove_containers() -> None:
    """Remove the containers of all attempts that have ended, unless they are to be kept."""
    with suppress(DaemonError), reaching():
        for found in connect().containers(all=True, filters=_OURS):
            if found["Labels"].get("lightex.keep") != "yes" and _is_over(found["Labels"]):
                remove_container(found["Id"])


def stop_service(handle: str) -> None:
    """Stop a service. Where a replicated job is only removed, its containers go on (seen with 20.10)."""
    with suppress(NotFound):
        found = connect().inspect_service(handle)
        spec = found["Spec"]
        if not service.is_stopped(spec):
            connect().update_service(
                found["ID"],
                found["Version"]["Index"],
                spec["TaskTemplate"],
                name=handle,
                labels=spec["Labels"],
                mode=service.mode(0),
            )


def remove_service(handle: str) -> None:
    """Remove a service. Where the manager is away it stays, for `remove_services`."""
    with suppress(DaemonError), reaching(), suppress(NotFound):
        stop_service(handle)
        connect().remove_service(handle)


def remove_services() -> None:
    """Remove the services of all attempts that have ended."""
    with suppress(DaemonError), reaching():
        for found in connect().services(_OURS):
            if _is_over(found["Spec"]["Labels"]):
                remove_service(found["Spec"]["Name"])


def _is_over(labels: Mapping[str, str]) -> bool:
    return is_over(labels.get("lightex.run", ""), labels.get("lightex.attempt", ""))
