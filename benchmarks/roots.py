"""Makes roots of run directories that look like real ones, fast and always the same.

python -m benchmarks.roots DIR --runs 1000 --params 20 --metrics 10 --steps 100
"""

import argparse
import gzip
import hashlib
import io
import json
import math
import multiprocessing
import os
import random
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

SWEEP = 100
BEGIN = 1_750_000_000.0  # UTC seconds: the creation of the first run
METRICS = ["val.acc", "val.loss", "train.loss", "train.acc", "lr", "grad_norm", "tokens_per_second", "epoch_seconds"]
OPTIMISERS = ["adam", "adamw", "sgd", "lion"]
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
# cause, reason, exit code, signal: with about the shares that sweeps have
FAILURES = [
    ("exit", "exit code 1: ValueError: loss is NaN", 1, None),
    ("exit", "exit code 1: FileNotFoundError: data/train.npz", 1, None),
    ("oom", "out of memory: over its limit of 16 GiB", -9, "SIGKILL"),
    ("timeout", "it took longer than its timeout of 1h 00m", -15, "SIGTERM"),
    ("killed", "SIGKILL, which lx did not send", -9, "SIGKILL"),
]


@dataclass(frozen=True)
class Shape:
    """What a root holds.

    Attributes:
        runs: how many, in sweeps of 100.
        params: per run, at least 6.
        metrics: per record.
        steps: records of metrics per run that succeeded.
        experiments: that the sweeps are spread over.
        seed: of all that is drawn.
    """

    runs: int = 1000
    params: int = 20
    metrics: int = 10
    steps: int = 100
    experiments: int = 4
    seed: int = 0


def make(root: Path, shape: Shape = Shape(), jobs: int | None = None) -> None:
    """Fill a folder, which must not exist or be empty; `jobs` processes at once (default: one per CPU)."""
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise SystemExit(f"{root} is not empty")
    for number in range(shape.experiments):
        (root / experiment(number)).mkdir()
    (root / ".sweeps").mkdir()
    tasks = [(str(root), shape, number) for number in range(math.ceil(shape.runs / SWEEP))]
    with multiprocessing.get_context("fork").Pool(jobs or os.cpu_count()) as pool:
        for _ in pool.imap_unordered(_sweep, tasks, chunksize=4):
            pass


def experiment(number: int) -> str:
    """The name of an experiment."""
    return f"digits-{number}"


def sweep_id(number: int) -> str:
    """Four letters, never the same twice."""
    value = (number * 700_001 + 123_457) % 32**4  # the factor is odd, so this only shuffles
    return "".join(_LETTERS[(value >> shift) & 31] for shift in (15, 10, 5, 0))


def metric_names(count: int) -> list[str]:
    """The names of a run's metrics; the first is the objective."""
    return (METRICS + [f"extra.m{number:02d}" for number in range(len(METRICS), count)])[:count]


def _sweep(task: tuple[str, Shape, int]) -> None:
    root, shape, number = task
    name, ident = experiment(number % shape.experiments), sweep_id(number)
    folder, created = f"{root}/.sweeps/{ident}", BEGIN + number * 3600
    count = min(SWEEP, shape.runs - number * SWEEP)
    about = {
        "id": ident, "config_name": "grid", "config_reference": "grid", "engine": "process", "overrides": [],
        "command_line": ["/home/user/.venv/bin/lx", "run", "grid"], "project": "/home/user/digits",
        "experiments": [name], "total": count, "search": None, "host": "node1", "user": "user", "created": created,
    }  # fmt: skip
    os.mkdir(folder)  # noqa: PTH102  texts: a Path costs as much as the system does
    archive = _archive(number)
    code = hashlib.sha256(archive).hexdigest()[:12]
    _write(f"{folder}/sweep.json", _pretty(about))
    _write(f"{folder}/lock", b"")
    _write(f"{folder}/waits", b"")
    _write(f"{folder}/code.{code}.tar.gz", archive)
    for index in range(count):
        drawn = random.Random(f"{shape.seed}-{number * SWEEP + index}")
        _Run(drawn, shape, name, ident, index, created, code).write(root)


