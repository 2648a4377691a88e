"""In what the code of two runs differs: committed, changed and untracked files alike."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lightex.core import jsonlib
from lightex.core.rundir import RunDir

_CHANGED = re.compile(rb"^diff --git (?:\"?a/(.+?)\"? \"?b/(.+?)\"?)$", re.MULTILINE)
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
        with tarfile.open(path) as archive:
            for member in archive:
                data = archive.extractfile(member) if member.isfile() else None
                if data is None:
                    continue
                if member.name == "code.json":
                    about: dict[str, Any] = jsonlib.loads(data.read())
                    code.commit, code.branch = about.get("commit"), about.get("branch")
                    code.folder, code.not_kept = str(about.get("folder") or ""), list(about.get("not_kept") or [])
                elif member.name == "changes.diff":
                    code.changes = data.read()
                elif member.name.startswith("files/") and _is_inside(member.name):
                    code.files[member.name.removeprefix("files/")] = data.read()
    except (tarfile.TarError, jsonlib.JSONDecodeError, EOFError) as error:
        raise OSError(0, f"{path} is broken: {error}") from error
    return code


def code_diff(left: Code, right: Code) -> str:
    """A unified diff from one run's code to another's, as git prints it; empty: they are the same, or unknown.

    Where the repository is no longer there, the recorded changes themselves are compared, as files.
    """
    if left.digest == right.digest or not left.digest or not right.digest:
        return ""
    with tempfile.TemporaryDirectory(prefix="lx-diff-") as folder:
        sides = [Path(folder) / "a", Path(folder) / "b"]
        committed = set(_changed_files(left)) | set(_changed_files(right)) | set(_between(left, right))
        for side, code in zip(sides, (left, right), strict=True):
            side.mkdir()
            _lay_out(side, code, committed)
        done = _git(Path(folder), "diff", "--no-index", "--no-color", "--no-ext-diff", "--no-prefix", "a", "b")
        head = f"commit {left.commit} -> {right.commit}\n" if left.commit != right.commit else ""
        return head + (done or b"").decode(errors="replace")


def _lay_out(side: Path, code: Code, committed: Iterable[str]) -> None:
    """Write the files that may differ, as they were when the run was made."""
    whole = True
    for name in committed:
        text = _git(Path(code.folder), "show", f"{code.commit}:{name}") if code.commit else None
        if text is not None:
            _write(side / name, text)
    if code.changes:
        patch = side / ".changes.diff"
        patch.write_bytes(code.changes)
        whole = _git(side, "apply", "--unsafe-paths", "--directory=.", str(patch)) is not None
        patch.unlink()
    if not whole:  # the repository is gone, or elsewhere
        _write(side / "changes.diff", code.changes)
    for name, data in code.files.items():
        _write(side / name, data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _changed_files(code: Code) -> list[str]:
    names = (match[1].decode(errors="replace") for match in _CHANGED.finditer(code.changes))
    return [name for name in names if _is_inside(name)]


def _between(left: Code, right: Code) -> list[str]:
    if not left.commit or not right.commit or left.commit == right.commit:
        return []
    named = _git(Path(left.folder), "diff", "--name-only", "-z", left.commit, right.commit) or b""
    return [name for part in named.split(b"\0") if (name := part.decode(errors="replace")) and _is_inside(name)]


def _is_inside(name: str) -> bool:
    return not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None where it fails. `git diff --no-index` exits with 1 where there is a difference."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 or (done.returncode == 1 and "--no-index" in arguments) else None
