"""The working tree of a project as one archive, for nodes that share no disk with this machine."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from lightex.core.errors import ConfigError, StorageError
from lightex.core.journal import cannot_write
from lightex.core.units import format_size
from lightex.storage import snapshot
from lightex.storage.bucket import Bucket
from lightex.storage.objects import digest_of


@dataclass(frozen=True)
class Packed:
    """A packed working tree.

    Attributes:
        digest: 64 hex digits of the SHA-256 of the archive; equal trees have the same.
        file: tree.DIGEST.tar.gz.
        base: the folder that its names are relative to: the top of the git repository, or the project's folder.
        left_out: what is not in it: files named like secrets, and links that lead out of the tree.
    """

    digest: str
    file: Path
    base: Path
    left_out: tuple[str, ...]


def pack(project: Path, into: Path, limit: int) -> Packed:
    """Pack the working tree that a project's folder belongs to.

    In a git repository: its tracked files as they are now, and the untracked ones that git does not ignore; so in
    repositories within it, too. Elsewhere: all files of the folder that are not hidden. Untracked files whose names
    speak of secrets, and folders of runs, are left out. Links stay links.

    Args:
        project: the folder.
        into: where the archive goes; made if missing.
        limit: bytes that the files may have.

    Raises:
        ConfigError: they have more.
        StorageError: a file cannot be read, or the archive not be written.
    """
    top = snapshot.git(project, "rev-parse", "--show-toplevel")
    base = Path(os.fsdecode(top.removesuffix(b"\n"))) if top else project.absolute()
    kept, left_out = _choose(base, dict(_files(base, "")) if top else dict.fromkeys(snapshot.all_files(base), False))
    total = sum(kept.values())
    if total > limit:
        raise _too_large(base, kept, total, limit)
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=into, prefix=".tree.", suffix=".part", delete=False) as file:
            staged = Path(file.name)
            try:
                snapshot.write_archive(file, base, sorted(kept))
                file.close()
                digest = digest_of(staged)
                packed = Packed(digest, into / f"tree.{digest}.tar.gz", base, tuple(left_out))
                staged.replace(packed.file)
            except BaseException:
                staged.unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.filename and not Path(error.filename).is_relative_to(into):
            raise StorageError(f"cannot read {error.filename}: {error.strerror}") from error
        raise cannot_write(into, error) from error
    return packed


def send(bucket: Bucket, packed: Packed) -> bool:
    """Put a packed tree into the store, unless it is there already; returns whether it was put.

    Raises:
        StorageError: it cannot be sent.
    """
    there = bucket.head(_key(packed.digest))
    if there and there.size == packed.file.stat().st_size:
        return False
    bucket.put(packed.file, _key(packed.digest))
    return True


def unpack(bucket: Bucket, digest: str, into: Path) -> None:
    """Fetch a packed tree and lay it out in a folder.

    Args:
        bucket: where it is.
        digest: of the archive.
        into: the folder; made if missing. What it holds already stays, but for files of the same names.

    Raises:
        StorageError: it cannot be fetched, is not what was packed, or cannot be written.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".tree.") as folder:
            file = Path(folder) / "tree.tar.gz"
            bucket.get(_key(digest), file)
            if (found := digest_of(file)) != digest:
                raise StorageError(f"{bucket.url}{_key(digest)} is not what was packed: its SHA-256 is {found}")
            # Python has the filter from 3.11.4; the digest vouches for what `pack` has let in.
            careful: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            with tarfile.open(file) as tar:
                before = {path for member in tar.getmembers() for path in _folders_of(into, member) if path.exists()}
                tar.extractall(into, **careful)  # noqa: S202
                _open_modes(into, tar, before)
    except tarfile.TarError as error:
        raise StorageError(f"{bucket.url}{_key(digest)} cannot be unpacked: {error}") from error
    except OSError as error:
        raise cannot_write(into, error) from error


def _key(digest: str) -> str:
    return f"code/{digest}.tar.gz"


def _folders_of(into: Path, member: tarfile.TarInfo) -> set[Path]:
    return {into / parent for parent in PurePosixPath(member.name).parents}


def _open_modes(into: Path, tar: tarfile.TarFile, before: set[Path]) -> None:
    """Let the umask alone decide who may write: the command may run as another user than who unpacks.

    Folders that were there before may be somebody else's, as the roots of volumes are.
    """
    umask = os.umask(0)
    os.umask(umask)
    folders: set[Path] = set()
    for member in tar.getmembers():
        path = into / member.name
        if member.isreg():
            path.chmod((0o777 if member.mode & 0o100 else 0o666) & ~umask)
        folders |= _folders_of(into, member)
    for folder in folders - before:
        folder.chmod(0o777 & ~umask)


def _files(top: Path, prefix: str) -> Iterator[tuple[str, bool]]:
    """The files of a repository that it does not ignore, and of those within it; each with whether it is tracked.

    What is tracked in a repository that is not tracked itself counts as untracked.
    """
    for name in _listed(top, "--cached"):
        if (top / name).is_dir() and not (top / name).is_symlink():  # a submodule, if it is there
            yield from _files(top / name, f"{prefix}{name}/") if _is_top(top / name) else ()
        else:
            yield prefix + name, True
    for name in _listed(top, "--others", "--exclude-standard"):
        if name.endswith("/"):  # a repository of its own
            yield from ((inner, False) for inner, _ in _files(top / name, prefix + name))
        else:
            yield prefix + name, False


def _is_top(folder: Path) -> bool:
    return (folder / ".git").exists()


def _listed(top: Path, *options: str) -> list[str]:
    listed = snapshot.git(top, "ls-files", "-z", *options)
    if listed is None:
        raise StorageError(f"git does not list the files of {top}", f"try: git -C {top} ls-files {' '.join(options)}")
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _choose(base: Path, names: Mapping[str, bool]) -> tuple[dict[str, int], list[str]]:
    """Of names, each with whether it is tracked: those to pack with their sizes, and those that are left out."""
    kept: dict[str, int] = {}
    left_out = []
    holds_runs = cache(snapshot.holds_runs)
    for name, tracked in sorted(names.items()):
        if any(holds_runs(base / parent) for parent in PurePosixPath(name).parents if parent.name):
            continue
        path = base / name
        try:
            about = path.lstat()
        except (FileNotFoundError, NotADirectoryError):  # deleted
            continue
        if stat.S_ISLNK(about.st_mode):
            if _leads_out(base, path):
                left_out.append(name)
            else:
                kept[name] = 0
        elif stat.S_ISREG(about.st_mode):
            if not tracked and snapshot.is_secret(path.name):
                left_out.append(name)
            else:
                kept[name] = about.st_size
    return kept, left_out


def _leads_out(base: Path, link: Path) -> bool:
    target = os.readlink(link)  # noqa: PTH115  Path.readlink makes "./x" to "x"
    inside = os.path.normpath(link.relative_to(base).parent / target)
    return target.startswith("/") or inside == ".." or inside.startswith("../")


def _too_large(base: Path, kept: dict[str, int], total: int, limit: int) -> ConfigError:
    largest = sorted(kept, key=lambda name: -kept[name])[:3]
    return ConfigError(
        f"{base}: the code that is to be copied has {format_size(total)}, more than storage.code_limit, "
        f"{format_size(limit)}",
        f"the largest files: {', '.join(f'{name} ({format_size(kept[name])})' for name in largest)}",
        "name what is no code in .gitignore, move data to where storage.dirs names it, or raise storage.code_limit",
    )
