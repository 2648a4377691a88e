"""Sampling 100 process trees a second: share of a core (goal 5 %). A server that watches 1,000 live runs with 10
updates a second: share of a core, memory, age of what a page shows (goals 10 %, 200 MB, 1 s); in Chromium, whether that
page holds its browser up (goal: 100 ms at most)."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.browser import chromium
from benchmarks.measure import LX
from lightex.core import journal
from lightex.core.liveness import process_mark
from lightex.core.naming import show
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.dispatcher.engines import sampling
from lightex.dispatcher.proc import Sessions

_TREES, _RUNS, _SECONDS, _PORT, _TOKEN = 100, 1000, 20, 18766, "benchmark"
_SHOWN = 100  # of those that run, the latest
_WATCH = """
window.longest = 0;
window.seen = {};
new PerformanceObserver((list) => { longest = Math.max(longest, ...list.getEntries().map((one) => one.duration)); })
  .observe({ type: "longtask" });
new MutationObserver((changes) => changes.forEach(({ target }) => { seen[target.textContent.trim()] ??= Date.now(); }))
  .observe(document, { subtree: true, characterData: true });
"""
_TREE = "import subprocess, time; child = subprocess.Popen(['sleep', '600']); time.sleep(600)"


def main() -> None:
    """Print all of it."""
    sampled()
    with tempfile.TemporaryDirectory() as name:
        watched(Path(name))


def sampled() -> None:
    """What a sample of 100 trees costs, each of two processes."""
    leaders = [
        subprocess.Popen(
            [sys.executable, "-c", _TREE], start_new_session=True, env=os.environ | {"LX_RUN_DIR": str(number)}
        )
        for number in range(_TREES)
    ]
    try:
        time.sleep(3)
        taken, sessions = [], Sessions()
        for _ in range(15):
            began = time.process_time()
            members = sessions.members([leader.pid for leader in leaders])
            for leader in leaders:
                sampling.used_by(members[leader.pid], leader.pid)
            taken.append(time.process_time() - began)
        print(f"  {_TREES} process trees sampled each second: {statistics.median(taken):.1%} of a core")
    finally:
        for leader in leaders:
            os.killpg(leader.pid, 9)
            leader.wait()


def watched(folder: Path) -> None:
    """A server that a page in Chromium watches while runs log."""
    with chromium() as browser:
        if browser is None:
            return
        root, runs = make(folder / "root")
        environment = os.environ | {"LX_CACHE": str(folder / "cache"), "LX_TOKEN": _TOKEN}
        server = subprocess.Popen(
            [LX, "--root", str(root.path), "ui", "--port", str(_PORT), "--no-browser"],
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        try:
            get("live?part=live")
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{_PORT}/?token={_TOKEN}")
            page.goto(f"http://127.0.0.1:{_PORT}/live")
            page.evaluate(_WATCH)
            time.sleep(2)
            before, began, written = cpu_seconds(server.pid), time.monotonic(), dict[str, float]()
            while time.monotonic() - began < _SECONDS:
                loss = 1 / (len(written) + 2)  # each is shown otherwise, and than the first
                run = runs[-1 - len(written) % _SHOWN]
                journal.append(run.records_file(), {"time": time.time(), "step": 1, "metrics": {"loss": loss}})
                written[show(loss)] = time.time()
                time.sleep(0.1)
            share = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
            time.sleep(2)
            seen, longest = page.evaluate("seen"), page.evaluate("longest")
            ages = [seen[text] / 1000 - at for text, at in written.items()]
            memory = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[0]) / 1000
            used = f"{share:.1%} of a core, {memory:.0f} MB"
            print(f"  {_RUNS:,} live runs, 10 updates a second, one page that watches: {used}")
            print(
                f"    an update is on the page {statistics.median(ages):.2f} s after it, {max(ages):.2f} s at the most"
            )
            print(f"    the page holds its browser up for {longest:.0f} ms at the most (0: less than 50)")
        finally:
            server.terminate()
            server.wait()


def make(path: Path) -> tuple[Root, list[RunDir]]:
    """Runs that run, as far as anybody can see: their process is this one."""
    root, mark, runs = Root(path), process_mark(os.getpid()), []
    for number in range(_RUNS):
        now = time.time()
        identity = {"id": f"261126-120000-{number:05d}", "experiment": "live", "created": now, "engine": "process"}
        config = {"hp": {"lr": number / 1000}, "resources": {"cpus": 1}}
        queued = {"time": now, "state": "QUEUED", "attempt": 1}
        run = RunDir.create(path / "live" / identity["id"], identity, config, queued)
        run.append_event({"time": now, "state": "RUNNING", "attempt": 1, "process": mark})
        journal.append(run.records_file(), {"time": now, "step": 0, "metrics": {"loss": 1.0, "acc": 0.5}})
        run.append_usage({"time": now, "cpu": 1.0, "memory": 10**8})
        runs.append(run)
    return root, runs


def get(path: str, patience: float = 60.0) -> bytes:
    """An answer of the server, as soon as it is there."""
    asked = urllib.request.Request(f"http://127.0.0.1:{_PORT}/{path}", headers={"Authorization": f"Bearer {_TOKEN}"})
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(asked) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
