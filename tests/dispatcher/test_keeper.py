"""The keeper, with real processes; each test in a process of its own, which may become a subreaper."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")

HEAD = """
import os, signal, subprocess, sys, time
from pathlib import Path
from lightex.dispatcher.keeper import keep
ledger = Path(sys.argv[1])
"""


def program(tmp_path, text):
    done = subprocess.run(
        [sys.executable, "-c", HEAD + text, str(tmp_path / "ledger")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    lines = (tmp_path / "ledger").read_text().splitlines() if (tmp_path / "ledger").exists() else []
    return done, [json.loads(line) for line in lines]


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_that_of_the_work(tmp_path, code):
    done, ledger = program(tmp_path, f"sys.exit(keep(lambda again: {code}, ledger))")
    assert (done.returncode, ledger) == (code, [])


def test_killed_work_is_done_again_and_the_ends_of_its_orphans_are_written_down(tmp_path):
    done, ledger = program(
        tmp_path,
        """
def work(again):
    if not again:
        for command in ("exit 7", "kill -9 $$", "true"):
            child = subprocess.Popen(["sh", "-c", f"sleep 0.2; {command}"])
            print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    while not ledger.exists() or ledger.read_text().count("\\\\n") < 3:
        time.sleep(0.01)
    return 5
sys.exit(keep(work, ledger))
""".replace("\\\\n", "\\n"),
    )
    assert done.returncode == 5
    assert "killed (SIGKILL); another one goes on" in done.stderr
    started = done.stdout.split()
    ends = {record["handle"].partition(":")[0]: record["status"] for record in ledger}
    assert [ends[pid] for pid in started] == [7 << 8, 9, 0]
    assert all(record["handle"].partition(":")[2].isdigit() for record in ledger)


def test_a_signal_to_the_keeper_reaches_the_work(tmp_path):
    done, _ = program(
        tmp_path,
        """
def work(again):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(20)
    return 1
sys.exit(keep(work, ledger))
""",
    )
    assert done.returncode == 9


def test_work_that_raises_ends_with_its_traceback(tmp_path):
    done, _ = program(tmp_path, "keep(lambda again: 1 // 0, ledger)\nprint('after')")
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout == "after\n"
