"""Roots of real run directories for the web UI: plain ones, hostile ones, a run that goes on while one looks."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

import lightex
from lightex.core.liveness import birth_mark
from lightex.core.rundir import RunDir

EVIL = "<img src=x onerror=alert(1)>"
QUOTED = "\"'`&<>\\ ${7*7} {{7*7}}"
CREATED = 1_780_000_000.0


def run_dir(
    root: Path,
    number: int,
    *,
    experiment: str = "digits",
    sweep: str = "aaaa",
    state: str = "SUCCEEDED",
    reason: str | None = None,
    hp: dict[str, Any] | None = None,
    metrics: dict[str, list[float]] | None = None,
    **more: Any,
) -> RunDir:
    """A run of a sweep as `lx run` leaves it; of state RUNNING its process is this one."""
    ident, created = f"260528-202640-{sweep}-{number:03d}", CREATED + number
    identity = {
        "format": 1, "id": ident, "experiment": experiment, "sweep": sweep, "index": number, "config_name": "grid",
        "command": ["python", "train.py", str(number)], "varied": {f"hp.{name}": value for name, value in (hp or {}).items()},
        "engine": "process", "user": "ada", "host": "node1", "created": created, "fingerprint": f"{number:016x}",
    }  # fmt: skip
    folder = root / experiment / ident
    config = {"name": experiment, "hp": hp or {}, "metric": "val.acc", "mode": "max", "tags": {"team": "vision"}}
    run = RunDir.create(folder, identity, config, {"time": created, "state": "QUEUED", "attempt": 1})
    events: list[dict[str, Any]] = []
    if state != "QUEUED":
        process = {"host": socket.gethostname(), "pid": os.getpid(), "born": birth_mark(os.getpid()), "bounds": []}
        events.append({"time": created + 1, "state": "RUNNING", "attempt": 1, "handle": "1", "process": process})
    if state not in ("QUEUED", "RUNNING"):
        events.append({"time": created + 62 + number, "state": state, "attempt": 1, "reason": reason, "exit_code": int(state == "FAILED"), "duration": 61.0 + number, "last_lines": ["Traceback (most recent call last):", reason or ""] if reason else [], **more})  # fmt: skip
    with (folder / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    steps = max(map(len, (metrics or {}).values()), default=0)
    with (folder / "records.jsonl").open("w") as records:
        for step in range(steps):
            values = {name: series[step] for name, series in (metrics or {}).items() if step < len(series)}
            records.write(json.dumps({"time": created + 1 + step, "step": step, "metrics": values}) + "\n")
    (folder / "output.log").write_text(
        "".join(f"epoch {step}\n" for step in range(steps)) + (f"ValueError: {reason}\n" if reason else "")
    )
    return run


def curve(lr: float, seed: int, steps: int = 40) -> dict[str, list[float]]:
    """Metrics that hang on the parameters, without chance."""
    top = 0.95 - 0.05 * abs(math.log10(lr) + 2) - 0.002 * seed
    acc = [top * (1 - math.exp(-step / 8)) + 0.01 * math.sin(step + seed) for step in range(steps)]
    return {"val.acc": acc, "val.loss": [1.1 - value for value in acc], "train/loss": [1 - value for value in acc]}


def plain(root: Path) -> list[RunDir]:
    """A sweep of twelve with two that failed, one that waits, one that was cancelled; and another of three."""
    made = []
    grid = [(lr, seed) for lr in (0.1, 0.01, 0.001) for seed in range(4)]
    for number, (lr, seed) in enumerate(grid):
        state, reason = "SUCCEEDED", None
        if number in (3, 7):
            state, reason = "FAILED", "exit code 1: ValueError: loss is NaN"
        elif number == 10:
            state, reason = "CANCELLED", "Ctrl-C"
        elif number == 11:
            state = "QUEUED"
        hp = {"lr": lr, "seed": seed, "model": "wide" if seed % 2 else "narrow"}
        metrics = curve(lr, seed, {"QUEUED": 0, "FAILED": 9}.get(state, 40))
        made.append(run_dir(root, number, hp=hp, state=state, reason=reason, metrics=metrics))
    for number in range(3):
        hp = {"lr": 0.02, "seed": number, "depth": 2 + number}
        made.append(run_dir(root, number, experiment="letters", sweep="bbbb", hp=hp, metrics=curve(0.02, number)))
    sweep = root / ".sweeps" / "aaaa"
    sweep.mkdir(parents=True)
    about = {
        "id": "aaaa",
        "config_name": "grid",
        "total": 12,
        "created": CREATED,
        "engine": "process",
        "experiments": ["digits"],
    }
    (sweep / "sweep.json").write_text(json.dumps(about))
    return made


def hostile(root: Path, outside: Path) -> list[Path]:
    """Runs whose names, values, notes, files and output are markup, paths and control characters.

    Args:
        root: to fill.
        outside: an empty folder, which symbolic links lead to.
    """
    (outside / "secret.txt").write_text("the secret")
    folders = []
    params = {
        "net" + EVIL: "<script>alert(1)</script>",
        "quoted": QUOTED,
        "list": ["</script>", 1],
        "nothing": None,
        "long": "x" * 400,
    }
    for seed in range(2):
        tags = {"team" + EVIL: EVIL, "q": QUOTED}
        with lightex.start_run("media <b>&x", params={**params, "seed": seed}, tags=tags, root=root) as run:
            for step in range(30):
                values = {
                    EVIL: step,
                    "loss": math.exp(-step / 10) if step % 7 else math.nan,
                    "a/" + QUOTED: 10.0**step,
                    "inf": math.inf if step == 3 else step,
                }
                run.log(values, step=step)
            media(run, outside)
            folder = Path(run.dir)
        RunDir(folder).note("a note " + EVIL + QUOTED, {"noted": EVIL}, None)
        artifacts = folder / "artifacts"
        (artifacts / "passwd").symlink_to("/etc/passwd")
        (artifacts / "out").symlink_to(outside)
        (artifacts / "through.txt").symlink_to(outside / "secret.txt")
        (artifacts / "within.txt").symlink_to(artifacts / "a.txt")
        (artifacts / "a.txt").write_text("inside")
        (artifacts / f"{EVIL.replace('/', '')}.txt").write_text(EVIL)
        (artifacts / "a b#c?d%2e&e.txt").write_text("odd name")
        (artifacts / "evil.js").write_text("alert(1)")
        (artifacts / "model.bin").write_bytes(bytes(range(256)))
        (folder / "leak.log").symlink_to("/etc/passwd")
        log = (
            "\x1b[31mred\x1b[0m text\n"
            + EVIL
            + "\n"
            + QUOTED
            + "\n\x1b]0;title\x07bell\n10%\r50%\r100%\n"
            + f"Error: {EVIL}\n"
        )
        (folder / "output.log").write_text(log)
        folders.append(folder)
    return folders


def media(run: Any, folder: Path) -> None:
    """One of each kind of media, an HTML file and an SVG with scripts."""
    rows = [[1, "a<i>", 2.5], [2, EVIL, None]]
    for step in (0, 10, 20):
        run.log_image("sample" + EVIL, np.random.default_rng(step).random((32, 48, 3)), step=step)
        run.log_histogram("weights" + EVIL, np.random.default_rng(step).normal(size=500) * (1 + step), step=step)
        run.log_text("said" + EVIL, f"step {step}: {EVIL} <b>bold</b>", step=step)
        run.log_table("rows" + EVIL, rows, columns=["x" + EVIL, "y", "z"], step=step)
    run.log_audio("beep", np.sin(np.arange(4000) / 5), rate=8000)
    for name, text in {
        "evil.html": "<script>parent.alert(1); alert(2)</script>hello",
        "evil.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><script>alert(3)</script><circle r="40" cx="45" cy="45" fill="red" onload="alert(4)"/></svg>',
    }.items():
        (folder / name).write_text(text)
        run.log_artifact(folder / name)


def living(root: Path, number: int = 0) -> RunDir:
    """A run at work: its process is the tests'; `grow` goes on with it."""
    run = run_dir(
        root, number, experiment="live", sweep="cccc", state="RUNNING", hp={"lr": 0.01}, metrics={"loss": [1.0, 0.9]}
    )
    grow(run, 2)
    return run


