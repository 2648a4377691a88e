"""Timing whole commands in turn, so that a drift of the machine's speed hits all alike."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Where Python may not keep compiled modules, each start compiles them all: no installed package has that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LX = str(Path(sys.executable).parent / "lx")


def in_turn(commands: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The median seconds of each, after a round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            command()
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def shell(command: Sequence[str], cwd: Path | None = None) -> Callable[[], None]:
    """A call that runs a command and throws its output away."""

    def call() -> None:
        subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, check=True)

    return call
