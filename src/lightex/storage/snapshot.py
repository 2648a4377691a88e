"""The code that made a run: the commit, what differs from it, and the files that git does not know."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import IO, Any

from lightex.core import jsonlib
from lightex.core.errors import StorageError

FILE_LIMIT = 1024 * 1024
"""Bytes: a larger file is named in the snapshot, not kept."""

TOTAL_LIMIT = 20 * 1024 * 1024
"""Bytes of untracked files in all; what comes behind it is named, not kept."""

_SKIPPED_FOLDERS = {"__pycache__", "node_modules", "runs", "venv", "build", "dist", "site-packages"}
_SECRETS = re.compile(
    r"\.(env.*|netrc)|.*\.(pem|key|p12|pfx|kdbx)|id_(rsa|dsa|ecdsa|ed25519).*"
    r"|(credential|secret|password|token)s?(\..*)?",
    re.IGNORECASE,
)
_DIFF = ("diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative",
         "--src-prefix=a/", "--dst-prefix=b/")  # fmt: skip
_GIT = ("git", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false", "--no-optional-locks")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot: one archive, named by its digest.

    Attributes:
        digest: 12 hex digits of the SHA-256 of all it holds; the same code has the same digest.
        commit: the commit's id, None outside a git repository.
        file: code.DIGEST.tar.gz with code.json (what it is), changes.diff (`git diff HEAD`), files/ (untracked ones).
    """

    digest: str
    commit: str | None
    file: Path

    def link_into(self, folder: Path) -> None:
        """Put it into a run's folder: by a hard link where the file system has them, else by a copy."""
        target = f"{folder}/{self.file.name}"
        try:
            os.link(self.file, target)
        except FileExistsError:
            return
        except OSError:
            shutil.copyfile(self.file, target)


def take(project: Path, into: Path) -> Snapshot:
    """Take a snapshot of a project's folder.

    In a git repository: HEAD, the diff of tracked files against it, and the untracked files that git does not
    ignore. Elsewhere: all files of the folder that are not hidden. Files whose names speak of secrets, that may
    not be read, or are over the limits, are named in it and not kept. Folders of runs are left out.

    Args:
        project: the folder.
        into: where its files go; made if missing.

    Raises:
        OSError: `into` cannot be written.
    """
    top = git(project, "rev-parse", "--show-toplevel")
    base = Path(os.fsdecode(top.removesuffix(b"\n"))) if top else project
    head = git(project, "rev-parse", "--verify", "-q", "HEAD") if top else None
    diff = (git(base, *_DIFF) or b"") if head else b""
    names = _untracked(base) if top else all_files(project)
    kept, skipped = _choose(base, names)
    about: dict[str, Any] = {"folder": str(base), "commit": head.decode().strip() if head else None}
    if top:
        branch = git(base, "symbolic-ref", "-q", "--short", "HEAD")
        remote = git(base, "config", "--get", "remote.origin.url")
        about["branch"] = branch.decode().strip() if branch else None
        about["remote"] = re.sub(r"(?<=//)[^/@]*@", "", remote.decode().strip()) if remote else None  # no passwords
    shown = [[os.fsencode(name).decode(errors="replace") for name in names] for names in (kept, skipped)]
    about |= {"changed": bool(diff), "untracked": shown[0], "not_kept": shown[1]}
    parts = {"code.json": jsonlib.dumps(about, option=jsonlib.OPT_INDENT_2 | jsonlib.OPT_APPEND_NEWLINE)}
    if diff:
        parts["changes.diff"] = diff
    packed = io.BytesIO()
    write_archive(packed, base, kept, parts, "files/")
    digest = hashlib.sha256(packed.getvalue()).hexdigest()[:12]
    into.mkdir(parents=True, exist_ok=True)
    file = into / f"code.{digest}.tar.gz"
    staged = file.with_name(f".{file.name}.part")
    staged.write_bytes(packed.getvalue())
    staged.replace(file)
    return Snapshot(digest, about["commit"], file)


def git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, or None where there is no git, no repository, or no answer."""
    try:
        done = subprocess.run(
            [*_GIT, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _untracked(top: Path) -> list[str]:
    listed = git(top, "ls-files", "--others", "--exclude-standard", "-z") or b""
    return sorted(os.fsdecode(name) for name in listed.split(b"\0") if name)


def all_files(folder: Path) -> list[str]:
    """The files of a folder that are not hidden, nor in folders that hold runs, packages or what was built.

    Folders that may not be entered, as a container leaves them, are passed over.
    """

    def walk(at: Path) -> Iterator[str]:
        if not os.access(at, os.R_OK | os.X_OK):
            return
        with os.scandir(at) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    known = entry.name in _SKIPPED_FOLDERS or entry.name.endswith(".egg-info")
                    if not known and not os.path.exists(path / "pyvenv.cfg") and not holds_runs(path):  # noqa: PTH110
                        yield from walk(path)
                else:
                    yield path.relative_to(folder).as_posix()

    return list(walk(folder))


def is_secret(name: str) -> bool:
    """Whether a file's name speaks of secrets."""
    return _SECRETS.fullmatch(name) is not None


def _choose(base: Path, names: list[str]) -> tuple[list[str], list[str]]:
    kept, skipped, total = [], [], 0
    runs = cache(holds_runs)
    for name in names:
        path = base / name
        if any(runs(base / parent) for parent in PurePath(name).parents if parent.name):
            continue
        try:
            size = path.lstat().st_size
        except OSError:  # gone since it was listed
            continue
        may = path.is_file() and os.access(path, os.R_OK) and not is_secret(path.name)
        if not may or size > FILE_LIMIT or total + size > TOTAL_LIMIT:
            skipped.append(name)
        else:
            kept.append(name)
            total += size
    return kept, skipped


def holds_runs(folder: Path) -> bool:
    """Whether a folder is the root of runs, or a run: a project may have its runs beside its code."""
    # Not Path's own: these raise where the folder may not be entered.
    return folder.name == ".sweeps" or any(os.path.exists(folder / name) for name in (".sweeps", "events.jsonl"))  # noqa: PTH110


def write_archive(
    file: IO[bytes], base: Path, names: Iterable[str], parts: Mapping[str, bytes] | None = None, below: str = ""
) -> None:
    """A tar.gz that is the same for the same files: no times, no owners, none of the rights but to run.

    Args:
        file: where it goes.
        base: the folder that names are relative to.
        names: of its files; links stay links.
        parts: further files in it, before those.
        below: the folder in it that the files go to, with a slash.

    Raises:
        OSError: a file cannot be read, or the archive not be written.
        StorageError: a file changes while it is being packed.
    """
    with (
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in (parts or {}).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in names:
            _add(tar, base / name, below + name)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    if path.is_symlink():
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115  as it is written
        tar.addfile(info)
        return
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        info.size, info.mode = about.st_size, 0o755 if about.st_mode & 0o100 else 0o644
        try:
            tar.addfile(info, file)
        except OSError as error:
            if error.errno is None:  # of tarfile's own
                raise StorageError(f"{path} changes while it is being packed", "try again") from error
            raise
