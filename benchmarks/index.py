"""The index of 10,000 runs (100 steps of 10 metrics) and of 100,000 (5 steps): built from nothing, beside reading the
same files and doing nothing with them; brought up to date; a page filtered and sorted; memory of the server."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import QueryParams

from benchmarks import roots
from benchmarks.measure import LX
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.qviz.pages.view import make_view

SHAPES = {10_000: 100, 100_000: 5}  # runs: steps
FILTER = "hp.lr > 0.01 and status = succeeded order by val.acc desc"
_PORT = 18765
_TOKEN = "benchmark"
_READ = "import pathlib, sys; [file.read_bytes() for file in pathlib.Path(sys.argv[1]).glob('*/*/*.json*')]"


def main() -> None:
    """Print seconds, and what of them are of the files themselves."""
    for runs, steps in SHAPES.items():
        with tempfile.TemporaryDirectory() as name:
            root, cache = Path(name) / "root", Path(name) / "cache"
            roots.make(root, roots.Shape(runs=runs, params=20, metrics=10, steps=steps))
            os.environ["LX_CACHE"] = str(cache)
            measure(root, cache, runs, rounds=3 if runs <= 10_000 else 1)


def measure(root: Path, cache: Path, runs: int, rounds: int) -> None:
    """Print the figures of one root."""
    files = median(lambda: subprocess.run([sys.executable, "-c", _READ, str(root)], check=True), rounds)
    built = median(lambda: Index(Root(root)).close(), rounds, before=lambda: shutil.rmtree(cache, ignore_errors=True))
    print(f"  {runs:,} runs: from nothing {built:.1f} s, {built / files:.1f} of reading their files ({files:.1f} s)")
    print(f"    opened and refreshed with nothing new   {median(lambda: Index(Root(root)).close(), 5) * 1000:8.0f} ms")
    with Index(Root(root)) as index:
        asked = QueryParams(q=FILTER)
        first = median(lambda: make_view(index, asked), 1)
        page = median(lambda: make_view(index, asked), 7)
        glance = median(lambda: index.refresh(whole=False), 7)
    print(f"    a page filtered, sorted and counted     {page * 1000:8.1f} ms (the first time {first * 1000:.0f} ms)")
    print(f"    a look at what has stirred              {glance * 1000:8.1f} ms, each second while somebody watches")
    print(f"    memory of lx ui after 20 pages          {server_memory(root):8.0f} MB")


def server_memory(root: Path) -> float:
    """The most memory that `lx ui` has used, in MB, after some pages."""
    server = subprocess.Popen(
        [LX, "--root", str(root), "ui", "--port", str(_PORT), "--no-browser"],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"LX_TOKEN": _TOKEN},
    )
    try:
        for page in range(1, 21):
            query = urllib.parse.urlencode({"q": FILTER, "page": page})
            asked = urllib.request.Request(
                f"http://127.0.0.1:{_PORT}/?{query}", headers={"Authorization": f"Bearer {_TOKEN}"}
            )
            answered(asked)
        return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[0]) / 1000
    finally:
        server.terminate()
        server.wait()


def answered(asked: urllib.request.Request, patience: float = 60.0) -> None:
    """Get a page, as soon as the server is there."""
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(asked) as answer:
                answer.read()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def median(act: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> float:
    """The median seconds of some rounds."""
    taken = []
    for _ in range(rounds):
        before()
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
