"""500 experiments of `true`, 4 at once, everything recorded; beside xargs and GNU parallel. Goal: 0.6 x parallel."""

import itertools
import shutil
import tempfile
from pathlib import Path

from benchmarks.measure import LX, in_turn, shell

COUNT = 500
CONFIG = f"""
from dataclasses import dataclass
from lightex import Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    seed: int = 0

base = Experiment(name="bench", command=["true"], hp=HP(), resources=Resources(cpus=0.5))
many = sweep(base, {{"hp.seed": range({COUNT})}})
"""


def main() -> None:
    """Print the time per experiment of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lxconfig.py").write_text(CONFIG)

        rounds = itertools.count()

        def run_lx() -> None:  # a new folder each time: removing the last one would be measured with it
            shell([LX, "--root", f"{name}-runs/{next(rounds)}", "run", "many", "-j", "4"], folder)()

        commands = {"xargs -P4": shell(["sh", "-c", f"seq {COUNT} | xargs -P4 -n1 true"]), "lx run -j 4": run_lx}
        if parallel := shutil.which("parallel"):
            commands["GNU parallel"] = shell(["sh", "-c", f"seq {COUNT} | {parallel} -j4 true {{}}"])
        found = in_turn(commands, rounds=5)
        shutil.rmtree(f"{name}-runs")
    for command, seconds in found.items():
        print(f"  {command:<14} {seconds / COUNT * 1000:6.2f} ms each   {seconds / found['xargs -P4']:5.2f} x xargs")
    if "GNU parallel" in found:
        print(f"  lx run takes {found['lx run -j 4'] / found['GNU parallel']:.2f} of GNU parallel's time (goal: 0.6)")
    else:
        print("  GNU parallel is not installed (apt-get install parallel)")
