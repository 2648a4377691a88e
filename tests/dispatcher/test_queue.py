"""The queue with real processes."""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lightex.core.errors import StorageError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher import engine as engines
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.death import certify
from lightex.dispatcher.engine import JobState, LaunchError
from lightex.dispatcher.engines.process import ProcessEngine
from lightex.dispatcher.gpus import Gpu
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue, Rules


class Engine(ProcessEngine):
    def capacity(self):
        return Capacity(4, 1 << 30, lambda: tuple(Gpu(name, 10 << 30) for name in ("0", "1", "7")))


@pytest.fixture
def job(tmp_path):
    def make(command, number=0, **options):
        run = RunDir.create(tmp_path / "demo" / f"id-{number}", {}, {}, {"state": "QUEUED"})
        options = {"resources": Resources(cpus=1), "env": {}, "cwd": tmp_path, **options}
        command = ["sh", "-c", command] if isinstance(command, str) else command
        return Job(run=run, command=tuple(command), **options)

    return make


def run(*jobs, **options):
    queue = Queue(jobs, Engine(), "process", Rules(**options))
    queue.run()
    return queue


def ends(*jobs):
    return [(job.run.events()[-1]["state"], job.run.events()[-1].get("reason")) for job in jobs]


def test_a_run_goes_through_its_states_and_keeps_its_output(job):
    one = job('echo out; echo err >&2; echo "$LX_X"', env={"LX_X": "a  b"})
    run(one)
    assert [event["state"] for event in one.run.events()] == ["QUEUED", "SUBMITTED", "RUNNING", "SUCCEEDED"]
    assert one.run.output_file.read_text() == "out\nerr\na  b\n"
    end = one.run.events()[-1]
    assert end["exit_code"] == 0
    assert end["peak_memory"] > 100_000
    assert one.run.events()[2]["process"]["pid"]


@pytest.mark.parametrize(
    ("command", "state", "reason"),
    [
        ("exit 3", "FAILED", "exit code 3"),
        ("echo 'Traceback'; echo 'ValueError: loss is NaN'; exit 1", "FAILED", "exit code 1: ValueError: loss is NaN"),
        ("kill -9 $$", "FAILED", "killed by SIGKILL"),
        ("sleep 60 & kill -9 0", "FAILED", "killed by SIGKILL"),
        (["no-such-program"], "FAILED", "command not found: no-such-program on PATH"),
        (["/etc/passwd"], "FAILED", "cannot start /etc/passwd: Permission denied"),
        (["true", "a\0b"], "FAILED", "cannot start 'true': embedded null byte"),
    ],
)
def test_every_end_has_its_reason_and_fails_that_one_run_only(job, command, state, reason):
    bad, good = job(command, 0), job("true", 1)
    queue = run(bad, good)
    assert ends(bad)[0][0] == state
    assert ends(bad)[0][1].startswith(reason)
    assert ends(good) == [("SUCCEEDED", None)]
    assert dict(queue.ended) == {"FAILED": 1, "SUCCEEDED": 1}


def test_a_silent_end_on_a_full_disk_is_explained(job, monkeypatch):
    full = type("Disk", (), {"f_bavail": 0, "f_frsize": 4096})
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    one = job("exit 1")
    run(one)
    assert ends(one) == [("FAILED", "exit code 1: the disk of its directory is full")]


def test_a_queue_that_fails_ends_what_runs_within_its_grace(job, monkeypatch):
    quick = job("echo began; exec sleep 60", 0)
    slow = job("trap 'sleep 0.5; echo saved; exit 3' TERM; echo began; while :; do sleep 0.02; done", 1, grace=10.0)

    def began(one):
        return one.run.output_file.exists() and "began" in one.run.output_file.read_text()

    def fails(queue, job, state):
        if began(quick) and began(slow):
            monkeypatch.setattr(RunDir, "append_event", broken)
            raise ZeroDivisionError

    def broken(run, event):
        raise StorageError("cannot write")

    queue = Queue([quick, slow], Engine(), "process", watch=fails)
    with pytest.raises(ZeroDivisionError):
        queue.run()
    assert "saved" in slow.run.output_file.read_text()
    assert queue.leases.held == {}


