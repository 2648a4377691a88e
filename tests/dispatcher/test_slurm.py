"""The slurm engine, against a real controller and two nodes."""

import os
import shutil
import subprocess
import time
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from lightex.core.errors import ConfigError
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Experiment, Resources, Storage
from lightex.dispatcher.engines.batch import commands, look, script, sstat
from lightex.dispatcher.engines.slurm import SlurmEngine
from lightex.dispatcher.job import Job
from lightex.dispatcher.queue import Queue, Rules
from lightex.testing import EngineContract
from tests.helpers import wait_for
from tests.services import docker as services
from tests.services import running
from tests.services import slurm as slurm_service

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]

EATS = "kept = []\nfor n in range(400): kept.append(bytearray(1 << 20))\nprint('fed')"
TALKS = """import os, socket
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    with socket.create_server(place) as server:
        for _ in range(size - 1):
            with server.accept()[0] as other:
                print("heard", other.makefile().readline().strip())
else:
    import time
    for _ in range(200):
        try:
            with socket.create_connection(place) as other:
                other.sendall(f"{rank} of {size} on {os.environ['NODE_RANK']}\\n".encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    print("said", rank)
"""


@pytest.fixture(scope="module", autouse=True)
def timed(tmp_path_factory, _slurm):
    """Two jobs with a limit of a minute, the shortest that there is; they run on a node of their own beside the tests."""
    folder, options = tmp_path_factory.mktemp("timed"), {"partition": "short", "signal": "USR1@55s"}
    engine, jobs = SlurmEngine(), []
    for number, line in enumerate([
        "trap '' USR1; exec sleep 300",
        "trap 'echo saved; exit 75' USR1; while :; do sleep 0.1; done",
    ]):  # fmt: skip
        run = RunDir.create(folder / "timed" / f"261123-101010-time-{number:03d}", {"id": "x"}, {}, {"state": "QUEUED"})
        words = ("/bin/sh", "-c", line)
        jobs.append(Job(run=run, command=words, env={}, cwd=folder, resources=Resources(), options=options))
    handles = [engine.submit(each, [])[0] for each in jobs]
    wait_for(lambda: "RUNNING" in {state.state for state in engine.poll(handles, 0.1).values()})
    yield engine, handles
    engine.close()


@pytest.fixture
def asked(monkeypatch):
    """The commands of Slurm's that the engine has run, with their arguments."""
    found = []
    real = commands.ask

    def ask(*words, **given):
        found.append(words)
        return real(*words, **given)

    for module in ("commands", "look", "submission", "examine"):
        monkeypatch.setattr(f"lightex.dispatcher.engines.batch.{module}.ask", ask)
    return found


