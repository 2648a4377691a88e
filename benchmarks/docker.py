"""20 experiments of `true` in containers, 2 at once; beside `docker run` under xargs -P2. Goal: 1.1."""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import LX, in_turn, shell
from lightex.core.rundir import RunDir

COUNT = 20
CONFIG = """
from dataclasses import dataclass
from lightex import Container, Experiment, Resources, sweep

@dataclass(frozen=True)
class HP:
    seed: int = 0

base = Experiment(name="bench", command=["true"], hp=HP(), engine="docker", resources=Resources(cpus={cpus}),
                  container=Container({image!r}, network={network!r}))
many = sweep(base, {{"hp.seed": range({count})}})
"""


def main() -> None:
    """Print the time per experiment of each."""
    there = shutil.which("docker")
    if not there or subprocess.run([there, "info"], capture_output=True, check=False).returncode:
        print("  no docker daemon answers")
        return
    image = os.environ.get("LX_BENCH_IMAGE") or _base()
    for network in ("bridge", "host"):
        _compare(image, network)


def _compare(image: str, network: str) -> None:
    """Both in the same network: docker's default is bridge, lx's is host, where a container starts sooner."""
    worked: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lxconfig.py").write_text(CONFIG.format(image=image, network=network, count=COUNT, cpus=1))
        rounds = itertools.count()

        def run_lx() -> None:
            root = Path(f"{name}-runs/{next(rounds)}")
            shell([LX, "--root", str(root), "run", "many", "-j", "2"], folder)()
            events = [RunDir(path).events() for path in root.glob("bench/*")]
            worked.append(max(each[-1]["time"] for each in events) - min(each[1]["time"] for each in events))

        one = f"docker run --rm --init --network {network} --cpus 1 --user 0:0 --workdir {folder} -v {folder}:{folder}"
        docker = shell(["sh", "-c", f"seq {COUNT} | xargs -P2 -I% {one} {image} true"])
        found = in_turn({"docker run": docker, "lx run": run_lx}, rounds=5)
        shutil.rmtree(f"{name}-runs")
    alone, own = found["docker run"], found["lx run"]
    print(f"  network {network:<6}  docker run {alone / COUNT * 1000:5.1f} ms each, lx run {own / COUNT * 1000:5.1f}")
    print(f"    lx run takes {own / alone:.2f} of docker run's time (goal: 1.1); "
          f"{statistics.median(worked) / alone:.2f} from its first start to its last end")  # fmt: skip


def _base() -> str:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.services import docker as services

    services.make_base(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    return services.BASE
