"""Starting lx, as a multiple of `python -c pass`. Goals: --help 5, ls on 1,000 runs 12, show 16."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dispatch import CONFIG
from benchmarks.measure import LX, in_turn, shell

LOGS = '{"time":1.0,"step":1,"metrics":{"loss":0.5,"acc":0.9}}'


def main() -> None:
    """Print the multiples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lxconfig.py").write_text(
            CONFIG.replace('["true"]', f"""["sh", "-c", 'echo \\'{LOGS}\\' >> "$LX_RUN_DIR/records.jsonl"']""")
        )
        for _ in range(2):
            subprocess.run([LX, "run", "many"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
        commands = {
            "python -c pass": shell([sys.executable, "-c", "pass"]),
            "lx --help": shell([LX, "--help"], folder),
            "lx ls": shell([LX, "ls"], folder),
            "lx ls --json": shell([LX, "ls", "--json"], folder),
            "lx show": shell([LX, "show", "base"], folder),
        }
        found = in_turn(commands, rounds=15)
    for command, seconds in found.items():
        print(f"  {command:<15} {seconds * 1000:6.1f} ms   {seconds / found['python -c pass']:5.1f} x")
