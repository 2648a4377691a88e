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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from lightex.core import jsonlib

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
    ignore. Elsewhere: all files of the folder that are not hidden. Files whose names speak of secrets, and
    files over the limits, are named in it and not kept. Folders of runs are left out.

    Args:
        project: the folder.
        into: where its files go; made if missing.

    Raises:
        OSError: `into` cannot be written.
    """
    top = git(project, "rev-parse", "--show-toplevel")
    base = Path(top.decode().strip()) if top else project
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
    about |= {"changed": bool(diff), "untracked": kept, "not_kept": skipped}
    parts = {"code.json": jsonlib.dumps(about, option=jsonlib.OPT_INDENT_2 | jsonlib.OPT_APPEND_NEWLINE)}
    if diff:
        parts["changes.diff"] = diff
    packed = _pack(base, kept, parts)
    digest = hashlib.sha256(packed).hexdigest()[:12]
    into.mkdir(parents=True, exist_ok=True)
    file = into / f"code.{digest}.tar.gz"
    staged = file.with_name(f".{file.name}.part")
    staged.write_bytes(packed)
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
    """The files of a folder that are not hidden, nor in folders that hold runs, packages or what was built."""

    def walk(at: Path) -> Iterator[str]:
        with os.scandir(at) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    is_venv = (path / "pyvenv.cfg").exists()
                    known = entry.name in _SKIPPED_FOLDERS or is_venv or holds_runs(path)
                    if not known and not entry.name.endswith(".egg-info"):
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
        if any(runs(base / parent) for parent in PurePath(name).parents):
            continue
        try:
            size = path.lstat().st_size
        except OSError:  # gone since it was listed
            continue
        if not path.is_file() or is_secret(path.name) or size > FILE_LIMIT or total + size > TOTAL_LIMIT:
            skipped.append(name)
        else:
            kept.append(name)
            total += size
    return kept, skipped


def holds_runs(folder: Path) -> bool:
    """Whether a folder is the root of runs."""
    return (folder / ".sweeps").is_dir()


def _pack(base: Path, names: list[str], parts: Mapping[str, bytes]) -> bytes:
    """A tar.gz that is the same for the same files: no times, no owners."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in names:
            info = tar.gettarinfo(base / name, arcname=f"files/{name}")
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            if info.isreg():
                with (base / name).open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return packed.getvalue()