class TestSlurmEngine(EngineContract):
    patience = 40.0

    @pytest.fixture
    def make_engine(self):
        return SlurmEngine

    def run_all(self, engine, jobs, watch=lambda *_: None, **rules):
        """Run jobs through a queue; returns their last events."""
        Queue(jobs, engine, "slurm", Rules(**rules), watch=watch).run()
        return [each.run.events()[-1] for each in jobs]

    def test_a_sweep_of_200_is_one_array_and_few_commands(self, engine, job, asked):
        jobs = [job(f"echo {number}", number, resources=Resources(cpus=1)) for number in range(200)]
        ends = self.run_all(engine, jobs)
        assert Counter(end["state"] for end in ends) == {"SUCCEEDED": 200}
        assert [each.run.output_file.read_text() for each in jobs] == [f"{number}\n" for number in range(200)]
        count = Counter(words[0] for words in asked)
        assert count["sbatch"] == 1
        assert any("--array=0-199" in words for words in asked)
        assert len({end["attempt"] for end in ends}) == 1

    def test_jobs_that_ask_for_the_same_go_together_and_others_on_their_own(self, engine, job, asked):
        small = [job("true", number, resources=Resources(cpus=1)) for number in range(3)]
        large = [job("true", number, resources=Resources(cpus=2)) for number in range(3, 5)]
        self.run_all(engine, [small[0], large[0], small[1], large[1], small[2]])
        arrays = [word for words in asked if words[0] == "sbatch" for word in words if word.startswith("--array")]
        assert sorted(arrays) == ["--array=0-1", "--array=0-2"]

    def test_a_throttle_is_the_arrays_own(self, engine, job, asked):
        options = {"throttle": 1}
        line = 'echo "$(date +%s.%N) +" >>times; sleep 0.3; echo "$(date +%s.%N) -" >>times'
        jobs = [job(line, number, options=options, resources=Resources(cpus=1)) for number in range(3)]
        self.run_all(engine, jobs)
        marks = [line.split()[1] for line in sorted((jobs[0].cwd / "times").read_text().splitlines())]
        assert marks == ["+", "-"] * 3
        assert any("--array=0-2%1" in words for words in asked)

    def test_more_memory_than_it_said_is_killed_and_told_so(self, engine, job):
        end = self.certificate(engine, job(["python3", "-c", EATS], resources=Resources(memory="64MiB")))
        assert (end["state"], end["cause"], end["signal"]) == ("FAILED", "oom", 9)
        assert end["peak_memory"] == pytest.approx(64 << 20, rel=0.05)

    def test_what_was_used_is_told(self, engine, job):
        spin = (
            "import time\nx = bytearray(50 << 20)\nt = time.process_time()\nwhile time.process_time() - t < 0.5: pass"
        )
        end = self.certificate(engine, job(["python3", "-c", spin], resources=Resources(memory="400MiB")))
        assert end["state"] == "SUCCEEDED"
        assert end["cpu_seconds"] == pytest.approx(0.5, abs=0.4)
        assert 50 << 20 < end["peak_memory"] < 400 << 20
        assert end["duration"] < 10

    def test_what_is_used_is_told_while_it_runs(self, engine, job, monkeypatch):
        monkeypatch.setattr(sstat, "EVERY", 0.5)
        spin = "import time; kept = bytearray(100 << 20)\nwhile True: pass"
        handle, _ = engine.submit(job(["python3", "-c", spin]), [])
        try:
            wait_for(lambda: "RUNNING" in {state.state for state in engine.poll([handle], 0.1).values()})

            def used():
                engine.poll([handle], 0.1)
                found = engine.usage([handle]).get(handle)
                return found and found.memory > 90 << 20 and found.cpu_seconds > 0 and found

            assert wait_for(used).memory < 200 << 20
        finally:
            engine.cancel(handle, force=True)
            self.ends(engine, handle)

    def test_each_is_told_of_though_only_the_other_was_asked_about(self, engine, job, monkeypatch):
        monkeypatch.setattr(sstat, "EVERY", 0.5)
        hold = ["python3", "-c", "import time; kept = bytearray(50 << 20)\nwhile True: time.sleep(0.01)"]
        handles = [engine.submit(job(hold, number), [])[0] for number in range(2)]
        try:
            running = set()

            def run():
                changed = engine.poll(handles, 0.1)
                running.update(handle for handle, state in changed.items() if state.state == "RUNNING")
                return len(running) == 2

            wait_for(run)
            wait_for(lambda: engine.usage(handles[:1]) and engine.usage(handles[1:]))  # by one answer
        finally:
            for handle in handles:
                engine.cancel(handle, force=True)
            for handle in handles:
                self.ends(engine, handle)

    def test_gpus_are_given_by_slurm(self, engine, job):
        jobs = [
            job("echo $CUDA_VISIBLE_DEVICES; sleep 0.5", number, resources=Resources(gpus=1)) for number in range(2)
        ]
        ends = self.run_all(engine, jobs)
        assert [end["state"] for end in ends] == ["SUCCEEDED"] * 2
        assert {each.run.output_file.read_text() for each in jobs} <= {"0\n", "1\n"}

    def test_features_of_nodes_are_labels(self, engine, job, slurm):
        one = job("echo $SLURMD_NODENAME", resources=Resources(node_labels=("all", f"only-{slurm.nodes[1]}")))
        self.certificate(engine, one)
        assert one.run.output_file.read_text().strip() == slurm.nodes[1]

    def test_what_nodes_get_ready_comes_before_the_command(self, engine, job):
        setup = ["export GREETING='good  day'", 'greet() { echo "$1"; }', "if true; then greet ready; fi # a comment"]
        one = job('echo "$GREETING"', options={"setup": setup})
        assert self.certificate(engine, one)["state"] == "SUCCEEDED"
        assert one.run.output_file.read_text() == "ready\ngood  day\n"

    def test_a_set_up_that_fails_says_which_line(self, engine, job):
        end = self.certificate(engine, job("true", options={"setup": ["true", "module load no-such-thing/1"]}))
        assert (end["state"], end["cause"]) == ("FAILED", "launch")
        assert "set-up failed: module load no-such-thing/1 (exit code 127, on " in end["reason"]

    def test_a_working_directory_that_is_gone_says_so(self, engine, job):
        one = job("true")
        shutil.rmtree(one.cwd / "gone", ignore_errors=True)
        object.__setattr__(one, "cwd", one.cwd / "gone")
        end = self.certificate(engine, one)
        assert (end["state"], end["cause"]) == ("FAILED", "launch")
        assert "the working directory" in end["reason"]

    def test_what_a_shell_calls_no_variable_arrives_nevertheless(self, engine, job):
        one = job(["python3", "-c", "import os; print(os.environ['LX_HP_Ü.X'])"], env={"LX_HP_Ü.X": "a 'b' \"c\" $d\n"})
        self.certificate(engine, one)
        assert one.run.output_file.read_text() == "a 'b' \"c\" $d\n\n"

    def test_a_request_that_slurm_refuses_fails_with_its_words_and_the_others_go_on(self, engine, job):
        jobs = [job("true", 0, options={"partition": "nowhere"}), job("true", 1)]
        ends = self.run_all(engine, jobs)
        assert [(end["state"], end.get("cause")) for end in ends] == [("FAILED", "launch"), ("SUCCEEDED", None)]
        assert "invalid partition specified: nowhere" in ends[0]["reason"]

    def test_what_it_waits_for_is_told_in_slurms_words(self, engine, job):
        holds = job("touch began; exec sleep 60", 0, resources=Resources(cpus=2, nodes=2))
        handle, _ = engine.submit(holds, [])
        self.starts(engine, holds, handle, holds.cwd / "began")
        waits = job("true", 1, resources=Resources(cpus=2))
        second, _ = engine.submit(waits, [])

        def reason():
            state = engine.poll([second], 0.2).get(second)
            return state and state.reason

        assert wait_for(reason).partition(":")[0] in ("Resources", "Priority")
        engine.cancel(second)
        assert self.ends(engine, second)[second].state == "CANCELLED"
        engine.cancel(handle, force=True)
        self.ends(engine, handle)

    def test_scancel_from_outside_is_told(self, engine, job, slurm):
        one, two = job("touch began; exec sleep 60", 0), job("true", 1, resources=Resources(cpus=2, nodes=2))

        def cancel(_queue, _job, state):
            if state is None and (one.cwd / "began").exists():
                for each in (one, two):
                    subprocess.run(["scancel", f"--name={look_name(each)}"], check=False)

        ends = self.run_all(engine, [one, two], cancel)
        assert [(end["state"], end["cause"]) for end in ends] == [("CANCELLED", "cancelled")] * 2
        assert all("scancel" in end["reason"] for end in ends)

    def test_two_nodes_find_each_other_and_are_one_run(self, engine, job):
        one = job(["python3", "-c", TALKS], resources=Resources(nodes=2))
        assert self.certificate(engine, one)["state"] == "SUCCEEDED", one.run.output_file.read_text()
        assert one.run.output_file.read_text() == "heard 1 of 2 on 1\n"
        assert (one.run.path / "output.1.log").read_text() == "said 1\n"

    def test_several_tasks_of_a_node_have_ranks(self, engine, job):
        one = job(["python3", "-c", TALKS], options={"tasks": 3}, resources=Resources(cpus=2))
        two = job('echo "$LOCAL_RANK $RANK $WORLD_SIZE"', 1, options={"tasks": 2}, resources=Resources(cpus=2))
        ends = self.run_all(engine, [two])
        assert ends[0]["state"] == "SUCCEEDED"
        assert (two.run.path / "output.1.log").read_text() == "1 1 2\n"
        with pytest.raises(ConfigError, match="Slurm would not take x"):
            engine.prepare(
                [Experiment("x", "true", resources=one.resources, engine_options={"slurm": one.options})],
                one.cwd,
                print,
            )

    def test_where_one_node_fails_the_others_are_ended(self, engine, job):
        one = job('[ "$RANK" = 0 ] && exec sleep 100; exit 3', resources=Resources(nodes=2))
        end = self.certificate(engine, one)
        assert end["state"] == "FAILED"
        assert "Exited with exit code 3" in one.run.output_file.read_text()

    def test_cancel_reaches_all_nodes_and_lets_them_end_by_themselves(self, engine, job):
        line = "trap 'echo saved; exit 0' TERM; touch began$RANK; while :; do sleep 0.05; done"
        one = job(line, resources=Resources(nodes=2))
        handle, _ = engine.submit(one, [])
        self.starts(engine, one, handle, one.cwd / "began0")
        self.starts(engine, one, handle, one.cwd / "began1")
        engine.cancel(handle)
        self.ends(engine, handle)
        assert "saved" in one.run.output_file.read_text()
        assert "saved" in (one.run.path / "output.1.log").read_text()

    def test_a_node_that_dies_loses_its_run_which_is_retried_on_another(self, engine, job, slurm):
        line = 'echo "$LX_ATTEMPT on $SLURMD_NODENAME"; touch began$LX_ATTEMPT; [ "$LX_ATTEMPT" = 2 ] || exec sleep 100'
        one = job(line, retries={"lost": 1}, backoff=0.1)
        killed = []

        def kill(_queue, _job, state):
            if state is None and not killed and (one.cwd / "began1").exists():
                killed.append(one.run.output_file.read_text().split()[-1])
                slurm.kill_node(killed[0])

        try:
            (end,) = self.run_all(engine, [one], kill)
        finally:
            slurm.start_node(killed[0])
        lost = [event for event in one.run.events() if event["state"] == "LOST"]
        assert [(each["cause"], each["reason"]) for each in lost] == [("lost", f"its node failed ({killed[0]})")]
        assert (end["state"], end["attempt"]) == ("SUCCEEDED", 2)
        assert killed[0] not in one.run.output_file.read_text().splitlines()[-1]

    def test_what_is_preempted_is_lost_or_started_again_by_slurm(self, engine, job, slurm):
        """A job of the urgent partition needs all nodes."""
        line = 'n=$(cat starts$1 2>/dev/null); echo $((n + 1)) >starts$1; [ "$n" ] || exec sleep 100'
        lost = job(["/bin/sh", "-c", line, "sh", "0"], 0, resources=Resources(cpus=2))
        again = job(["/bin/sh", "-c", line, "sh", "1"], 1, resources=Resources(cpus=2), options={"requeue": True})
        urgent = job("true", 2, options={"partition": "urgent"}, resources=Resources(cpus=2, nodes=2))
        sent = []

        def preempt(queue, _job, state):
            states = [each.run.events()[-1]["state"] for each in (lost, again)]
            if state is None and not sent and states == ["RUNNING"] * 2:
                sent.append(urgent)
                queue.add(urgent)
            elif state is None and states[1] == "SUBMITTED" and sent:
                # what Slurm starts again waits for two minutes, unless somebody says otherwise
                waits = look.now([look_name(again)])[place_of(again)]
                if waits.state == "PENDING":  # and may have begun before this is said: refused then
                    words = ("scontrol", "update", f"JobId={waits.job}", "StartTime=now")
                    subprocess.run(words, check=False, capture_output=True)

        ends = self.run_all(engine, [lost, again], preempt)
        assert (ends[0]["state"], ends[0]["cause"]) == ("LOST", "lost")
        assert "preempted" in ends[0]["reason"]
        assert ends[1]["state"] == "SUCCEEDED"
        states = [event["state"] for event in again.run.events()]
        assert [state for state, _ in groupby(states)] == [
            "QUEUED", "SUBMITTED", "RUNNING", "SUBMITTED", "RUNNING", "SUCCEEDED",
        ]  # fmt: skip
        assert "--- attempt 1, started again by Slurm (1) on " in again.run.output_file.read_text()
        assert urgent.run.events()[-1]["state"] == "SUCCEEDED"

    def test_a_controller_that_restarts_loses_nothing(self, engine, job, slurm):
        jobs = [job(f"echo x >>began; sleep 0.5; echo {n}", n, resources=Resources(cpus=1)) for n in range(12)]
        stopped = []

        def restart(queue, _job, state):
            if state is None and not stopped and queue.ended["SUCCEEDED"] >= 2:
                stopped.append(time.monotonic())
                slurm.stop_controller()
                queue.add(job("echo late", 12))  # it is submitted while nobody answers
            elif state is None and len(stopped) == 1 and time.monotonic() > stopped[0] + 4:
                stopped.append(time.monotonic())
                slurm.start_controller()

        ends = self.run_all(engine, jobs, restart)
        assert Counter(end["state"] for end in ends) == {"SUCCEEDED": 12}
        assert (jobs[0].cwd / "began").read_text().count("x") == 12
        late = next(path for path in jobs[0].run.path.parent.iterdir() if path.name.endswith("012"))
        assert (late / "output.log").read_text() == "late\n"

    def test_a_submission_that_was_cut_off_is_found_or_made_again_but_never_twice(
        self, engine, job, make_engine, slurm
    ):
        began, never = job("echo x >>began; exec sleep 60", 0), job("echo y >>began", 1)
        handle, _ = engine.submit(began, [])
        self.starts(engine, began, handle, began.cwd / "began")
        never_sent = make_engine()
        never_sent.submit(never, [])  # its script is written, and then its supervisor dies
        second = make_engine()
        assert second.find(began)[0] == handle
        assert second.find(never) is None
        again, _ = second.submit(never, [])
        assert self.ends(second, again)[again].state == "SUCCEEDED"
        never_sent.poll([], 0)
        never_sent.poll([], 0)  # ... or not quite: what it had sent meanwhile does nothing
        never_sent.close()
        wait_for(lambda: not slurm.ask("squeue", "-h", "-n", look_name(never)).strip())
        assert (began.cwd / "began").read_text() == "x\ny\n"
        second.cancel(handle, force=True)
        self.ends(engine, handle)

    def test_the_script_that_is_printed_does_the_same(self, engine, job, slurm):
        one = job("echo by hand")
        text = engine.manifest(one)
        path = one.cwd / "job.sh"
        path.write_text(text)
        slurm.ask("sbatch", "--wait", str(path))
        assert one.run.output_file.read_text() == "by hand\n"

    def test_variables_of_the_users_do_not_change_what_is_asked(self, engine, job, monkeypatch):
        monkeypatch.setenv("SBATCH_PARTITION", "urgent")
        monkeypatch.setenv("SQUEUE_STATES", "PENDING")
        monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
        one = job("echo $SLURM_JOB_PARTITION", options={"partition": "main"})
        two = job("echo $SLURM_JOB_PARTITION", 1)
        self.run_all(engine, [one, two])
        assert [each.run.output_file.read_text().strip() for each in (one, two)] == ["main", "urgent"]


