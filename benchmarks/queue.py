"""The queue: 50 sleeps beside the ideal; from an end to the next start; 10,000 queued. Goals: 1.03; 10 ms; see each."""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import LX

MANY = 10_000
CONFIG = """
from dataclasses import dataclass
from lightex import Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    seed: int = 0

def make(name, command, count):
    base = Experiment(name=name, command=command, hp=HP(), resources=Resources(cpus=0.5))
    return sweep(base, {"hp.seed": range(count)})

sleeps = make("sleeps", ["sleep", "0.5"], 50)
pairs = make("pairs", ["sh", "-c", "date +%s.%N; sleep 0.05; date +%s.%N"], 40)
few = make("few", ["true"], 500)
many = make("many", ["true"], 10000)
long = make("long", ["sleep", "1000"], 10000)
"""


def main() -> None:
    """Print each figure beside its goal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lxconfig.py").write_text(CONFIG)
        _ten_thousand(folder)
        began = time.perf_counter()
        queue, ideal = 50 * _each(folder, "sleeps"), 13 * 0.5
        whole = time.perf_counter() - began
        print(f"  50 x sleep 0.5, 4 at once, from first start to last end: {queue / ideal:.3f} of the ideal (1.03)")
        print(f"  the same with lx's own start and end: {whole / ideal:.3f}; GNU parallel: {_parallel() / ideal:.3f}")
        print(f"  from an end to the next start: {_gap(folder) * 1000:.1f} ms, median (goal: 10)")
        few, many = (_each(folder, name) for name in ("few", "many"))
        print(f"  an experiment of {MANY}: {many * 1000:.2f} ms, {many / few:.2f} of one of 500 (goal: 1.3)")


def _run(folder: Path, *arguments: str) -> None:
    subprocess.run([LX, "run", *arguments], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def _parallel() -> float:
    if not shutil.which("parallel"):
        return float("nan")
    numbers = "\n".join(map(str, range(50)))
    began = time.perf_counter()
    subprocess.run(
        ["parallel", "-j4", "sleep 0.5 #{}"], input=numbers, text=True, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def _gap(folder: Path) -> float:
    """Seconds from the last word of a run to the first of the next one, as they tell the time themselves."""
    _run(folder, "pairs", "-j", "1")
    files = sorted((folder / "runs" / "pairs").glob("*/output.log"))
    times = [tuple(map(float, file.read_text().split())) for file in files]
    return statistics.median(after[0] - before[1] for before, after in itertools.pairwise(times))


def _each(folder: Path, name: str) -> float:
    """Seconds per experiment between the first start and the last end."""
    _run(folder, name, "-j", "4")
    events = [path.read_text().splitlines() for path in (folder / "runs" / name).glob("*/events.jsonl")]
    starts = [json.loads(lines[1])["time"] for lines in events]
    ends = [json.loads(lines[-1])["time"] for lines in events]
    return (max(ends) - min(starts)) / len(events)


def _ten_thousand(folder: Path) -> None:
    began = time.perf_counter()
    with _detached(folder, "long") as supervisor:
        submitted = (time.perf_counter() - began) / MANY
        time.sleep(3)
        before, at = _cpu_seconds(supervisor), time.perf_counter()
        time.sleep(10)
        share = (_cpu_seconds(supervisor) - before) / (time.perf_counter() - at)
        memory = next(line for line in Path(f"/proc/{supervisor}/status").read_text().splitlines() if "VmRSS" in line)
    print(f"  {MANY} queued: submitting {submitted * 1000:.2f} ms each (goal: 1)")
    print(f"  its supervisor: {int(memory.split()[1]) / 1024:.0f} MiB (goal: 150), {share:.1%} of a core (goal: 2 %)")


@contextmanager
def _detached(folder: Path, name: str) -> Iterator[int]:
    """A sweep at work; gives its supervisor's process id."""
    _run(folder, name, "-j", "4", "--detach")
    try:
        (lock,) = (folder / "runs" / ".sweeps").glob("*/lock")
        while not (found := [pid for pid in _holders(lock) if not _is_parent(pid, _holders(lock))]):
            time.sleep(0.05)
        yield found[0]
    finally:
        subprocess.run([LX, "stop", lock.parent.name, "--kill"], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def _holders(lock: Path) -> list[int]:
    """The processes that have a file open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(each.readlink()) == str(lock) for each in (entry / "fd").iterdir()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _is_parent(pid: int, others: list[int]) -> bool:
    parents = [int(Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[1]) for other in others]
    return pid in parents


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
