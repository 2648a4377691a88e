"""200 experiments of `true` on a Ray of lx's own; beside plain tasks of Ray, init and shutdown in both. Goal: 1.2."""

import importlib.util
import itertools
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import LX, in_turn, shell

COUNT = 200
CONFIG = """
from dataclasses import dataclass
from lightex import Experiment, sweep

@dataclass(frozen=True)
class HP:
    seed: int = 0

base = Experiment(name="bench", command=["true"], hp=HP(), engine="ray",
                  engine_options={{"ray": {{"address": "local"}}}})
many = sweep(base, {{"hp.seed": range({count})}})
"""
PLAIN = """
import os, subprocess, ray

ray.init(address="local", num_cpus={cpus}, include_dashboard=False)

@ray.remote
def run():
    return subprocess.run(["true"]).returncode

assert ray.get([run.remote() for _ in range({count})]) == [0] * {count}
ray.shutdown()
"""


def main() -> None:
    """Print the time of each."""
    if importlib.util.find_spec("ray") is None:
        print("  ray is not installed: pip install 'lightex[ray]'")
        return
    from lightex.dispatcher.capacity import this_machine

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lxconfig.py").write_text(CONFIG.format(count=COUNT))
        (folder / "plain.py").write_text(PLAIN.format(count=COUNT, cpus=max(1, int(this_machine().cpus))))
        rounds = itertools.count()

        def run_lx() -> None:
            shell([LX, "--root", str(folder / f"runs{next(rounds)}"), "run", "many"], folder)()

        plain = shell([sys.executable, "plain.py"], folder)
        found = in_turn({"ray": plain, "lx run": run_lx}, rounds=3)
    print(f"  plain tasks of Ray {found['ray']:.1f} s, lx run {found['lx run']:.1f} s")
    print(f"    lx run takes {found['lx run'] / found['ray']:.2f} of Ray's own time (goal: 1.2)")