def grow(run: RunDir, step: int, value: float = 0.5, end: str | None = None) -> None:
    """One more record and line of output; `end`: the state in which the run ends."""
    with (run.path / "records.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), "step": step, "metrics": {"loss": value}}) + "\n")
    with (run.path / "output.log").open("a") as file:
        file.write(f"step {step}\n")
    if end:
        with (run.path / "events.jsonl").open("a") as file:
            file.write(
                json.dumps({"time": time.time(), "state": end, "attempt": 1, "exit_code": 0, "duration": 5.0}) + "\n"
            )


def broken(root: Path) -> None:
    """Folders that are no runs, or whose files are cut off."""
    (root / "broken" / "260101-000000-zzzz-000").mkdir(parents=True)
    (root / "broken" / "260101-000000-zzzz-000" / "run.json").write_text('{"format": 1, "id": "26')
    (root / "broken" / "260101-000000-zzzz-001").mkdir()
    (root / "broken" / "260101-000000-zzzz-002").mkdir()
    (root / "broken" / "260101-000000-zzzz-002" / "run.json").write_text("[]")
    run = run_dir(root, 3, experiment="broken", sweep="zzzz", metrics={"loss": [1.0]})
    with (run.path / "records.jsonl").open("ab") as file:
        file.write(
            b'\x00\xff{"metrics": 5}\n{"metrics": {"loss": "text"}}\nnot json\n{"text": 4, "media": {"path": 5}, "histogram": 3}\n{"cut'
        )
    (run.path / "environment.json").write_text("{")
    (run.path / "code.abc.tar.gz").write_bytes(b"not a tar")
