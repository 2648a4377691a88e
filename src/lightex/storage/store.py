"""Where a store is: its URL, taken apart, and the path that this machine sees it at."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lightex.core.cache import cache_folder
from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Storage, Store

KINDS = {
    "nfs": "nfs://SERVER/EXPORT/DIR",
    "s3": "s3://BUCKET/PREFIX",
    "pvc": "pvc://CLAIM/DIR",
}
"""What URLs look like, by scheme; anything without a scheme is a path."""

_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Place:
    """A store, taken apart.

    Attributes:
        kind: "path", "nfs", "s3" or "pvc".
        host: the server, bucket or claim; of a path: empty.
        folder: the folder there, without a slash at its end; of s3 and pvc also without one at its beginning.
        here: where this machine sees it, if it does: of a path itself, of s3 the cache that it is staged into.
        store: what was given.
    """

    kind: str
    host: str
    folder: str
    here: Path | None
    store: Store

    @property
    def url(self) -> str:
        """The store in one word."""
        return self.folder if self.kind == "path" else f"{self.kind}://{self.host}/{self.folder.lstrip('/')}"

    @property
    def endpoint(self) -> str | None:
        """Where this machine reaches an S3 service that is not Amazon's."""
        return self.store.endpoint or _environment_endpoint()

    @property
    def endpoint_inside(self) -> str | None:
        """Where containers and nodes reach it."""
        return self.store.endpoint_inside or self.endpoint


def find(given: str | Store, project: Path, what: str) -> Place:
    """Take a store apart.

    Args:
        given: a path, a URL or a Store.
        project: the folder that paths are relative to.
        what: names it in errors, such as "storage.dirs.data".

    Raises:
        ConfigError: it is no URL of a kind that there is.
    """
    store = Store(given) if isinstance(given, str) else given
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", store.url):
        path = (project / Path(store.url).expanduser()).absolute()
        return Place("path", "", str(path), path, store)
    try:
        parts = urlsplit(store.url)
    except ValueError:  # such as brackets that are not closed
        parts = urlsplit("")
    if parts.scheme not in KINDS or not parts.netloc or parts.query or parts.fragment or ".." in parts.path.split("/"):
        raise ConfigError(
            f"{what}: '{store.url}' is no store",
            f"valid: a path, {', '.join(KINDS.values())}",
        )
    folder = parts.path.rstrip("/")
    if parts.scheme == "s3":
        endpoint = store.endpoint or _environment_endpoint()
        mark = hashlib.blake2b(f"{endpoint}\0{store.url}".encode(), digest_size=8).hexdigest()
        name = PurePosixPath(parts.path).name or parts.netloc
        return Place("s3", parts.netloc, folder.lstrip("/"), cache_folder() / "stores" / f"{name}-{mark}", store)
    here = Path(store.path).expanduser() if store.path else None
    if parts.scheme == "pvc":
        return Place("pvc", parts.netloc, folder.lstrip("/"), here, store)
    folder = folder or "/"
    return Place("nfs", parts.netloc, folder, here or _mounted(parts.netloc, folder), store)


def folders(storage: Storage, project: Path) -> dict[str, Place]:
    """The named folders of a config.

    Raises:
        ConfigError: one is no store.
    """
    return {name: find(given, project, f"storage.dirs.{name}") for name, given in storage.dirs.items()}


def folders_here(storage: Storage, project: Path) -> dict[str, Path]:
    """The paths of named folders for what runs on this machine; those of s3 are there once they are staged.

    Raises:
        ConfigError: one is no store, or not to be seen from this machine.
    """
    return {name: seen_here(place, f"storage.dirs.{name}") for name, place in folders(storage, project).items()}


def seen_here(place: Place, what: str) -> Path:
    """Where this machine sees a place.

    Raises:
        ConfigError: it does not.
    """
    if place.here is not None:
        return place.here
    if place.kind == "nfs":
        server, _, port = place.host.partition(":")
        export = (f"-o port={port} " if port else "") + shlex.quote(f"{server}:{place.folder}")
        raise ConfigError(
            f"{what}: {place.url} is not mounted on this machine",
            f"mount it: mount -t nfs {export} /mnt/{PurePosixPath(place.folder).name or 'nfs'}",
            f'or say where it is: Store("{place.url}", path="/mnt/...")',
        )
    raise ConfigError(
        f"{what}: {place.url} is not to be seen from this machine",
        "run it where the claim is (-e kubernetes)",
        f'or say where this machine sees the same folder: Store("{place.url}", path="/mnt/...")',
    )


def _environment_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _mounted(server: str, folder: str) -> Path | None:
    """Where an NFS folder, or one above it, is mounted (proc_pid_mountinfo(5)); None: nowhere."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:  # no Linux
        return None
    wanted, best = PurePosixPath(folder), None
    server, _, port = server.partition(":")
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, source, options = after.split(" ")[:3]
        host, _, export = _plain(source).partition(":")
        if not kind.startswith("nfs") or host != server or not export.startswith("/"):
            continue
        if port and f"port={port}" not in options.split(","):
            continue
        # What of the export is mounted there: the root of a bind mount is below it.
        root, point = (_plain(word) for word in before.split(" ")[3:5])
        shown = PurePosixPath(export) / root.lstrip("/")
        if wanted.is_relative_to(shown) and (best is None or len(shown.parts) > len(best[0].parts)):
            best = shown, Path(point) / wanted.relative_to(shown)
    return best[1] if best else None


def _plain(word: str) -> str:
    """A word of mountinfo, whose odd characters are octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)
