"""What goes wrong on real machines, done for real: kills, full disks, preemption."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.helpers import LX, supervisors, wait_for


def test_killed_with_its_keeper_it_loses_nothing_and_resume_takes_up_what_runs(project, lx):
    (project / "train.py").write_text(
        "import lightex, os, sys, time\nopen('started', 'a').write(sys.argv[1] + '\\n')\n"
        "with lightex.start_run():\n    while not os.path.exists('go'):\n        time.sleep(0.02)\n"
    )
    process = subprocess.Popen([*LX, "run", "base", "hp.lr=1.0,2.0", "-j", "1"], stdout=subprocess.DEVNULL)
    wait_for((project / "started").exists)
    assert "is being run by another lx" in lx("resume").err
    (supervisor,) = supervisors(process.pid)
    process.kill()
    process.wait()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: lx("ls", "--json").json[1]["reason"])
    first, second = lx("ls", "--json").json
    assert (first["status"], second["status"]) == ("RUNNING", "QUEUED")
    assert "lx resume" in second["reason"]
    again = subprocess.Popen([*LX, "resume", "-j", "1"], stdout=subprocess.PIPE, text=True)
    with again.stdout:
        assert "1 still run, 1 to run" in again.stdout.readline()
        (project / "go").touch()
        again.stdout.read()
    assert again.wait() == 0
    assert {run["status"] for run in lx("ls", "--json").json} == {"SUCCEEDED"}
    assert (project / "started").read_text().split() == ["1.0", "2.0"]


def test_what_ended_while_nobody_watched_is_lost_and_runs_again(project, lx):
    (project / "train.py").write_text("import time\nopen('started', 'a').write('x')\ntime.sleep(600)\n")
    process = subprocess.Popen([*LX, "run", "base"], stdout=subprocess.DEVNULL)
    wait_for((project / "started").exists)
    wait_for(lambda: lx("ls", "--json").json[0]["status"] == "RUNNING")
    (supervisor,) = supervisors(process.pid)
    process.kill()
    process.wait()
    os.kill(supervisor, signal.SIGKILL)
    (run,) = lx("ls", "--json").json
    events = [json.loads(line) for line in (Path(run["dir"]) / "events.jsonl").read_text().splitlines()]
    os.kill(events[-1]["process"]["pid"], signal.SIGKILL)
    wait_for(lambda: lx("ls", "--json").json[0]["status"] == "LOST")
    (project / "train.py").write_text("open('started', 'a').write('y')\n")
    assert lx("resume").code == 0
    events = [json.loads(line) for line in (Path(run["dir"]) / "events.jsonl").read_text().splitlines()]
    assert "nobody saw how" in next(event for event in events if event["state"] == "LOST")["reason"]
    assert (project / "started").read_text() == "xy"


def test_a_supervisor_killed_twenty_times_runs_every_experiment_once(project, lx):
    (project / "train.sh").write_text("echo $1 >> marks; sleep 0.05\n")
    count, marks = 200, project / "marks"
    rates = ",".join(str(number) for number in range(1, count + 1))
    command = [*LX, "run", "base", f"hp.lr={rates}", 'command=["sh", "train.sh", "{{ hp.lr }}"]', "-j", "4"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(marks.exists)
    for _ in range(20):
        have = marks.stat().st_size
        wait_for(lambda have=have: marks.stat().st_size > have + 8)
        time.sleep(random.random() / 10)
        os.kill(wait_for(lambda: supervisors(process.pid))[0], signal.SIGKILL)
    _, told = process.communicate(timeout=100)
    assert told.count("another one goes on") == 20
    assert sorted(map(float, marks.read_text().split())) == [float(number) for number in range(1, count + 1)]
    assert [run for run in lx("ls", "--all", "--json").json if run["status"] != "SUCCEEDED"] == []
    assert process.returncode == 0


def test_who_is_preempted_goes_on_from_its_checkpoint(project, lx):
    """A machine that is taken away sends SIGTERM; a command that saves its state then goes on where it was."""
    (project / "train.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "saved = pathlib.Path(os.environ['LX_RUN_DIR']) / 'checkpoint'\n"
        "if os.environ['LX_ATTEMPT'] == '2':\n    sys.exit(0 if saved.read_text() == 'step 7' else 5)\n"
        "signal.signal(signal.SIGTERM, lambda *_: (saved.write_text('step 7'), sys.exit(1)))\n"
        "pathlib.Path('up').touch()\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([*LX, "run", "base"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((project / "up").exists)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert lx("ls", "--json").json[0]["status"] == "CANCELLED"
    assert lx("resume").code == 0
    assert lx("ls", "--json").json[0]["attempt"] == 2


FILL = """import os, sys, time
if sys.argv[1] == "2.0":  # its last lines take more than is left in the last page of its events
    print(*("x" * 500 for _ in range(20)), sep="\\n", flush=True)
    ballast = open(os.environ["LX_RUN_DIR"] + "/ballast", "wb", buffering=0)
    try:
        while True:
            ballast.write(b"0" * 4096)
    except OSError:
        open("full", "w")
        sys.exit(1)
elif sys.argv[1] == "1.0":
    while not os.path.exists("room"):
        time.sleep(0.02)
"""


def test_a_full_disk_is_waited_for_while_what_runs_goes_on(project, lx, small_disk):
    (project / "train.py").write_text(FILL)
    command = [*LX, "--root", str(small_disk), "run", "base", "hp.lr=1.0,2.0,3.0", "-j", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for((project / "full").exists)
    assert "No space left" in process.stderr.readline()
    assert "lx rm removes runs" in process.stderr.readline()
    assert "what runs goes on, nothing new starts" in process.stderr.readline()
    states = [run["status"] for run in lx("--root", str(small_disk), "ls", "--json").json]
    assert states == ["RUNNING", "RUNNING", "QUEUED"]
    (ballast,) = small_disk.glob("demo/*/ballast")
    ballast.unlink()
    (project / "room").touch()
    process.communicate(timeout=60)
    states = [run["status"] for run in lx("--root", str(small_disk), "ls", "--json").json]
    assert states == ["SUCCEEDED", "FAILED", "SUCCEEDED"]


def test_who_will_not_wait_for_room_kills_and_resumes_later(project, lx, small_disk):
    (project / "train.py").write_text(FILL)
    command = [*LX, "--root", str(small_disk), "run", "base", "hp.lr=1.0,2.0,3.0", "-j", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for((project / "full").exists)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in told
    (ballast,) = small_disk.glob("demo/*/ballast")
    ballast.unlink()
    (project / "train.py").write_text("")
    assert lx("--root", str(small_disk), "resume").code == 0
    states = [run["status"] for run in lx("--root", str(small_disk), "ls", "--json").json]
    assert states == ["SUCCEEDED"] * 3
