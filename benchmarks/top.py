"""lx top over 1,000 live runs: from the start until its table is drawn in a pseudo-terminal of 80x24, beside
`python -c 'import textual.app'`, the floor; and what a second of watching costs. Goal: 1 s with an index."""

import fcntl
import json
import os
import pty
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from benchmarks import roots
from benchmarks.measure import in_turn, shell
from lightex.core.liveness import process_mark
from lightex.core.root import Root, SweepDir

RUNS = 1000
ROUNDS = 5
_DRAWN = f"Running {RUNS:,}".encode()
_WATCHED = 5.0  # seconds
_TOP = [sys.executable, "-c", "from lightex.cli import main; main()"]


def main() -> None:
    """Print seconds and ratios."""
    with tempfile.TemporaryDirectory() as name:
        root, cache = Path(name) / "root", Path(name) / "cache"
        roots.make(root, roots.Shape(runs=RUNS, steps=20))
        os.environ["LX_CACHE"] = str(cache)
        held = enliven(Root(root))
        floor = in_turn({"floor": shell([sys.executable, "-c", "import textual.app"])}, rounds=ROUNDS)["floor"]
        first, drawn, busy = [], [], []
        for _ in range(ROUNDS):
            shutil.rmtree(cache, ignore_errors=True)
            first.append(watched(root)[0])
            drawn.append(watched(root)[0])
        for _ in range(2):
            busy.append(watched(root, _WATCHED)[1])
        for sweep in held:
            sweep.release()
    print(f"  import textual.app               {floor * 1000:8.0f} ms")
    for what, times in (("with an index", drawn), ("without one", first)):
        seconds = statistics.median(times)
        print(f"  the table, {what:<22}{seconds * 1000:8.0f} ms   {seconds / floor:4.1f} x")
    print(f"  a second of watching             {statistics.median(busy) * 1000:8.0f} ms of CPU")


def enliven(root: Root) -> list[SweepDir]:
    """Have all runs be at work: their events end with their start, and this process holds their sweeps' locks."""
    alive = process_mark(os.getpid())
    for run in root.runs():
        events = [event for event in run.events() if event["state"] in ("QUEUED", "SUBMITTED", "RUNNING")]
        events[-1] |= {"process": alive, "time": time.time() - 60}
        run.events_file.write_text("".join(json.dumps(event) + "\n" for event in events))
        records = run.records_file().read_text().splitlines(keepends=True)
        run.records_file().write_text("".join(line for line in records if '"finish"' not in line))
        run.append_usage({"time": time.time(), "cpu": 0.98, "memory": 311 << 20})
    held = root.sweeps()
    assert all(sweep.claim() for sweep in held)
    return held


def watched(root: Path, seconds: float = 0.0) -> tuple[float, float]:
    """How long it takes until the table is drawn; and then, for so many seconds, the CPU time of one."""
    main_side, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    began = time.perf_counter()
    top = subprocess.Popen(
        [*_TOP, "--root", str(root), "top"],
        stdin=side, stdout=side, stderr=side, start_new_session=True, env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(side)
    seen = b""
    while _DRAWN not in seen:
        seen += os.read(main_side, 1 << 16)
        assert time.perf_counter() - began < 60, seen[-2000:]
    taken, busy = time.perf_counter() - began, 0.0
    if seconds:
        before, until = cpu(top.pid), time.monotonic() + seconds
        os.set_blocking(main_side, False)
        while time.monotonic() < until:
            time.sleep(0.05)
            try:
                os.read(main_side, 1 << 16)
            except BlockingIOError:
                continue
        busy = (cpu(top.pid) - before) / seconds
    top.send_signal(signal.SIGKILL)
    top.wait()
    os.close(main_side)
    return taken, busy


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