def look_name(job):
    """The name that Slurm knows a job by."""
    return place_of(job).partition("/")[0]


def place_of(job):
    """The same with the number in its array."""
    return script.place_in(job.run, job.attempt)


def test_the_time_limit_of_slurm_ends_what_lx_does_not_look_after(timed):
    engine, handles = timed
    contract = EngineContract()
    contract.patience = 110.0
    ends = contract.ends(engine, *handles)
    ignored, saved = (ends[handle] for handle in handles)
    assert (ignored.state, ignored.cause) == ("FAILED", "timeout")
    assert "time limit" in ignored.reason
    assert (saved.state, saved.cause, saved.exit_code) == ("FAILED", "timeout", 75)
    assert "USR1" in saved.reason
    output = Path(handles[1].rpartition(" ")[0].rpartition(" ")[0]) / "output.log"
    assert output.read_text() == "saved\n"


class TestPrepare:
    def test_what_slurm_would_not_take_is_refused_before_anything_is_written(self, tmp_path):
        for options, words in (
            ({"partition": "nope"}, "invalid partition specified: nope"),
            ({"constraint": "gold"}, "Invalid feature specification"),
        ):
            config = Experiment("x", "true", engine_options={"slurm": options})
            with pytest.raises(ConfigError, match=words):
                SlurmEngine().prepare([config], tmp_path, print)
        config = Experiment("x", "true", resources=Resources(memory="1TiB"))
        with pytest.raises(ConfigError, match="Requested node configuration is not available"):
            SlurmEngine().prepare([config], tmp_path, print)
        assert not list(tmp_path.iterdir())

    def test_equal_requests_are_asked_about_once(self, tmp_path, asked):
        SlurmEngine().prepare([Experiment("x", f"echo {number}") for number in range(50)], tmp_path, print)
        assert len(asked) == 1

    def test_a_controller_that_is_away_says_so(self, tmp_path, monkeypatch):
        conf = tmp_path / "slurm.conf"
        text = Path(os.environ["SLURM_CONF"]).read_text()
        conf.write_text(
            "\n".join(line if "SlurmctldPort" not in line else "SlurmctldPort=9" for line in text.split("\n"))
        )
        shutil.copy(Path(os.environ["SLURM_CONF"]).parent / "gres.conf", tmp_path)
        monkeypatch.setenv("SLURM_CONF", str(conf))
        with pytest.raises(commands.AwayError, match="Slurm's controller does not answer"):
            SlurmEngine().prepare([Experiment("x", "true")], tmp_path, print)

    def test_doctor_looks_at_all(self, tmp_path):
        good = Experiment("good", "true")
        bad = Experiment("bad", "true", resources=Resources(gpus=9))
        found = {each.what: each for each in SlurmEngine().examine([good, bad], tmp_path)}
        assert found["slurm"].ok
        assert "cluster lightex; arrays of up to 300" in found["slurm"].words
        assert found["accounting"].ok is None
        assert "2 nodes of 2 CPUs and 2000 MiB, gpu:2" in found["partition main*"].words
        assert found["good"].ok
        assert not found["bad"].ok
        assert "Requested node configuration is not available" in found["bad"].words


