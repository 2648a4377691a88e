"""The web UI in headless Chromium, on loopback: first table, first charts, longest task, how far things jump."""

import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import roots
from benchmarks.measure import LX

ROUNDS = 3
WATCH = """
window.figures = { table: null, chart: null, longest: 0, shift: 0, late: 0 };
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) figures.longest = Math.max(figures.longest, duration);
}).observe({ type: "longtask", buffered: true });
new PerformanceObserver((list) => list.getEntries().forEach((e) => {
  if (e.hadRecentInput) return;
  figures.shift += e.value;
  if (e.startTime > 1000) figures.late += e.value;
})).observe({ type: "layout-shift", buffered: true });
document.addEventListener("painted", ({ target }) => {
  if (new RegExp(": WANTED curve").test(target.getAttribute("aria-label"))) figures.chart ??= performance.now();
}, true);
(function look() {
  if (document.querySelector("#table tbody tr")) requestAnimationFrame(() => { figures.table ??= performance.now(); });
  else requestAnimationFrame(look);
})();
"""


@dataclass(frozen=True)
class Case:
    """A page that is measured.

    Attributes:
        title: what it shows.
        root: the name of its root.
        path: below the UI's address.
        measured: "table" or "chart".
        bound: milliseconds that it may take.
        curves: of the chart that is waited for, as a regular expression.
    """

    title: str
    root: str
    path: str
    measured: str
    bound: float
    curves: str = "[1-9]\\\\d*"


CASES = [
    Case("10,000 runs: the first table", "many", "", "table", 1000),
    Case(
        "10,000 runs filtered and sorted: the table", "many", "?q=hp.lr+%3E+0.01+order+by+val.acc+desc", "table", 1000
    ),
    Case("100 curves of 10,000 points", "curves", "?size=100&mean=0", "chart", 2000, "100"),
    Case("a run of 1,000 metrics, 100 steps: the first chart", "metrics", "run/bbbb-000?tab=charts", "chart", 1500),
]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; None, which is said, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        path = None
    if not path:
        print("  needs Chromium and Playwright")
        yield None
        return
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def main() -> None:
    """Print the medians of three visits, each in a browser's fresh profile."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        if browser is None:
            return
        folder = Path(name)
        fill(folder)
        for root in dict.fromkeys(case.root for case in CASES):
            with serving(folder / root, folder / "cache") as address:
                for case in CASES:
                    if case.root == root:
                        show(case, *[visit(browser, address, case) for _ in range(ROUNDS + 1)])


def show(case: Case, first: dict[str, float], *found: dict[str, float]) -> None:
    """Print one case; the first visit, for which the server has to read files, apart."""
    middle = {name: statistics.median(each[name] for each in found) for name in found[0]}
    took, share = middle[case.measured], middle[case.measured] / case.bound
    print(
        f"  {case.title:<50}{took:6.0f} ms  {share:4.2f} of its bound, at first {first[case.measured]:5.0f} ms", end=""
    )
    print(f"   longest task {middle['longest']:3.0f} ms   shift {middle['shift']:.3f}, after 1 s {middle['late']:.3f}")


def fill(folder: Path) -> None:
    """The three roots."""
    roots.make(folder / "many", roots.Shape(runs=10_000, params=20, metrics=10, steps=20))
    curves = folder / "curves" / "long"
    for number in range(100):
        values = (math.exp(-step / 3000) + 0.1 * math.sin(step * (number + 1) / 50) for step in range(10_000))
        run(curves, "aaaa", number, ({"loss": value} for value in values))
    metrics = folder / "metrics" / "wide"
    names = [f"{'abcdefghij'[number % 10]}.m{number:04d}" for number in range(1000)]
    run(metrics, "bbbb", 0, ({name: step / 100 + place for place, name in enumerate(names)} for step in range(100)))


def run(folder: Path, sweep: str, number: int, records: Any) -> None:
    """A run that has ended."""
    ident = f"260528-202640-{sweep}-{number:03d}"
    (folder / ident).mkdir(parents=True)
    identity: dict[str, Any] = {"format": 1, "id": ident, "experiment": folder.name, "sweep": sweep, "index": number}
    identity |= {"command": ["true"], "created": 1_780_000_000.0 + number}
    (folder / ident / "run.json").write_text(json.dumps(identity))
    (folder / ident / "config.json").write_text(json.dumps({"hp": {"number": number}}))
    events = [{"time": 1_780_000_000.0, "state": state, "attempt": 1} for state in ("QUEUED", "RUNNING", "SUCCEEDED")]
    (folder / ident / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    with (folder / ident / "records.jsonl").open("w") as file:
        for step, metrics in enumerate(records):
            file.write(json.dumps({"time": 1_780_000_001.0 + step, "step": step, "metrics": metrics}) + "\n")


@contextlib.contextmanager
def serving(root: Path, cache: Path) -> Iterator[str]:
    """`lx ui` over a root; its address."""
    env = {**os.environ, "LX_TOKEN": "tok", "LX_CACHE": str(cache)}
    command = [LX, "--root", str(root), "ui", "--no-browser"]
    if os.environ.get("PYTHONPATH"):  # a working tree that is not the installed one
        command = [sys.executable, "-c", "from lightex.cli import main; main()", *command[1:]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    assert process.stdout is not None
    try:
        address = [process.stdout.readline() for _ in range(3)][1].strip()
        yield address.partition("?")[0]
    finally:
        process.terminate()
        process.communicate()


def visit(chromium: Any, address: str, case: Case) -> dict[str, float]:
    """One visit in a fresh profile: milliseconds since the start of the navigation, and how far things jumped."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(f"{address}compare?token=tok")  # the token becomes a cookie
    page.add_init_script(WATCH.replace("WANTED", case.curves))
    page.goto(f"{address}{case.path}")
    for _ in range(1000):
        if page.evaluate(f"figures.{case.measured}"):
            break
        page.wait_for_timeout(20)
    page.wait_for_timeout(1500)
    found: dict[str, float] = page.evaluate("figures")
    context.close()
    if not found[case.measured]:
        raise SystemExit(f"{case.title}: nothing came")
    return {name: value or 0.0 for name, value in found.items()}


if __name__ == "__main__":
    main()