@pytest.mark.parametrize("reason", ["diverged", "diverged " * 2000])
def test_what_the_logger_said_counts_though_the_exit_code_is_zero(job, reason):
    one = job(f"""echo '{{"finish":{{"status":"FAILED","reason":"{reason}"}}}}' >> {"$R"}/records.jsonl""")
    one = Job(**{**vars(one), "env": {"R": str(one.run.path)}})
    run(one)
    assert ends(one) == [("FAILED", f"the run failed: {reason}")]


def test_a_timeout_ends_a_run_even_one_that_ignores_sigterm(job):
    stubborn = "trap '' TERM; while :; do sleep 0.05; done"
    jobs = [job("exec sleep 60", 0, timeout=0.3), job(stubborn, 1, timeout=0.3, grace=0.3)]
    began = time.monotonic()
    run(*jobs)
    assert time.monotonic() - began < 10
    assert [(state, reason.startswith("timed out after 0.")) for state, reason in ends(*jobs)] == [("FAILED", True)] * 2


def test_no_more_run_at_once_than_slots_and_resources_allow(job, tmp_path):
    command = f"echo + >> {tmp_path}/log; sleep 0.1; echo - >> {tmp_path}/log"
    for options, most in (({"slots": 2}, 2), ({}, 4)):
        (tmp_path / "log").write_text("")
        run(*(job(command, f"{most}-{number}") for number in range(8)), **options)
        level = peak = 0
        for line in (tmp_path / "log").read_text().split():
            level += 1 if line == "+" else -1
            peak = max(peak, level)
        assert peak == most


def test_gpus_are_given_to_one_run_each_and_hidden_from_the_others(job):
    jobs = [job("echo $CUDA_VISIBLE_DEVICES; sleep 0.2", n, resources=Resources(cpus=0.1, gpus=g)) for n, g in
            enumerate((1, 2, 0))]  # fmt: skip
    run(*jobs)
    assert [job.run.output_file.read_text().strip() for job in jobs] == ["0", "1,7", ""]


def test_stopping_cancels_what_runs_and_what_waits_and_kills_the_whole_group(job, tmp_path):
    jobs = [job(f"sleep 100 & echo $! > {tmp_path}/child; wait", 0), job("true", 1, resources=Resources(cpus=4))]
    queue = Queue(jobs, Engine(), "process")
    stopper = threading.Timer(0.3, queue.stop, ["Ctrl-C"])
    stopper.start()
    queue.run()
    assert ends(*jobs) == [("CANCELLED", "Ctrl-C"), ("CANCELLED", "not started: Ctrl-C")]
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_a_second_stop_kills(job):
    one = job("trap '' TERM; echo ready; while :; do sleep 0.05; done", grace=60)
    queue = Queue([one], Engine(), "process")

    def stop_twice():
        while not (one.run.output_file.exists() and one.run.output_file.read_text()):
            time.sleep(0.01)
        queue.stop("Ctrl-C")
        time.sleep(0.4)
        queue.stop("Ctrl-C")

    threading.Thread(target=stop_twice).start()
    began = time.monotonic()
    queue.run()
    assert time.monotonic() - began < 10
    assert one.run.events()[-1]["signal"] == signal.SIGKILL
    assert ends(one) == [("CANCELLED", "Ctrl-C")]


def test_fail_fast_stops_the_rest(job):
    jobs = [job("exit 1", 0), job("exec sleep 60", 1), job("true", 2, resources=Resources(cpus=4))]
    queue = run(*jobs, max_failures=1)
    assert queue.ended == {"FAILED": 1, "CANCELLED": 2}
    assert queue.stopping.startswith("1 failed, the last was ")


