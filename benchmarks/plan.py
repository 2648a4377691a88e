"""A plan of 10,000 experiments from one sweep, as a whole command. Goal: 2 s."""

import tempfile
from pathlib import Path

from benchmarks.measure import LX, in_turn, shell

CONFIG = """
from dataclasses import dataclass
from lightex import Experiment, sweep

@dataclass(frozen=True)
class HP:
    lr: float = 0.1
    seed: int = 0
    width: int = 8
    name: str = "a b"

base = Experiment(name="plan", command="python train.py --lr {{ hp.lr }} {{ hp | flags }}", hp=HP())
many = sweep(base, {"hp.lr": [x / 100 for x in range(1, 101)], "hp.seed": range(100)})
"""


def main() -> None:
    """Print the time of the plan."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "lxconfig.py").write_text(CONFIG)
        found = in_turn({"plan": shell([LX, "plan", "many"], Path(name))}, rounds=3)
    print(f"  lx plan of 10,000: {found['plan']:.2f} s")
