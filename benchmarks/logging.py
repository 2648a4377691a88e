"""10,000 calls of run.log with 5 scalars; beside one orjson.dumps and os.write each. Goal: 2 x. And kills: no loss."""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

import lightex
from lightex.core import journal
from lightex.core.root import Root

CALLS, KILLS = 10_000, 30
VALUES = {"loss": 0.123456, "acc": 0.98765, "lr": 1e-3, "norm": 12.5, "time": 0.25}
WRITER = """
import os, sys, lightex
run = lightex.start_run("kill", root=sys.argv[1], resume=sys.argv[2] or None)
n = int(sys.argv[3])
while True:
    run.log({"n": n, "a": 0.1, "b": 0.2, "c": 0.3, "d": float(n)}, step=n)
    n += 1
    os.pwrite(1, b"%12d %s" % (n, run.id.encode()), 0)
"""


def main() -> None:
    """Print the median time of a call, and what kills cost."""
    with tempfile.TemporaryDirectory() as name:
        _calls(Path(name))
        _kills(Path(name))


def _calls(folder: Path) -> None:
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare(step: int) -> None:
        os.write(descriptor, orjson.dumps({"time": time.time(), "step": step, "metrics": VALUES}) + b"\n")

    ratios, medians = [], []
    with lightex.start_run("bench", root=folder / "runs") as run:
        for _ in range(5):
            limit, ours = _median(bare), _median(lambda step: run.log(VALUES, step=step))
            ratios.append(ours / limit)
            medians.append((ours, limit))
    ours, limit = (statistics.median(column) * 1e6 for column in zip(*medians, strict=True))
    print(
        f"  run.log {ours:.2f} us, orjson.dumps + os.write {limit:.2f} us: {statistics.median(ratios):.2f} x (goal: 2)"
    )


def _median(call: Callable[[int], None]) -> float:
    taken = []
    for step in range(CALLS):
        began = time.perf_counter()
        call(step)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _kills(folder: Path) -> None:
    root, told, run_id, lost = Root(folder / "killed"), folder / "told", "", 0
    done = 0
    for _ in range(KILLS):
        told.write_bytes(b"")
        with told.open("r+b") as out:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(root.path), run_id, str(done)], stdout=out)
            while not told.stat().st_size:
                time.sleep(0.002)
            time.sleep(random.random() * 0.1)
            writer.kill()
            writer.wait()
        returned, run_id = told.read_text().split()
        (run,) = root.runs()
        steps = [record["step"] for record in journal.read(run.records_file()) if "metrics" in record]
        lost += max(0, int(returned) - len(steps)) + (steps != list(range(len(steps))))
        done = len(steps)
    print(f"  {KILLS} SIGKILLs at random moments of one run, {done} records: {lost} lost")