def test_a_small_job_may_overtake_one_that_does_not_fit(job):
    jobs = [
        job("sleep 0.3", 0, resources=Resources(cpus=3)),
        job("true", 1, resources=Resources(cpus=3)),
        job("true", 2),
    ]
    run(*jobs)
    started = [job.run.events()[2]["time"] for job in jobs]
    assert started[2] < started[1]


def test_a_further_attempt_is_marked_in_the_output(job):
    one = job("echo hello", attempt=2)
    run(one)
    assert one.run.output_file.read_text() == "--- attempt 2 ---\nhello\n"


def test_python_of_a_venv_that_nobody_activated_is_found(monkeypatch, job):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    one = job("command -v python")
    run(one)
    assert one.run.output_file.read_text().strip() == os.path.join(os.path.dirname(sys.executable), "python")


def test_a_failure_is_retried_with_growing_pauses_as_often_as_its_cause_may(job):
    one = job('echo "try $LX_ATTEMPT"; exit 1', retries={"exit": 2}, backoff=0.1, env={"LX_ATTEMPT": "1"})
    queue = run(one)
    assert one.run.output_file.read_text() == "try 1\n--- attempt 2 ---\ntry 2\n--- attempt 3 ---\ntry 3\n"
    assert dict(queue.ended) == {"FAILED": 1}
    queued = [event for event in one.run.events() if event["state"] == "QUEUED"][1:]
    assert [event["retried"] for event in queued] == [{"exit": 1}, {"exit": 2}]
    pauses = [event["not_before"] - event["time"] for event in queued]
    assert pauses == [pytest.approx(0.1), pytest.approx(0.2)]


def test_another_cause_is_not_retried(job):
    one = job("kill -9 $$", retries={"exit": 2}, backoff=0)
    run(one)
    assert one.run.events()[-1]["attempt"] == 1


def test_a_run_that_says_nothing_any_more_is_stalled_and_one_that_logs_is_not(job, tmp_path):
    silent = job("echo hi; exec sleep 60", 0, stall=0.5)
    busy = job('for i in 1 2 3 4 5 6 7 8; do echo "{}" >> "$R"/records.jsonl; sleep 0.2; done', 1, stall=0.9)
    busy = Job(**{**vars(busy), "env": {"R": str(busy.run.path)}})
    run(silent, busy)
    assert [job.run.events()[-1].get("cause") for job in (silent, busy)] == ["stalled", None]


def test_what_comes_after_a_failure_is_cancelled_and_says_why(job):
    first = job("exit 1", 0)
    last = job("true", 1, after=(first.run.path,))
    later = job("true", 2, after=(last.run.path,))
    run(later, last, first)
    assert [each.run.events()[-1].get("cause") for each in (first, last, later)] == ["exit", "upstream", "upstream"]
    assert ends(last)[0][1] == "not started: 0, which it depends on, is FAILED"


def test_it_stops_when_so_many_have_failed(job):
    jobs = [job("exit 1", number) for number in range(6)]
    queue = run(*jobs, max_failures=2, slots=1)
    assert queue.ended == {"FAILED": 2, "CANCELLED": 4}


def test_nothing_starts_in_a_pause(job):
    pause = True
    one = job("true")
    queue = Queue([one], Engine(), "process", paused=lambda: pause)

    def go_on():
        nonlocal pause
        time.sleep(0.5)
        assert queue.waits_for == "the end of its pause (lx resume)"
        pause = False

    thread = threading.Thread(target=go_on)
    thread.start()
    queue.run()
    thread.join()
    assert ends(one) == [("SUCCEEDED", None)]


def test_a_run_whose_directory_is_removed_does_not_end_the_others(job):
    gone, other = job('rm -r "$R"; sleep 0.3', 0), job("sleep 0.6", 1)
    gone = Job(**{**vars(gone), "env": {"R": str(gone.run.path)}})
    queue = run(gone, other)
    assert dict(queue.ended) == {"LOST": 1, "SUCCEEDED": 1}
    assert not gone.run.path.exists()