@pytest.fixture(scope="module")
def _accounted():
    """A cluster that forgets what has ended after seconds, and has an accounting that does not."""
    if reason := slurm_service.lacks(*slurm_service.PROGRAMS, *slurm_service.ACCOUNTING):
        services.skip_or_fail("slurm", reason)
    before = os.environ.get("SLURM_CONF")
    try:
        with running(lambda folder: slurm_service.Slurm(folder, 1, accounting=True, min_job_age=2), "slurm") as cluster:
            yield cluster
    finally:
        os.environ.pop("SLURM_CONF")
        if before:
            os.environ["SLURM_CONF"] = before


@pytest.fixture
def accounted(_accounted, monkeypatch):
    """The same; SLURM_CONF names it."""
    monkeypatch.setenv("SLURM_CONF", str(_accounted.conf))
    return _accounted


class TestAccounting:
    job, options = EngineContract.job, {}

    def test_limits_on_submitted_jobs_are_waited_for(self, accounted, job, monkeypatch):
        accounted.ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=3")
        try:
            jobs = [job(f"echo {number}", number, resources=Resources(cpus=1)) for number in range(8)]
            reasons = set()

            def note(queue, _job, _state):
                reasons.update(entry.waits_for for entry in queue.running.values())

            Queue(jobs, SlurmEngine(), "slurm", watch=note).run()
        finally:
            accounted.ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
        assert [each.run.output_file.read_text() for each in jobs] == [f"{number}\n" for number in range(8)]
        assert any("Slurm takes no more jobs of yours for now" in (words or "") for words in reasons)

    def test_ends_that_the_controller_has_forgotten_are_in_the_accounting(self, accounted, job, monkeypatch):
        quick, gone = job("exit 3", 0), job("touch began; exec sleep 60", 1)
        engine = SlurmEngine()
        handles = [engine.submit(each, [])[0] for each in (quick, gone)]
        TestSlurmEngine().starts(engine, gone, handles[1], gone.cwd / "began")
        words = quick.run.path / "slurm.1.notes"  # both have one name
        wait_for(lambda: words.exists() and "\nended " in words.read_text())
        wait_for(lambda: place_of(quick) not in look.now([look_name(gone)]), 30)
        engine.close()
        accounted.ask("scancel", "--signal=KILL", f"--name={look_name(gone)}")
        wait_for(lambda: not look.now([look_name(gone)]), 30)
        for each in (quick, gone):  # nobody has seen their last words
            (each.run.path / "slurm.1.notes").unlink()
        second = SlurmEngine()
        assert second.find(gone)[0] == handles[1]
        ends = TestSlurmEngine().ends(second, *handles)
        assert (ends[handles[0]].state, ends[handles[0]].exit_code) == ("FAILED", 3)
        assert (ends[handles[1]].state, ends[handles[1]].cause) == ("CANCELLED", "cancelled")
        assert "by 0" in ends[handles[1]].reason or "by root" in ends[handles[1]].reason
        second.close()

    def test_without_accounting_the_runs_own_notes_tell(self, accounted, job, monkeypatch):
        monkeypatch.setattr(look, "ended", lambda *_: {})
        jobs = [job("exit 3", 0), job("kill -9 $$", 1), job("true", 2), job("kill -9 $PPID; exec sleep 5", 3)]
        engine = SlurmEngine()
        handles = [engine.submit(each, [])[0] for each in jobs]
        names = {look_name(each) for each in jobs}
        engine.poll([], 0)
        engine.poll([], 0)
        wait_for(lambda: all((each.run.path / "slurm.1.notes").exists() for each in jobs))
        engine.close()
        wait_for(lambda: not look.now(names), 30)
        ends = TestSlurmEngine().ends(SlurmEngine(), *handles)
        assert [(ends[h].state, ends[h].exit_code, ends[h].signal) for h in handles] == [
            ("FAILED", 3, None), ("FAILED", None, 9), ("SUCCEEDED", 0, None), ("LOST", None, None),
        ]  # fmt: skip


def test_storage_is_where_it_is_here(tmp_path):
    assert SlurmEngine.folders(Storage(dirs={"data": str(tmp_path)}), tmp_path) == {"data": str(tmp_path)}
