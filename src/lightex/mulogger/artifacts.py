"""Files that a run keeps: copied into its directory under a temporary name first, with their checksums."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from lightex.core.errors import LightexError


def keep(source: Path, folder: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Copy a file or a folder below a run's artifacts folder; what `describe` says of each file."""
    target = folder / checked_name(name or source.name)
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file())
        return [_keep_file(path, target / path.relative_to(source), folder) for path in files]
    if not source.is_file():
        raise LightexError(f"no file to keep: {source}", f"looked in {Path.cwd()}")
    return [_keep_file(source, target, folder)]


def checked_name(name: str) -> PurePosixPath:
    """A name for an artifact that stays inside the artifacts folder.

    Raises:
        LightexError: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise LightexError(f"not a name for an artifact: {name!r}", "use a relative name such as 'plots/loss.png'")
    return path


def describe(path: Path, folder: Path) -> dict[str, Any]:
    """What the record of a kept file says of it: `path` (relative to the run's directory), `size` (bytes), `sha256`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    relative = path.relative_to(folder.parent).as_posix()
    return {"path": relative, "size": path.stat().st_size, "sha256": digest}


def _keep_file(source: Path, target: Path, folder: Path) -> dict[str, Any]:
    if source.resolve() != target.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, staged)
        shutil.copymode(source, staged)
        staged.replace(target)
    return describe(target, folder)