def test_a_clock_that_is_set_back_ends_nothing_early_or_late(job, monkeypatch):
    real = time.time
    one, late = job("sleep 0.5", 0, timeout=30), job("exec sleep 60", 1, timeout=1.0)
    began = real()
    monkeypatch.setattr(time, "time", lambda: real() - 86400 * (real() > began + 0.3))
    run(one, late)
    assert [event.get("cause") for event in (one.run.events()[-1], late.run.events()[-1])] == [None, "timeout"]
    assert one.run.events()[-1]["duration"] < 5


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "out of memory, CUDA: torch.Out"),
        ("RuntimeError: CUDA error: out of memory", "out of memory, CUDA: RuntimeError"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9 GiB", "out of memory, Python: numpy."),
        ("object type name: MemoryError", "out of memory, Python: object type name"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out of memory, Python: terminate"),
        ("jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while", "out of memory, XLA: jax"),
    ],
)
def test_those_who_run_out_of_memory_say_so_in_their_words(job, words, reason):
    one = job(["sh", "-c", 'echo "$0"; exit 1', words])
    run(one)
    assert one.run.events()[-1]["cause"] == "oom"
    assert ends(one)[0][1].startswith(reason)


@pytest.fixture
def memory_folder(tmp_path):
    """A folder in memory, where there is one: disks take half a minute for a gigabyte."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as name:
        yield Path(name)


def test_a_gigabyte_of_output_is_kept_and_only_its_end_is_looked_at(memory_folder):
    made = RunDir.create(memory_folder / "demo" / "id-0", {}, {}, {"state": "QUEUED"})
    command = "head -c 1000000000 /dev/zero; echo; echo 'ValueError: the end'; exit 1"
    one = Job(run=made, command=("sh", "-c", command), env={}, cwd=memory_folder, resources=Resources())
    run(one)
    assert made.output_file.stat().st_size > 1_000_000_000
    assert ends(one) == [("FAILED", "exit code 1: ValueError: the end")]
    assert len(json.dumps(made.events()[-1])) < 20_000


class Refusing(engines.Engine):
    """An engine that queues by itself, and takes nothing."""

    submitted = 0

    def capacity(self):
        return None

    def submit(self, job, gpus):
        self.submitted += 1
        raise LaunchError("no")

    def close(self):
        pass


def test_it_stops_submitting_once_so_many_have_failed(job):
    engine = Refusing()
    jobs = [job("true", number) for number in range(20)]
    ended = Queue(jobs, engine, "refusing", Rules(max_failures=3)).run()
    assert (engine.submitted, ended) == (3, {"FAILED": 3, "CANCELLED": 17})


class Requeueing(engines.Engine):
    """Takes a job back once, as a cluster does that needs its place; tells one state a poll."""

    def __init__(self):
        self.states = [
            JobState("RUNNING", process={"host": "a"}),
            JobState("SUBMITTED", reason="preempted"),
            JobState("SUBMITTED", reason="preempted"),
            JobState("RUNNING", process={"host": "b"}),
            JobState("SUCCEEDED", exit_code=0),
        ]

    def capacity(self):
        return None

    def submit(self, job, gpus):
        return "handle", {}

    def poll(self, handles, wait):
        return {handle: self.states.pop(0) for handle in handles}

    def close(self):
        pass


def test_a_job_that_its_engine_took_back_waits_again_and_says_why(job):
    one = job("true", timeout=60)
    queue = Queue([one], Requeueing(), "cluster")
    queue.run()
    events = one.run.events()
    assert [event["state"] for event in events] == [
        "QUEUED", "SUBMITTED", "RUNNING", "SUBMITTED", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip
    assert events[3]["reason"] == "preempted"
    assert events[4]["process"] == {"host": "b"}
    assert {event.get("attempt") for event in events[1:]} == {1}


def test_what_was_ended_out_of_reach_says_so(job):
    gone = JobState("LOST", "lost", "it may go on: nobody answers")
    end = certify(job("true").run, gone, ("cancelled", "Ctrl-C"))
    assert (end.state, end.cause, end.reason) == ("CANCELLED", "cancelled", "Ctrl-C; it may go on: nobody answers")