def _archive(number: int) -> bytes:
    """The snapshot of a sweep's code, without any time of now in it."""
    made, text = io.BytesIO(), json.dumps({"commit": f"{number:040x}", "branch": "main", "names": []}).encode()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo("code.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return gzip.compress(made.getvalue(), 1, mtime=0)


class _Run:
    """All files of one run."""

    def __init__(
        self, drawn: random.Random, shape: Shape, name: str, sweep: str, index: int, created: float, code: str
    ) -> None:
        self.drawn, self.shape, self.name, self.sweep, self.index, self.code = drawn, shape, name, sweep, index, code
        self.created = created
        self.id = f"{time.strftime('%y%m%d-%H%M%S', time.gmtime(created))}-{sweep}-{index:03d}"
        self.began = created + 0.5 + index * 20 + drawn.random()
        self.hp = self._params()
        fate = drawn.random()
        self.state = "SUCCEEDED" if fate < 0.9 else "FAILED" if fate < 0.95 else "CANCELLED" if fate < 0.98 else "LOST"
        self.steps = shape.steps if self.state == "SUCCEEDED" else drawn.randrange(shape.steps + 1)
        self.step_seconds = 1 + drawn.random() * 4

    def write(self, root: str) -> None:
        """Make its directory."""
        folder = f"{root}/{self.name}/{self.id}"
        os.mkdir(folder)  # noqa: PTH102
        _write(f"{folder}/run.json", _pretty(self._identity()))
        _write(f"{folder}/config.json", _pretty(self._config()))
        _write(f"{folder}/records.jsonl", self._records())
        _write(f"{folder}/events.jsonl", _lines(self._events()))
        _write(f"{folder}/output.log", b"".join(b"epoch %d\n" % step for step in range(self.steps)))
        os.link(f"{root}/.sweeps/{self.sweep}/code.{self.code}.tar.gz", f"{folder}/code.{self.code}.tar.gz")

    def _params(self) -> dict[str, object]:
        drawn = self.drawn
        found: dict[str, object] = {
            "lr": round(10 ** (-4 + 3 * drawn.random()), 6),
            "seed": self.index % 5,
            "opt": drawn.choice(OPTIMISERS),
            "batch_size": 2 ** drawn.randrange(4, 9),
            "model": {"type": "Conv", "depth": drawn.randrange(2, 9)},
        }
        for number in range(6, self.shape.params):
            kind = number % 3
            value = drawn.random() if kind == 0 else drawn.randrange(100) if kind == 1 else drawn.random() < 0.5
            found[f"p{number:02d}"] = value
        return found

    def _identity(self) -> dict[str, object]:
        hp = orjson.dumps(self.hp)
        return {
            "format": 1, "id": self.id, "experiment": self.name, "fingerprint": hashlib.sha256(hp).hexdigest()[:16],
            "command": ["python", "train.py", str(self.hp["lr"])], "env": {}, "cwd": "/home/user/digits",
            "varied": {"hp.lr": self.hp["lr"], "hp.seed": self.hp["seed"]}, "index": self.index, "after": [],
            "sweep": self.sweep, "git": "92e3cbc1e5c553ba7ec86bbc62f06874598a4ba8", "project": "/home/user/digits",
            "config_name": "grid", "config_reference": "grid", "engine": "process", "created": self.created,
            "user": "user", "host": "node1",
        }  # fmt: skip

    def _config(self) -> dict[str, object]:
        resources = {"cpus": 1.0, "memory": 17179869184, "gpus": 1, "gpu_memory": None, "shared_memory": None,
                     "node_labels": [], "nodes": 1}  # fmt: skip
        return {
            "name": self.name, "command": ["python", "train.py", "{{ hp.lr }}"], "hp": self.hp, "target": None,
            "resources": resources, "storage": {"dirs": {}, "remote": None, "code_limit": 104857600}, "container": None,
            "loggers": [], "engine": "process", "engine_options": {}, "env": {}, "cwd": None, "timeout": 3600.0,
            "stall": None, "grace": 10.0, "retries": {}, "backoff": 10.0, "priority": 0, "depends_on": [],
            "metric": "val.acc", "mode": "max",
            "tags": {"team": ("vision", "speech")[self.index % 2], "stage": ("pilot", "full", "final")[self.index % 3]},
        }  # fmt: skip

    def _records(self) -> bytes:
        drawn, names = self.drawn, metric_names(self.shape.metrics)
        best = 0.5 + 0.5 * drawn.random() * (1 - abs(math.log10(float(self.hp["lr"])) + 2.5) / 3)  # type: ignore[arg-type]
        lines = []
        for step in range(self.steps):
            values = [drawn.random() for _ in names]
            share = (step + 1) / self.shape.steps
            values[0] = best * share**0.3 + 0.01 * values[0]
            if len(values) > 2:
                values[1], values[2] = 1 - values[0] + 0.01 * values[1], 0.9 - 0.9 * values[0] + 0.01 * values[2]
            record = {"time": self._time(step), "step": step, "metrics": dict(zip(names, values, strict=True))}
            lines.append(orjson.dumps(record))
        if self.state == "SUCCEEDED":
            finish = {"time": self._time(self.steps), "finish": {"status": "SUCCEEDED", "reason": None}}
            lines.append(orjson.dumps(finish))
        return b"\n".join(lines) + b"\n" if lines else b""

    def _events(self) -> list[dict[str, object]]:
        pid = 1000 + self.index
        process = {"host": "node1", "pid": pid, "born": str(pid * 7), "bounds": ["cgroup"]}
        ended = self._time(self.steps) + 0.3
        end: dict[str, object] = {"time": ended, "attempt": 1, "state": self.state}
        if self.state == "SUCCEEDED":
            end |= {"exit_code": 0}
        elif self.state == "FAILED":
            cause, reason, code, signal = self.drawn.choice(FAILURES)
            end |= {"cause": cause, "reason": reason, "exit_code": code, "signal": signal, "last_lines": [reason]}
        elif self.state == "CANCELLED":
            end |= {"cause": "cancelled", "reason": "Ctrl-C", "exit_code": -15, "signal": "SIGTERM"}
        else:
            end |= {"cause": "lost", "reason": "its process is gone and nobody saw how it ended"}
        if self.state != "LOST":
            end |= {
                "peak_memory": self.drawn.randrange(10**9, 10**10),
                "cpu_seconds": round((ended - self.began) * 0.9, 3),
            }
        end["duration"] = round(ended - self.began, 3)
        return [
            {"time": self.created, "state": "QUEUED", "attempt": 1},
            {"time": self.began - 0.01, "state": "SUBMITTED", "attempt": 1, "engine": "process", "code": self.code},
            {"time": self.began, "state": "RUNNING", "attempt": 1, "handle": f"{pid}:{pid * 7}", "gpus": [0],
             "process": process},
            end,
        ]  # fmt: skip

    def _time(self, step: int) -> float:
        return self.began + 1 + step * self.step_seconds


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _pretty(value: dict[str, object]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _lines(values: list[dict[str, object]]) -> bytes:
    return b"".join(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE) for value in values)


def main() -> None:
    """Make a root, and print how long that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    shape = Shape()
    for name in ("runs", "params", "metrics", "steps", "experiments", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(shape, name), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, help="processes at once (default: one per CPU)")
    given = vars(parser.parse_args())
    folder, jobs = given.pop("folder"), given.pop("jobs")
    began = time.monotonic()
    make(folder, Shape(**given), jobs)
    print(f"{given['runs']:,} runs in {time.monotonic() - began:.1f} s: {folder}")


if __name__ == "__main__":
    main()
