"""What can be done about runs: on real sweeps of the process engine."""

import os
import signal
import subprocess
from dataclasses import dataclass

import pytest

from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.summary import read_all
from lightex.mon import actions
from lightex.namedconf.overrides import parse
from tests.helpers import LX, supervisors, wait_for

WAITS = """import os, time
open(os.environ["LX_RUN_DIR"] + "/began", "w").close()
while not os.path.exists("go"): time.sleep(0.05)
"""


@dataclass(frozen=True)
class HP:
    note: str = "before"


@dataclass(frozen=True)
class Config:
    hp: HP


@pytest.fixture
def root(project, monkeypatch, tmp_path):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    return Root(project / "runs")


def seen(root):
    return {run.short_id[-3:]: run for run in read_all(root, root.runs())}


@pytest.fixture
def at_work(project, root):
    """A sweep of three, one of which runs and two wait."""
    (project / "train.py").write_text(WAITS)
    keeper = subprocess.Popen([*LX, "run", "grid", "-j", "1"], stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: list(project.glob("runs/demo/*/began")))
    yield root
    (project / "go").touch()
    assert keeper.wait(60) in (0, 1)


def test_one_that_runs_is_stopped_and_the_rest_goes_on(at_work):
    told = actions.stop(at_work, [seen(at_work)["000"]], "me in the browser")
    assert told == "1 run asked to end, each within its grace"
    wait_for(lambda: seen(at_work)["000"].status == "CANCELLED")
    assert seen(at_work)["000"].reason == "stopped by me in the browser"
    wait_for(lambda: seen(at_work)["001"].status == "RUNNING")


def test_one_that_waits_is_put_before_the_others_and_that_is_noted_down(at_work):
    assert actions.prioritize(at_work, [seen(at_work)["002"]], 9) == "priority 9 for 1 run"
    wait_for(lambda: seen(at_work)["002"].wants.get("priority") == 9)
    actions.stop(at_work, [seen(at_work)["000"]], "me", kill=True)
    wait_for(lambda: seen(at_work)["002"].status == "RUNNING")
    assert seen(at_work)["001"].status == "QUEUED"
    with pytest.raises(LightexError, match="none of these runs waits"):
        actions.prioritize(at_work, [seen(at_work)["002"]], 1)


def test_a_sweep_is_paused_and_goes_on(at_work):
    sweep = seen(at_work)["000"].sweep
    assert "is paused" in actions.pause(at_work, sweep)
    actions.stop(at_work, [seen(at_work)["000"]], "me")
    wait_for(lambda: seen(at_work)["000"].status == "CANCELLED")
    assert seen(at_work)["001"].status == "QUEUED"
    assert actions.resume(at_work, sweep) == f"sweep {sweep} goes on"
    wait_for(lambda: seen(at_work)["001"].status == "RUNNING")


def test_a_failed_one_is_retried_also_when_its_sweep_is_over(project, root, lx):
    (project / "train.py").write_text("import os, sys; sys.exit(os.environ['LX_ATTEMPT'] == '1')")
    assert lx("run", "base").code == 1
    (failed,) = seen(root).values()
    told = actions.retry(root, [failed])
    assert "1 experiment, detached from this terminal; Next: lx attach" in told
    wait_for(lambda: seen(root)["000"].status == "SUCCEEDED")
    with pytest.raises(LightexError, match="only runs that have ended without success"):
        actions.retry(root, list(seen(root).values()))
    with pytest.raises(LightexError, match="they have all ended already"):
        actions.stop(root, list(seen(root).values()), "me")


@pytest.mark.parametrize("text", ["a, b = 'c'", 'say "so"', "f(x", " led", "plain", "null", "[1"])
def test_a_text_of_a_form_is_one_text(text):
    written = actions.override("hp.note", "before", text)
    found = parse([written], Config(hp=HP()), {}).fixed
    assert found == {"hp.note": text}
    assert actions.override("hp.lr", 0.1, "0.1,0.2") == "hp.lr=0.1,0.2"  # which sweeps


def test_a_clone_is_checked_before_anything_starts(project, root, lx):
    assert lx("run", "base").code == 0
    (run,) = seen(root).values()
    with pytest.raises(LightexError) as caught:
        actions.clone(root, run, ["hp.lr=fast"])
    assert caught.value.message == "hp.lr must be a float, got 'fast' (command line)"
    with pytest.raises(LightexError, match="not an override: '--root=/'"):
        actions.clone(root, run, ["--root=/"])
    assert len(seen(root)) == 1
    actions.clone(root, run, ["hp.lr=0.5"])
    wait_for(lambda: [one.status for one in read_all(root, root.runs())] == ["SUCCEEDED"] * 2)
    assert {one.params["hp.lr"] for one in read_all(root, root.runs())} == {0.01, 0.5}


def test_what_nothing_is_at_work_on_is_not_stopped_but_said(root, run_dir):
    (run,) = read_all(Root(run_dir.path.parents[1]), [run_dir])
    with pytest.raises(LightexError, match="was not started by lx"):
        actions.stop(root, [run], "me")


def left_alone(project, root, *words):
    """The first run of an `lx run` of which all is killed but what it started."""
    keeper = subprocess.Popen([*LX, "run", *words], stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: list(project.glob("runs/demo/*/began")))
    (supervisor,) = wait_for(lambda: supervisors(keeper.pid))
    keeper.kill()
    keeper.wait()
    os.kill(supervisor, signal.SIGKILL)
    return wait_for(lambda: not root.sweep(seen(root)["000"].sweep).supervised and seen(root)["000"])


@pytest.mark.parametrize("whole", [True, False])
def test_what_goes_on_though_its_dispatcher_was_killed_is_ended_too(project, root, whole):
    (project / "train.py").write_text(WAITS)
    run = left_alone(project, root, "grid", "-j", "1")
    assert run.status == "RUNNING"
    told = actions.stop_sweep(root, run.sweep, "me") if whole else actions.stop(root, [run], "me", kill=True)
    assert "ended" in told or "asked to end" in told
    ends = ["CANCELLED"] * 3 if whole else ["CANCELLED", "QUEUED", "QUEUED"]
    wait_for(lambda: [one.status for _, one in sorted(seen(root).items())] == ends)
    assert seen(root)["000"].reason == "stopped by me"
    assert not (project / "go").exists()  # it did not end by itself


def test_a_long_grace_is_not_waited_for_and_kept_to(project, root, monkeypatch):
    monkeypatch.setattr(actions, "_AT_ONCE", 0.5)
    (project / "train.py").write_text("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS)
    run = left_alone(project, root, "base", "grace=3")
    assert actions.stop(root, [run], "me") == "what no dispatcher watched is asked to end, each within its grace"
    assert seen(root)["000"].status == "RUNNING"
    end = wait_for(lambda: seen(root)["000"].status != "RUNNING" and seen(root)["000"])
    assert (end.status, end.reason) == ("CANCELLED", "stopped by me")
