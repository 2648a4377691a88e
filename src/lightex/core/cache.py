"""The user's folder for what can be deleted at any time: indexes, the feeder's list of runs."""

from __future__ import annotations

import os
import re
from pathlib import Path


def cache_folder() -> Path:
    """LX_CACHE, or `lightex` in XDG_CACHE_HOME or ~/.cache. Not made here."""
    if given := os.environ.get("LX_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightex"


_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "fuse.sshfs",
           "fuse.glusterfs", "fuse.ceph", "orangefs", "panfs", "wekafs"}  # fmt: skip


def local_folder() -> Path:
    """The cache folder where its file system is of this machine alone, else one of the user's in /var/tmp.

    SQLite's WAL lives in memory that machines do not share, and home folders on clusters are on file servers.

    Raises:
        OSError: the one in /var/tmp is another user's.
    """
    folder = cache_folder().absolute()
    if _kind(folder) not in _REMOTE:
        return folder
    own = Path("/var/tmp") / f"lightex-{os.getuid()}"  # noqa: S108  made for the user alone, and seen to be so
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise PermissionError(1, "another user made it", str(own))
    return own


def _kind(folder: Path) -> str:
    """The file system that a path is on, as mount(8) names it; empty where that is not known."""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    # Spaces in names are written as \040; of two mounts at one place the later one is seen.
    mounts = [(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), where), kind)
              for where, kind in (line.split(" ")[1:3] for line in reversed(lines))]  # fmt: skip
    real = os.path.realpath(folder)
    found = [(where, kind) for where, kind in mounts if real == where or real.startswith(where.rstrip("/") + "/")]
    return max(found, key=lambda mount: len(mount[0]), default=("", ""))[1]
