"""What can be done about runs and sweeps: asked of their dispatchers, or done by a new `lx` where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from lightex.core.errors import LightexError, StorageError
from lightex.core.root import Root
from lightex.core.rundir import ENDED, QUEUED, SUCCEEDED, RunDir
from lightex.core.summary import Summary

_LX = (sys.executable, "-c", "from lightex.cli import main; main()")
_AT_ONCE = 3.0  # seconds for which an end is waited for, and that it was refused
_PATIENCE = 120.0  # seconds that a detached start may take: it stages code and builds images first


def stop(root: Root, runs: Sequence[Summary], who: str, kill: bool = False) -> str:
    """Have runs ended; returns what came of it.

    Args:
        root: the folder of runs.
        runs: which.
        who: is told as the reason.
        kill: do not wait for their grace.

    Raises:
        LightexError: none of them can be: they have ended, or were not started by lx; or `lx stop` refuses.
    """
    open_runs = [run for run in runs if run.status not in ENDED]
    if not open_runs:
        raise LightexError("they have all ended already")
    asked: list[tuple[str, list[str]]] = []
    left: list[str] = []
    for sweep, some in _by_sweep(open_runs).items():
        if not sweep or not root.sweep(sweep).path.is_dir():
            raise LightexError(f"run {some[0].short_id} was not started by lx", "end its process yourself")
        ids = [run.id for run in some]
        if root.sweep(sweep).supervised:
            asked.append((sweep, ids))
        else:
            left += ids
    for sweep, ids in asked:
        root.sweep(sweep).stop(ids, f"stopped by {who}", kill)
    count = sum(len(ids) for _, ids in asked)
    told = [_asked(f"{count} run{'s' * (count != 1)}", kill, "each")] if count else []
    return "; ".join([*told, *([_end_unwatched(root, left, who, kill)] if left else [])])


def stop_sweep(root: Root, sweep: str, who: str, kill: bool = False) -> str:
    """Have a whole sweep ended, what waits as well; returns what came of it.

    Raises:
        LightexError: `lx stop` refuses.
    """
    found = root.sweep(sweep)
    if not found.supervised:
        return _end_unwatched(root, [sweep], who, kill)
    found.stop(None, f"stopped by {who}", kill)
    return _asked(f"sweep {sweep}", kill, "each run")


def retry(root: Root, runs: Sequence[Summary]) -> str:
    """Run runs that have not succeeded once more; returns what came of it.

    Raises:
        LightexError: none of them has ended without success, or `lx retry` refuses.
    """
    wanted = [run for run in runs if run.status in ENDED and run.status != SUCCEEDED]
    if not wanted:
        raise LightexError("only runs that have ended without success are retried", "clone the others")
    told = []
    for sweep, some in _by_sweep(wanted).items():
        ids = [run.id for run in some]
        if sweep and root.sweep(sweep).supervised:
            root.sweep(sweep).request({"do": "retry", "runs": sorted(ids)})
            told.append(f"{_count(some)} queued again in sweep {sweep}")
        else:
            told.append(_lx(root, _project(some[0]), "retry", *ids, "--detach"))
    return "; ".join(told)


def clone(root: Root, run: Summary, overrides: Sequence[str]) -> str:
    """Start a run with the config of another one, changed; returns what came of it.

    Raises:
        LightexError: namedconf refuses an override, or the config is not to be found any more.
    """
    for text in overrides:
        if "=" not in text or text.startswith("-"):
            raise LightexError(f"not an override: '{text}'", "write KEY=VALUE, e.g. hp.lr=0.1")
    return _lx(root, _project(run), "clone", run.id, *overrides, "--detach")


def override(name: str, value: object, text: str) -> str:
    """A parameter as it was written into a form: a text is one text, also with what means something in an override.

    Args:
        name: of the parameter.
        value: what it was.
        text: what it is to be.
    """
    quote = next((mark for mark in "\"'" if mark not in text), "")
    special = any(letter in ",()[]{}\"'" for letter in text) or text != text.strip()
    return f"{name}={quote}{text}{quote}" if isinstance(value, str) and special else f"{name}={text}"


def pause(root: Root, sweep: str) -> str:
    """Let nothing new of a sweep start; returns what came of it.

    Raises:
        LightexError: nothing is at work on it.
    """
    found = root.sweep(sweep)
    found.check_supervised()
    found.paused = True
    return f"sweep {sweep} is paused: what runs goes on, nothing new starts"


def resume(root: Root, sweep: str) -> str:
    """Let a paused sweep go on, or run what of one has not succeeded; returns what came of it.

    Raises:
        LightexError: `lx resume` refuses.
    """
    found = root.sweep(sweep)
    if found.supervised:
        found.paused = False
        return f"sweep {sweep} goes on"
    return _lx(root, Path(str(found.about.get("project") or root.path)), "resume", sweep, "--detach")


def prioritize(root: Root, runs: Sequence[Summary], priority: int) -> str:
    """Give runs that wait another priority; returns what came of it.

    Raises:
        LightexError: none of them waits, or nothing is at work on them.
    """
    waiting = [run for run in runs if run.status == QUEUED]
    if not waiting:
        raise LightexError("none of these runs waits to be started")
    for sweep, some in _by_sweep(waiting).items():
        root.sweep(sweep).prioritize([run.id for run in some], priority)
    return f"priority {priority} for {_count(waiting)}"


def _asked(what: str, kill: bool, each: str) -> str:
    return f"{what} asked to end" + ("" if kill else f", {each} within its grace")


def _end_unwatched(root: Root, names: Sequence[str], who: str, kill: bool) -> str:
    """Have what goes on though its dispatcher is gone ended by an `lx stop` of its own, which waits for their grace.

    Raises:
        LightexError: it refuses.
    """
    words = ["stop", *names, "--reason", f"stopped by {who}", *(["--kill"] if kill else [])]
    said = _begin(root, root.path, words, _AT_ONCE)
    return said or "what no dispatcher watched is asked to end" + ("" if kill else ", each within its grace")


def _by_sweep(runs: Sequence[Summary]) -> dict[str, list[Summary]]:
    found: dict[str, list[Summary]] = {}
    for run in runs:
        found.setdefault(run.sweep or "", []).append(run)
    return found


def _count(runs: Sequence[Summary]) -> str:
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def _project(run: Summary) -> Path:
    """Where the config of a run is."""
    try:
        return Path(str(RunDir(run.dir).identity.get("project") or run.dir))
    except StorageError:
        return Path(run.dir)


def _lx(root: Root, project: Path, *arguments: str) -> str:
    """What a command of `lx` says at its end.

    Raises:
        LightexError: it fails, in its own words.
    """
    if not project.is_dir():
        raise LightexError(f"the project's folder {project} is gone", "do it where the config is, in a terminal")
    said = _begin(root, project, arguments, _PATIENCE)
    if said is None:
        raise LightexError(f"lx {arguments[0]} has not come back within {_PATIENCE:.0f} s", "see lx ls")
    return said


def _begin(root: Root, folder: Path, words: Sequence[str], patience: float) -> str | None:
    """What an `lx` says last; None: it goes on after so many seconds, and is left to.

    Raises:
        LightexError: it fails, in its own words.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = subprocess.Popen(
            [*_LX, "--root", str(root.path), *words],
            cwd=folder,
            env=os.environ | {"NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = begun.wait(patience)
        except subprocess.TimeoutExpired:
            threading.Thread(target=begun.wait, daemon=True).start()  # so that it is not left a zombie
            return None
        (err if code else out).seek(0)
        lines = [line.strip() for line in (err if code else out) if line.strip()]
    if code:
        first, *more = lines or [f"exit code {code}"]
        raise LightexError(first.removeprefix("error: "), *more)
    return "; ".join(lines[-2:]) if lines else "done"
