"""The behaviour that every engine must show: subclass `EngineContract`, give the fixture `engine`, run pytest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightex.core.rundir import ENDED, RUNNING, SUBMITTED, SUCCEEDED, RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.engine import Engine, JobState
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue, Rules

MakeJob = Callable[..., Job]

SMALL = Resources(cpus=0.5)
"""What the suite's jobs need, so that four of them fit on two cores."""

_WAITS = "while [ ! -e go ]; do sleep 0.05; done; "  # until a test makes the file


class EngineContract:
    """Subclass it as `class TestMyEngine(EngineContract)`, with a fixture `make_engine` that gives a function.

    Each call of that function gives a new engine, as a further process of the user would have it. Jobs are shell
    commands (/bin/sh) with a folder of their own as the working directory.

    Attributes:
        patience: seconds that a job may take to start or to end.
        options: further fields of every Job, e.g. for an image.
    """

    patience: float = 30.0
    options: dict[str, Any] = {}

    @pytest.fixture
    def engine(self, make_engine: Callable[[], Engine]) -> Iterator[Engine]:
        """One engine."""
        engine = make_engine()
        yield engine
        engine.close()

    @pytest.fixture
    def job(self, tmp_path: Path) -> MakeJob:
        """Makes jobs; paths and environment are none that a shell would take as they are."""
        folder = tmp_path / 'it\'s a "folder" ü'
        folder.mkdir()

        def make(command: str | list[str], number: int = 0, **options: Any) -> Job:
            run = RunDir.create(
                folder / "demo x" / f"261123-101010-abcd-{number:03d}", {"id": "x"}, {}, {"state": "QUEUED"}
            )
            own = {"LX_RUN_DIR": str(run.path), "LX_RUN_ID": run.id, "LX_ATTEMPT": str(options.get("attempt", 1))}
            words = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
            fields = {"resources": SMALL, "grace": 5.0, **self.options, **options}
            return Job(run=run, command=words, cwd=folder, **fields | {"env": own | options.get("env", {})})

        return make

    def ends(self, engine: Engine, *handles: str, noted: bool = True) -> dict[str, JobState]:
        """The ends of jobs, once all have ended; the engine is told that they are noted down, if they are."""
        ends: dict[str, JobState] = {}
        deadline = time.monotonic() + self.patience
        while left := [handle for handle in handles if handle not in ends]:
            assert time.monotonic() < deadline, f"jobs did not end within {self.patience} s: {left}"
            found = engine.poll(left, 0.1)
            assert set(found) <= set(left)
            ends |= {handle: state for handle, state in found.items() if state.state in ENDED}
        for handle in handles if noted else ():
            engine.forget(handle)
        return ends

    def starts(self, engine: Engine, job: Job, handle: str, mark: Path) -> None:
        """Wait until a job's command has made a file."""
        deadline = time.monotonic() + self.patience
        while not mark.exists():
            assert time.monotonic() < deadline, f"{job.command} did not start within {self.patience} s"
            for state in engine.poll([handle], 0.05).values():
                assert state.state in (SUBMITTED, RUNNING), state

    def certificate(self, engine: Engine, job: Job, **rules: Any) -> dict[str, Any]:
        """What the last event of a job says that went through a queue."""
        Queue([job], engine, "contract", Rules(**rules)).run()
        return job.run.events()[-1]

    def test_a_command_succeeds_and_its_output_is_kept(self, engine: Engine, job: MakeJob) -> None:
        one = job('echo out; echo err >&2; printf %s "$ODD"', env={"ODD": "a  b\n\"'$x ü"})
        handle, _ = engine.submit(one, [])
        assert self.ends(engine, handle)[handle].state == SUCCEEDED
        assert one.run.output_file.read_text() == "out\nerr\na  b\n\"'$x ü"

    def test_arguments_arrive_as_they_are(self, engine: Engine, job: MakeJob) -> None:
        odd = ["a b", "", "$HOME", "`x`", 'q"q', "q'q", "ü名", "-x", "*", "back\\slash", "two\nlines"]
        one = job(["/bin/sh", "-c", 'printf "<%s>" "$@"', "sh", *odd])
        handle, _ = engine.submit(one, [])
        self.ends(engine, handle)
        assert one.run.output_file.read_text() == "".join(f"<{word}>" for word in odd)

    def test_binary_output_is_kept_whole(self, engine: Engine, job: MakeJob) -> None:
        one = job("printf '\\377\\376\\000x'; head -c 3000000 /dev/zero")
        handle, _ = engine.submit(one, [])
        assert self.ends(engine, handle)[handle].state == SUCCEEDED
        assert one.run.output_file.read_bytes() == b"\xff\xfe\0x" + bytes(3_000_000)

    def test_states_are_told_in_bulk(self, engine: Engine, job: MakeJob) -> None:
        codes = [0, 3, 0, 7]
        handles = [engine.submit(job(f"exit {code}", number), [])[0] for number, code in enumerate(codes)]
        ends = self.ends(engine, *handles)
        assert [ends[handle].exit_code for handle in handles] == codes

    def test_a_signal_is_told(self, engine: Engine, job: MakeJob) -> None:
        handle, _ = engine.submit(job("kill -9 $$"), [])
        assert self.ends(engine, handle)[handle].signal == 9

    def test_what_cannot_be_started_says_so(self, engine: Engine, job: MakeJob) -> None:
        end = self.certificate(engine, job(["no-such-program-anywhere"]))
        assert (end["state"], end["cause"]) == ("FAILED", "launch")
        assert "no-such-program-anywhere" in end["reason"]

    def test_cancel_lets_a_job_end_by_itself(self, engine: Engine, job: MakeJob) -> None:
        one = job("trap 'echo saved; exit 0' TERM; touch began; while :; do sleep 0.05; done")
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began")
        engine.cancel(handle)
        self.ends(engine, handle)
        assert "saved" in one.run.output_file.read_text()

    def test_a_forced_cancel_ends_one_that_will_not_and_a_late_one_does_nothing(
        self, engine: Engine, job: MakeJob
    ) -> None:
        one = job("trap '' TERM; touch began; while :; do sleep 0.05; done")
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began")
        engine.cancel(handle)
        engine.cancel(handle, force=True)
        assert self.ends(engine, handle)[handle].state in ("FAILED", "CANCELLED")
        engine.cancel(handle)
        engine.cancel(handle, force=True)

    def test_another_dispatcher_goes_on_with_what_one_has_started(
        self, make_engine: Callable[[], Engine], engine: Engine, job: MakeJob
    ) -> None:
        one = job(f"touch began; {_WAITS} echo done")
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began")
        second = make_engine()
        found = second.find(one)
        assert found is not None
        assert found[0] == handle
        assert all(state.state in (SUBMITTED, RUNNING) for state in second.poll([handle], 0.1).values())
        second.cancel(handle, force=True)
        ends = self.ends(engine, handle)
        assert ends[handle].state in ("FAILED", "CANCELLED")
        second.close()

    def test_a_job_that_never_started_is_not_found(self, engine: Engine, job: MakeJob) -> None:
        assert engine.find(job("true")) is None

    def test_a_handle_that_never_was_is_lost(self, engine: Engine, job: MakeJob) -> None:
        handle, _ = engine.submit(job("true"), [])
        self.ends(engine, handle)
        assert self.ends(engine, f"{handle}0")[f"{handle}0"].state == "LOST"

    def test_every_end_has_the_same_certificate(self, engine: Engine, job: MakeJob) -> None:
        end = self.certificate(engine, job("echo before; echo 'ValueError: loss is NaN'; exit 3"))
        assert (end["state"], end["cause"], end["exit_code"]) == ("FAILED", "exit", 3)
        assert end["reason"] == "exit code 3: ValueError: loss is NaN"
        assert end["last_lines"] == ["before", "ValueError: loss is NaN"]
        assert end["duration"] > 0

    def test_a_job_that_takes_too_long_is_timed_out(self, engine: Engine, job: MakeJob) -> None:
        end = self.certificate(engine, job("trap '' TERM; while :; do sleep 0.05; done", timeout=0.5, grace=0.3))
        assert (end["state"], end["cause"]) == ("FAILED", "timeout")

    def test_stopping_the_queue_cancels_what_runs(self, engine: Engine, job: MakeJob) -> None:
        one = job("touch began; exec sleep 100")
        queue = Queue([one], engine, "contract")

        def stop() -> None:
            deadline = time.monotonic() + self.patience
            while not (one.cwd / "began").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            queue.stop("Ctrl-C")

        thread = threading.Thread(target=stop)
        thread.start()
        queue.run()
        thread.join()
        end = one.run.events()[-1]
        assert (end["state"], end["cause"], end["reason"]) == ("CANCELLED", "cancelled", "Ctrl-C")

    def test_a_further_attempt_goes_on_in_the_same_output(self, engine: Engine, job: MakeJob) -> None:
        one = job("echo attempt $LX_ATTEMPT", attempt=2)
        handle, _ = engine.submit(one, [])
        self.ends(engine, handle)
        assert one.run.output_file.read_text() == "--- attempt 2 ---\nattempt 2\n"
