"""1,000 runs listed, filtered by a parameter and ordered by a metric; the history of a metric of 100 runs; each a cold
process, beside MLflow, trackio and Aim with the same data. Aim is taken from AIM_PYTHON, a Python that has it."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import roots
from benchmarks.measure import LX, in_turn, shell
from benchmarks.peers import PEERS

SHAPE = roots.Shape(runs=1000, params=20, metrics=10, steps=100)
QUESTIONS = {"list": "1,000 runs filtered, best first", "history": "the history of a metric of 100 runs"}
_SCRIPT = str(Path(__file__).with_name("peers.py"))


def main() -> None:
    """Print the median of five cold processes for each question, and ratios to each peer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = folder / "root"
        roots.make(root, SHAPE)
        stores = {peer: store for peer in PEERS if (store := fill(peer, root, folder / peer))}
        ours = lightex_commands(root)
        for action, question in QUESTIONS.items():
            commands = {"lx": ours[action]} if action in ours else {}
            commands |= {peer: peer_command(peer, action, store) for peer, store in stores.items()}
            found = in_turn({each: shell(command) for each, command in commands.items()}, rounds=5)
            print(f"  {question}")
            for each, seconds in found.items():
                ratio = f"   lx takes {found['lx'] / seconds:.2f} of it" if each != "lx" and "lx" in found else ""
                print(f"    {each:<8} {seconds * 1000:8.1f} ms{ratio}")


def lightex_commands(root: Path) -> dict[str, list[str]]:
    """What answers each question here, as a command line."""
    lx = [LX, "--root", str(root)]
    return {
        "list": [*lx, "ls", "--where", "hp.lr > 0.01 order by val.acc desc", "--json"],
        "history": [*lx, "plot", "val.acc", "--where", "order by id limit 100", "--json"],
    }


def fill(peer: str, root: Path, store: Path) -> Path | None:
    """Put the runs of a root into a peer's store; None, and said, where the peer is not installed."""
    if python(peer) is None:
        print(f"  {peer} is not installed" + (" (AIM_PYTHON=... names a Python that has it)" if peer == "aim" else ""))
        return None
    store.mkdir()
    began = time.monotonic()
    subprocess.run([*peer_command(peer, "fill", store), str(root)], check=True, capture_output=True)
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    print(f"  {peer} has them after {time.monotonic() - began:.0f} s, in {size / 2**20:.0f} MiB")
    return store


def peer_command(peer: str, action: str, store: Path) -> list[str]:
    """A cold process of a peer. `-P`: this folder has a logging.py of its own."""
    return [str(python(peer)), "-P", _SCRIPT, peer, action, str(store)]


def python(peer: str) -> str | None:
    """The Python that has the peer's package."""
    chosen = os.environ.get(f"{peer.upper()}_PYTHON")
    return chosen or (sys.executable if importlib.util.find_spec(peer) else None)


if __name__ == "__main__":
    main()
