"""200 experiments of `true` on the cluster of SLURM_CONF; beside one `sbatch --array` (goal: 1.1), and submitit."""

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import LX, in_turn, shell

COUNT = 200
CONFIG = """
from dataclasses import dataclass
from lightex import Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    seed: int = 0

base = Experiment(name="bench", command=["true"], hp=HP(), engine="slurm", resources=Resources(cpus=1, memory="100MiB"))
many = sweep(base, {{"hp.seed": range({count})}})
"""
SUBMITIT = """
import subprocess, sys
import submitit

executor = submitit.AutoExecutor(folder=sys.argv[1], cluster="slurm")
executor.update_parameters(slurm_array_parallelism={count}, cpus_per_task=1, slurm_mem="100M", timeout_min=60)
with executor.batch():
    jobs = [executor.submit(subprocess.check_call, ["true"]) for _ in range({count})]
for job in jobs:
    job.result()
"""
_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo")
_LOOK = 0.25  # seconds between two looks of the one who waits for the array that was made by hand


def main() -> None:
    """Print the time of each, and how many of Slurm's commands lx runs."""
    if not shutil.which("sbatch") or subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode:
        print("  no Slurm controller answers")
        return
    with tempfile.TemporaryDirectory(prefix="lx-bench-") as name:
        _compare(Path(name))


def _compare(folder: Path) -> None:
    (folder / "lxconfig.py").write_text(CONFIG.format(count=COUNT))
    (folder / "with_submitit.py").write_text(SUBMITIT.format(count=COUNT))
    rounds = itertools.count()

    def run_lx() -> None:
        shell([LX, "--root", str(folder / f"runs{next(rounds)}"), "run", "many"], folder)()

    def by_submitit() -> None:
        shell([sys.executable, "with_submitit.py", str(folder / f"jobs{next(rounds)}")], folder)()

    contenders = {"sbatch": _by_hand, "lx run": run_lx}
    if importlib.util.find_spec("submitit"):
        contenders["submitit"] = by_submitit
    found = in_turn(contenders, rounds=3)
    print("  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.items()))
    print(f"    lx run takes {found['lx run'] / found['sbatch']:.2f} of the array's time (goal: 1.1)")
    if "submitit" in found:
        print(f"    and {found['lx run'] / found['submitit']:.2f} of submitit's")
    print(f"    commands of Slurm's per experiment: {_count(folder, run_lx) / COUNT:.2f} (goal: 0.1)")


def _by_hand() -> None:
    """What a person does: submit the array, and look until it is gone."""
    asked = [f"--array=0-{COUNT - 1}", "--cpus-per-task=1", "--mem=100M", "--output=/dev/null", "--wrap=true"]
    job = subprocess.run(["sbatch", "--parsable", *asked], check=True, capture_output=True, text=True).stdout.strip()
    while subprocess.run(["squeue", "--noheader", f"--jobs={job}"], check=True, capture_output=True).stdout:
        time.sleep(_LOOK)


def _count(folder: Path, run_lx: Callable[[], None]) -> int:
    """How many commands of Slurm's a sweep runs: each is written down by a script before it."""
    shims, log = folder / "bin", folder / "commands"
    shims.mkdir()
    for command in _COMMANDS:
        if real := shutil.which(command):
            (shims / command).write_text(f'#!/bin/sh\necho {command} >>"{log}"\nexec {real} "$@"\n')
            (shims / command).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{shims}{os.pathsep}{before}"
    try:
        run_lx()
    finally:
        os.environ["PATH"] = before
    return len(log.read_text().splitlines())
