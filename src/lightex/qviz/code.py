"""In what the code of two runs differs: committed, changed and untracked files alike."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import LightexError
from lightex.core.rundir import RunDir

_CHANGED = re.compile(rb"^(?:diff --git (?P<both>.+)|(?:rename|copy) from (?P<old>.+))$", re.MULTILINE)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_CEILING_DIRECTORIES")
_PATIENCE = 60.0  # seconds that git may take


@dataclass
class Code:
    """What is kept of the code that made a run.

    Attributes:
        digest: equal where all of it is; None: nothing was kept.
        commit: its commit; None: outside a repository.
        branch: its branch, if it was on one.
        folder: where the repository was.
        changes: `git diff HEAD` then.
        files: untracked files, by their names.
        not_kept: names of files that were too large, or spoke of secrets.
    """

    digest: str | None = None
    commit: str | None = None
    branch: str | None = None
    folder: str = ""
    changes: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    not_kept: list[str] = field(default_factory=list)


def read_code(run: RunDir) -> Code:
    """What is kept of a run's code.

    Raises:
        OSError: the archive cannot be read, or is broken.
    """
    path = run.code_file
    if path is None:
        return Code()
    code = Code(digest=path.name.split(".")[1])
    try:
        whole = gzip.decompress(path.read_bytes())  # which checks it: tarfile stops at what is broken, and says nothing
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            for member in archive:
                data = archive.extractfile(member) if member.isfile() else None
                if data is None:
                    continue
                if member.name == "code.json":
                    _describe(code, jsonlib.loads(data.read()))
                elif member.name == "changes.diff":
                    code.changes = data.read()
                elif member.name.startswith("files/") and _is_inside(name := member.name.removeprefix("files/")):
                    code.files[name] = data.read()
    except (tarfile.TarError, jsonlib.JSONDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(0, f"{path} is broken: {error}") from error
    return code


def _describe(code: Code, about: Any) -> None:
    """Take in code.json; what is no commit's id is none, so that git never takes it for an option."""
    if not isinstance(about, dict):
        return
    commit, branch, skipped = about.get("commit"), about.get("branch"), about.get("not_kept")
    code.commit = commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None
    code.branch = branch if isinstance(branch, str) else None
    code.folder = str(about.get("folder") or "")
    code.not_kept = [str(name) for name in skipped] if isinstance(skipped, list) else []


def code_diff(left: Code, right: Code) -> str:
    """A unified diff from one run's code to another's, as git prints it; empty: they are the same, or unknown.

    Where the repository is no longer there, the recorded changes themselves are compared, as files.

    Raises:
        LightexError: git is missing.
    """
    if left.digest == right.digest or not left.digest or not right.digest:
        return ""
    if not shutil.which("git"):
        raise LightexError("comparing code needs git", "install git")
    with tempfile.TemporaryDirectory(prefix="lx-diff-") as folder:
        sides = [Path(folder) / "a", Path(folder) / "b"]
        committed = set(_changed_files(left)) | set(_changed_files(right)) | set(_between(left, right))
        for side, code in zip(sides, (left, right), strict=True):
            side.mkdir()
            _lay_out(side, code, committed)
        options = ("--no-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-prefix")
        done = _git(Path(folder), "diff", *options, "a", "b")
        head = f"commit {left.commit} -> {right.commit}\n" if left.commit != right.commit else ""
        return head + (done or b"").decode(errors="replace")


def _lay_out(side: Path, code: Code, committed: Iterable[str]) -> None:
    """Write the files that may differ, as they were when the run was made."""
    whole = True
    for name in committed:
        text = _git(Path(code.folder), "show", f"{code.commit}:{name}") if code.commit else None
        if text is not None:
            _write(side, name, text)
    if code.changes:
        patch = side / ".changes.diff"
        patch.write_bytes(code.changes)
        whole = _git(side, "apply", "--whitespace=nowarn", patch.name) is not None
        patch.unlink()
    if not whole:  # the repository is gone, or elsewhere
        _write(side, "changes.diff", code.changes)
    for name, data in code.files.items():
        _write(side, name, data)


def _write(side: Path, name: str, data: bytes) -> None:
    """Write a file, unless a link that the changes made leads out of the folder, or a file is in its way."""
    path = side / name
    with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.resolve() == side.resolve() / path.relative_to(side).parent and not path.is_symlink():
            path.write_bytes(data)


def _changed_files(code: Code) -> list[str]:
    """The names of the files that a patch is about, as they are in the commit."""
    names = []
    for match in _CHANGED.finditer(code.changes):
        both, old = match["both"], match["old"]
        if both and (quoted := _QUOTED.match(both)):
            names.append(_unescaped(quoted[1])[2:])
        elif both:  # a/NAME b/NAME; of a file that was renamed the line `rename from` tells more
            names.append(both[2 : len(both) // 2])
        elif old:
            quoted = _QUOTED.fullmatch(old)
            names.append(_unescaped(quoted[1]) if quoted else old)
    return [name for each in names if _is_inside(name := os.fsdecode(each))]


def _unescaped(name: bytes) -> bytes:
    """A name as git quotes it, C's escapes undone."""

    def plain(match: re.Match[bytes]) -> bytes:
        said = match[1]
        return bytes([int(said, 8) & 255]) if said.isdigit() else _ESCAPES.get(said, said)

    return re.sub(rb"\\([0-7]{3}|.)", plain, name)


def _between(left: Code, right: Code) -> list[str]:
    if not left.commit or not right.commit or left.commit == right.commit:
        return []
    named = _git(Path(left.folder), "diff", "--name-only", "-z", left.commit, right.commit) or b""
    return [name for part in named.split(b"\0") if (name := os.fsdecode(part)) and _is_inside(name)]


def _is_inside(name: str) -> bool:
    """Whether a name stays in its folder, and out of git's own."""
    path = PurePosixPath(name)
    hostile = path.is_absolute() or "\0" in name or any(part == ".." or part.lower() == ".git" for part in path.parts)
    return bool(path.parts) and not hostile


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None where it fails. `git diff --no-index` exits with 1 where there is a difference."""
    # Neither the repository of whoever asks nor one around the temporary folder.
    own = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            env={**own, "GIT_CEILING_DIRECTORIES": tempfile.gettempdir()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 or (done.returncode == 1 and "--no-index" in arguments) else None
