"""The main job from the command line, as a user has it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightex.core.errors import StorageError
from tests.helpers import LX, wait_for


def test_a_sweep_runs_is_listed_and_compared(project, lx):
    done = lx("run", "grid", "-j", "2")
    assert done.code == 0
    assert "3 succeeded" in done.out
    assert "Next: lx compare" in done.out
    runs = lx("ls", "--json").json
    assert [run["status"] for run in runs] == ["SUCCEEDED"] * 3
    assert [run["params"]["hp.lr"] for run in runs] == [0.1, 0.01, 0.001]
    assert runs[0]["metrics"] == {"loss": pytest.approx(0.1 / 3)}
    assert {run["sweep"] for run in runs} == {runs[0]["sweep"]}
    folder = Path(runs[0]["dir"])
    assert folder.parent == project / "runs" / "demo"
    assert json.loads((folder / "config.json").read_text())["resources"]["memory"] == 256 << 20
    assert (folder / "output.log").read_text() == "done 0.1\n"
    assert len(list(folder.glob("code.*.tar.gz"))) == 1
    table = lx("compare").out.splitlines()
    assert [line.split()[2] for line in table[1:4]] == ["0.001", "0.01", "0.1"]
    assert "epochs=3" in table[4]
    assert lx("logs", runs[1]["id"]).out == "done 0.01\n"
    assert lx("logs", runs[1]["id"], "--json").json == [{"id": runs[1]["id"], "output": "done 0.01\n"}]
    assert lx("ls").out.count("SUCCEEDED") == 3


def test_a_plan_says_everything_and_starts_nothing(project, lx):
    out = lx("plan", "grid", "hp.epochs=1,2").out
    assert "grid: 6 experiments = hp.lr (3) x hp.epochs (2)" in out
    assert "lxconfig.py:" in out
    assert "command line" in out
    assert not (project / "runs").exists()
    assert len(lx("plan", "grid", "--json").json) == 3


def test_what_succeeded_before_is_counted_and_left_out_if_asked(project, lx):
    assert lx("run", "base", "hp.lr=0.1,0.2").code == 0
    assert "1 of 2 succeeded before" in lx("run", "base", "hp.lr=0.2,0.3").out
    done = lx("run", "grid", "--needed")
    assert "1 succeeded before with the same config and are left out" in done.out
    assert "2 succeeded" in done.out
    assert "nothing is left to run" in lx("run", "grid", "--needed").out


def test_resume_runs_what_has_not_succeeded_with_the_mended_code(project, lx):
    good = (project / "train.py").read_text()
    (project / "train.py").write_text("import sys\nif float(sys.argv[1]) < 0.05: raise ValueError('bad')\n" + good)
    done = lx("run", "grid")
    assert done.code == 1
    assert "exit code 1: ValueError: bad" in done.out
    assert "lx resume" in done.out
    before = {run["id"]: run for run in lx("ls", "--json").json}
    (project / "train.py").write_text(good)
    assert lx("resume").code == 0
    after = {run["id"]: run for run in lx("ls", "--json").json}
    assert before.keys() == after.keys()
    assert {run["status"] for run in after.values()} == {"SUCCEEDED"}
    assert sorted(run["attempt"] for run in after.values()) == [1, 2, 2]
    assert "nothing to resume" in lx("resume").out
    again = next(run for run in after.values() if run["attempt"] == 2)
    assert len(list(Path(again["dir"]).glob("code.*.tar.gz"))) == 2


def test_ctrl_c_stops_cleanly_records_it_and_resume_goes_on(project, lx):
    (project / "train.py").write_text(
        "import time, sys\nprint('up', flush=True)\ntime.sleep(60 * float(sys.argv[1]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", "from lightex.cli import main; main()", "run", "base",
                                "hp.lr=1.0,0.0,2.0", "-j", "1"], stdout=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 20
    while not list(project.glob("runs/demo/*/output.log")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "3 cancelled" in out
    assert [(r["status"], r["reason"]) for r in lx("ls", "--json").json] == [
        ("CANCELLED", "Ctrl-C"), ("CANCELLED", "not started: Ctrl-C"), ("CANCELLED", "not started: Ctrl-C")]  # fmt: skip
    (project / "train.py").write_text("")
    assert lx("resume").code == 0


def test_a_detached_sweep_is_attached_to_and_stopped(project, lx):
    (project / "train.py").write_text("import time\nopen('started', 'a').write('x')\ntime.sleep(600)\n")
    detached = subprocess.run([*LX, "run", "grid", "-j", "1", "--detach"], check=True, capture_output=True, text=True)
    assert "detached from this terminal" in detached.stdout
    wait_for((project / "started").exists)
    runs = lx("ls", "--json").json
    assert "1 run ended" in lx("stop", runs[2]["id"]).out
    attached = subprocess.Popen([*LX, "attach"], stdout=subprocess.PIPE, text=True)
    assert "2 runs ended" in lx("stop", runs[0]["sweep"]).out
    assert attached.wait() == 1
    assert "3 cancelled. Next: lx compare" in attached.stdout.read()
    attached.stdout.close()
    assert {run["status"] for run in lx("ls", "--json").json} == {"CANCELLED"}
    assert "ended already" in lx("stop", runs[0]["sweep"]).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "base", "hp.lrr=1"], "hp has no field 'lrr'. Did you mean 'hp.lr'?"),
        (["run", "base", "hp.lr=fast"], "hp.lr must be a float, got 'fast' (command line)"),
        (["run", "gird"], "no config named 'gird'. Did you mean 'grid'?"),
        (["run", "base", "command=run {{ hp.x }}"], "the template names hp.x, which is not there."),
        (["run", "base", "engine=dokcer"], "no engine named 'dokcer'."),
        (["run", "base", "-e", "proces"], "no engine named 'proces'. Did you mean 'process'?"),
        (["run", "base", "loggers=[wand]"], "no logger named 'wand'. Did you mean 'wandb'?"),
        (["run", "base", "hp.lr=0.1,0.1"], "experiments 1 and 2 of 2 are equal: {'hp.lr': 0.1}"),
        (["run", "base", "resources.cpus=1000"], "demo can never run on this machine: it needs 1000 cpus"),
        (["run", "base", "resources.gpus=99"], "demo can never run on this machine: it needs 99 GPUs"),
        (["run", "base", "name=a/b"], "name: 'a/b' cannot name a folder"),
        (["run", "base", "env={WANDB_API_KEY: x}"], "env.WANDB_API_KEY looks like a secret"),
        (["--root", "/proc/none", "run", "base"], "cannot write /proc/none"),
        (["--root", "/etc/passwd", "run", "base"], "cannot write /etc/passwd: Not a directory"),
        (["logs", "zzzz"], "no run 'zzzz'."),
        (["resume"], "no sweep in"),
        (["comapre"], "no command 'comapre'. Did you mean 'compare'?"),
    ],
)  # fmt: skip
def test_bad_input_is_said_in_words_with_exit_code_2_and_changes_nothing(project, lx, arguments, message):
    before = sorted(project.rglob("*"))
    done = lx(*arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert [path for path in sorted(project.rglob("*")) if "__pycache__" not in path.parts] == before


def test_a_run_of_a_newer_format_is_refused(project, lx):
    lx("run", "base")
    path = next(project.glob("runs/demo/*/run.json"))
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    done = lx("ls")
    assert done.code == 2
    assert "update LightEx" in done.err


def test_a_failure_while_a_sweep_is_recorded_takes_all_of_it_back(project, lx, monkeypatch):
    from lightex.core.rundir import RunDir

    made, create = [], RunDir.create.__func__

    def fails_at_the_third(cls, path, identity, config, event, fill=None):
        made.append(path)
        if len(made) == 3:
            raise StorageError("cannot write: No space left on device")
        return create(cls, path, identity, config, event, fill)

    monkeypatch.setattr(RunDir, "create", classmethod(fails_at_the_third))
    assert "No space left" in lx("run", "grid").err
    assert len(made) == 3
    assert not (project / "runs").exists()


def test_without_any_config_lx_init_is_named(tmp_path, monkeypatch, lx):
    monkeypatch.chdir(tmp_path)
    done = lx("run")
    assert done.code == 2
    assert "lx init" in done.err


def test_configs_show_diff_and_schema(project, lx):
    assert [item["name"] for item in lx("configs", "--json").json] == ["base", "long", "grid", "tiny"]
    assert lx("show", "long", "--json").json["hp"]["epochs"] == 30
    sources = lx("show", "base", "hp.lr=0.1", "--sources", "--json").json
    assert sources["hp.lr"] == {"value": 0.1, "source": "command line"}
    assert sources["hp.epochs"]["source"].startswith("default lxconfig.py:")
    assert sources["name"]["source"].startswith("lxconfig.py:")
    assert lx("diff", "base", "long", "--json").json == {"hp.epochs": [3, 30]}
    assert "LX_HP_LR=0.01" in lx("show", "base", "-f", "env").out
    assert lx("schema", "base").json["properties"]["hp"]["properties"]["lr"]["type"] == "number"
    lx("run", "base")
    run = lx("ls", "--json").json[0]
    assert lx("diff", "base", run["id"]).out.strip().endswith("are equal")


def test_rm_removes_runs_and_empty_sweeps(project, lx):
    lx("run", "grid")
    sweep = lx("ls", "--json").json[0]["sweep"]
    assert "removed 1 run" in lx("rm", f"{sweep}-000", "-y").out
    assert "removed 2 runs" in lx("rm", sweep, "-y").out
    assert lx("ls", "--json").json == []
    assert list((project / "runs" / ".sweeps").iterdir()) == []


def test_logs_follow_until_the_end(project, lx):
    (project / "train.py").write_text(
        "import time\nfor i in range(3):\n    print(i, flush=True)\n    time.sleep(0.1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", "from lightex.cli import main; main()", "run", "grid"],
                               stdout=subprocess.DEVNULL)  # fmt: skip
    while len(list(project.glob("runs/demo/*/run.json"))) < 3:
        time.sleep(0.02)
    out = lx("logs", "-f").out
    process.wait(timeout=20)
    assert out.count("| 2\n") == 3


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (0, ""),
        (1, "z\n"),
        (2, f"{'y' * 70_000}\nz\n"),
        (3, f"b\n{'y' * 70_000}\nz\n"),
        (9, f"a\nb\n{'y' * 70_000}\nz\n"),
    ],
)
def test_logs_print_the_last_lines(project, lx, lines, expected):
    assert lx("run", "base").code == 0
    next(project.glob("runs/demo/*/output.log")).write_text(f"a\nb\n{'y' * 70_000}\nz\n")
    assert lx("logs", "-n", lines).out == expected
    assert lx("logs", "-n", lines, "--json").json[0]["output"] == expected


def test_doctor_finds_this_machine_ready(project, lx):
    done = lx("doctor", "--json")
    assert done.code == 0
    assert {item["what"] for item in done.json} >= {"python", "runs", "machine", "process", "configs"}


def test_init_in_an_empty_folder_then_run(tmp_path, monkeypatch, lx, project):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert "Next: lx run grid" in lx("init").out
    assert "exists already" in lx("init").err
    assert lx("run", "grid").code == 0
    assert len(lx("ls", "--json").json) == 6


def test_init_proposes_the_config_of_a_script_with_argparse(tmp_path, monkeypatch, lx, project):
    monkeypatch.chdir(tmp_path)
    Path("go.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\n"
        "p.add_argument('--learning-rate', '-l', type=float, default=0.5, help='step size')\n"
        "p.add_argument('--opt', choices=['sgd', 'adam'], default='sgd')\n"
        "p.add_argument('--fast', action=argparse.BooleanOptionalAction, default=False)\n"
        "p.add_argument('--data')\np.add_argument('--sizes', type=int, nargs='+', default=[1, 2])\n"
        "p.add_argument('--lambda', type=float, default=0.1)\n"
        "print(p.parse_args())\n"
    )
    assert "found 6 arguments" in lx("init", "go.py").out
    assert lx("run", "base", "hp.arg_lambda=0.2").code == 0
    assert "learning_rate=0.5" in lx("logs").out
    assert "'lambda': 0.2" in lx("logs").out or "lambda=0.2" in lx("logs").out
    assert lx("run", "base", "hp.opt=adagrad").code == 2


def test_a_python_function_is_called_with_its_typed_config(project, lx):
    config = project / "lxconfig.py"
    config.write_text(config.read_text() + "call = Experiment(name='call', target='work:main', hp=HP(model=MLP(5)))\n")
    (project / "work.py").write_text("def main(hp):\n    print(type(hp).__name__, hp.model, hp.lr)\n")
    assert lx("run", "call", "hp.lr=0.5").code == 0
    assert lx("logs").out == "HP MLP(width=5) 0.5\n"
    assert lx("run", "call", "target=work:none").code == 1
    (project / "file.yaml").write_text("extends: call\nhp: {lr: 0.25}\n")
    assert lx("run", "file.yaml").code == 0
    assert lx("logs").out == "HP MLP(width=5) 0.25\n"


def test_the_example_in_shell_runs_from_files_alone(lx, monkeypatch, tmp_path, project):
    example = Path(__file__).parents[2] / "examples" / "shell"
    monkeypatch.chdir(example)
    assert lx("--root", tmp_path / "r", "run", "rates.toml").code == 0
    best = lx("--root", tmp_path / "r", "compare", "--json").json["runs"][0]
    assert best["params"] == {"hp.rate": 0.3, "hp.steps": 20}
    assert best["metrics"]["loss"] < 1e-6
    assert lx("run", "experiment.yaml", "hp.rate=fast").code == 2
