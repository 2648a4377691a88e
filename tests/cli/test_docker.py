"""Experiments in containers, from the command line: what a new user does, and what may go wrong."""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest

import lightex
from lightex.dispatcher.engines.containers.daemon import connect
from tests.helpers import LX, supervisors, wait_for
from tests.services.docker import BASE, copy_packages

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker")]

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
IN_A_CONTAINER = ["-e", "docker", f"container.image={BASE}", "container.mount_lightex=true"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))


def runs(lx, *arguments):
    return lx("ls", "--json", *arguments).json


def test_a_sweep_runs_in_an_image_with_nothing_but_python(project, lx):
    done = lx("run", "grid", *IN_A_CONTAINER)
    assert done.code == 0, done
    assert "3 succeeded" in done.out
    (project / "train.py").write_text((project / "train.py").read_text().replace('"done"', '"edited"'))
    before = {run["id"] for run in runs(lx)}
    assert lx("run", "base", *IN_A_CONTAINER).code == 0  # edit and run again, with the same image
    (again,) = {run["id"] for run in runs(lx)} - before  # of one second, ids do not tell which was later
    assert "edited 0.01" in lx("logs", again).out
    found = sorted(run["metrics"]["loss"] for run in runs(lx))
    assert found == pytest.approx([0.001 / 3, 0.01 / 3, 0.01 / 3, 0.1 / 3])
    assert connect().containers(all=True, filters={"label": f"lightex.run={project}"}) == []


def test_a_program_in_any_language_writes_to_the_run(project, lx):
    writes = """printf '{"metrics":{"loss":%s}}\\n' "$LX_HP_LR" >>"$LX_RUN_DIR/records.jsonl"; echo "$PWD" """
    (project / "lxconfig.py").write_text(
        (project / "lxconfig.py").read_text() + f"shell = replace(base, {{'command': ['sh', '-c', {writes!r}]}})\n"
    )
    assert lx("run", "shell", "-e", "docker", f"container.image={BASE}").code == 0
    (run,) = runs(lx)
    assert run["metrics"]["loss"] == 0.01
    assert lx("logs", run["id"]).out.strip() == str(project)


def test_lightex_in_the_image_needs_no_mount(project, lx):
    shutil.copytree(Path(lightex.__file__).parent, project / "lightex-for-the-image")
    (project / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY lightex-for-the-image /usr/local/lib/python3.11/dist-packages/lightex\n"
    )
    config = (project / "lxconfig.py").read_text().replace("hp=HP(),", "hp=HP(), container=Container(Build()),")
    (project / "lxconfig.py").write_text(config.replace("import Experiment", "import Build, Container, Experiment"))
    done = lx("run", "base", "-e", "docker")
    assert done.code == 0, done.err
    assert runs(lx)[0]["metrics"]["loss"] == pytest.approx(0.01 / 3)


def test_a_trackers_own_package_inside_reaches_its_server(project, lx, monkeypatch):
    """The variables of a logger of the config are given to the container; its records are fed from outside."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TRACKIO_SERVER", f"http://127.0.0.1:{server.server_port}")
    (project / "train.py").write_text(
        "import os, urllib.request\nprint(urllib.request.urlopen(os.environ['TRACKIO_SERVER']).status)\n"
    )
    try:
        done = lx("run", "base", *IN_A_CONTAINER, "loggers=[trackio]")
    finally:
        server.shutdown()
        server.server_close()
    assert done.code == 0, done.err
    assert lx("logs", runs(lx)[0]["id"]).out == "200\n"
    recorded = "".join(path.read_text() for path in (project / "runs").rglob("*.json*"))
    assert str(server.server_port) not in recorded


def test_an_image_without_lightex_says_what_to_do(project, lx):
    assert lx("run", "base", "-e", "docker", f"container.image={BASE}").code == 1
    done = lx("why", runs(lx)[0]["id"])
    assert "container.mount_lightex=true" in done.out


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="packages of this Python are not those of the image's 3.11")
@pytest.mark.timeout(300)  # fourteen trainings in containers, on a machine that does other things as well
def test_the_demo_runs_in_an_image_built_from_a_dockerfile(tmp_path, monkeypatch, lx):
    folder = tmp_path / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    copy_packages(folder / "packages", "scikit-learn", "skops", "lightex")
    (folder / "Dockerfile").write_text(f"FROM {BASE}\nCOPY packages /usr/local/lib/python3.11/dist-packages\n")
    (folder / ".dockerignore").write_text("*\n!packages\n")
    config = (folder / "lxconfig.py").read_text().replace("import Experiment", "import Build, Container, Experiment")
    container = "container=Container(Build(), mount_lightex=True), metric="
    (folder / "lxconfig.py").write_text(config.replace("metric=", container))
    monkeypatch.chdir(folder)
    done = lx("run", "sweep_all", "-e", "docker", "hp.epochs=2", "-j", "2")
    assert done.code == 0, done.out + done.err + lx("logs", runs(lx)[0]["id"]).out
    assert "14 succeeded" in done.out
    assert "building: Step 2/2 : COPY packages" in done.err
    first = folder / "runs" / "digits" / runs(lx)[0]["id"]
    assert "COPY packages" in (first / "build.log").read_text()
    assert list((first / "artifacts").iterdir())
    again = lx("run", "linear", "-e", "docker", "hp.epochs=1")
    assert again.code == 0
    assert "building" not in again.err


def test_what_print_manifest_shows_does_the_same_from_a_shell(project, lx):
    done = lx("run", "base", *IN_A_CONTAINER, "--print-manifest")
    assert done.code == 0
    assert "1 run is recorded and not started" in done.err
    assert runs(lx)[0]["status"] == "QUEUED"
    pasted = subprocess.run(["sh", "-c", done.out], capture_output=True, text=True, check=True)
    assert pasted.stdout == "done 0.01\n"
    (run,) = runs(lx)
    assert run["metrics"]["loss"] == pytest.approx(0.01 / 3)
    assert "1 succeeded" in lx("resume").out  # its own word counts: it is not run again


def test_the_manifest_of_processes_does_the_same_too(project, lx):
    done = lx("run", "base", "--print-manifest")
    pasted = subprocess.run(["sh", "-c", done.out], capture_output=True, text=True, check=True)
    assert pasted.stdout == "done 0.01\n"
    assert runs(lx)[0]["metrics"]["loss"] == pytest.approx(0.01 / 3)


def test_a_failing_build_leaves_nothing_behind(project, lx):
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo missing package && exit 3\n")
    config = (project / "lxconfig.py").read_text().replace("hp=HP(),", "hp=HP(), container=Container(Build()),")
    (project / "lxconfig.py").write_text(config.replace("import Experiment", "import Build, Container, Experiment"))
    done = lx("run", "grid", "-e", "docker")
    assert done.code == 2
    assert "could not be built" in done.err
    assert "... missing package" in done.err
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "says no image to run in"),
        ((f"container.image={BASE}x",), f"Did you mean '{BASE}'?"),
        ((f"container.image={BASE}", "container.mounts={'nowhere': '/x'}"), "nowhere does not exist"),
        ((f"container.image={BASE}", "storage.dirs={'data': 'nowhere'}"), "storage.dirs.data: "),
        ((f"container.image={BASE}", "resources.memory=9TiB"), "can never run on this machine"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(project, lx, arguments, words):
    done = lx("run", "grid", "-e", "docker", *arguments)
    assert done.code == 2
    assert words in done.err
    assert not (project / "runs").exists()


def test_a_daemon_that_does_not_answer_says_so(project, lx, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project}/none.sock")
    done = lx("run", "grid", "-e", "docker", f"container.image={BASE}")
    assert done.code == 2
    assert "no docker daemon answers at" in done.err
    assert not (project / "runs").exists()
    assert "no docker daemon answers" in lx("doctor", "-e", "docker").out


def test_doctor_looks_at_daemon_image_and_mounts(project, lx):
    text = (
        (project / "lxconfig.py")
        .read_text()
        .replace("hp=HP(),", f"hp=HP(), engine='docker', container=Container({BASE!r}),")
    )
    (project / "lxconfig.py").write_text(text.replace("import Experiment", "import Container, Experiment"))
    out = lx("doctor").out
    assert "daemon: " in out
    assert f"image: {BASE} is there" in out
    assert f"mounts: a container writes to {project} as you" in out


def test_ctrl_c_stops_containers_cleanly_and_resume_goes_on(project, lx):
    (project / "train.py").write_text(
        "import signal, sys, time\nfrom pathlib import Path\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(3)))\n"
        "print('ready', flush=True)\n"
        "while not Path('go').exists(): time.sleep(0.05)\nprint('whole')\n"
    )
    process = subprocess.Popen([*LX, "run", "base", *IN_A_CONTAINER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: runs(lx) and "ready" in lx("logs", runs(lx)[0]["id"]).out)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=30)[0].decode()
    assert "1 cancelled" in out
    (run,) = runs(lx)
    assert "saved" in lx("logs", run["id"]).out
    (project / "go").touch()
    assert lx("resume").code == 0
    assert lx("logs", run["id"]).out.endswith("--- attempt 2 ---\nready\nwhole\n")
    assert connect().containers(all=True, filters={"name": run["id"].split("-", 2)[2]}) == []


def test_a_supervisor_that_is_killed_again_and_again_runs_each_experiment_once(project, lx):
    (project / "train.py").write_text(
        "import os, time\nwith open('starts', 'a') as file: file.write(os.environ['LX_RUN_ID'] + '\\n')\ntime.sleep(0.4)\n"
    )
    process = subprocess.Popen([*LX, "run", "base", *IN_A_CONTAINER, "hp.lr=range(1,11)", "-j", "3"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    for kills in range(1, 4):
        wait_for(lambda n=kills: _starts(project) >= 2 * n)
        for pid in wait_for(lambda: supervisors(process.pid)):  # the next one may not be there yet
            os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert err.count(b"another one goes on") == 3
    assert len(set((project / "starts").read_text().split())) == _starts(project) == 10
    assert {run["status"] for run in runs(lx)} == {"SUCCEEDED"}


@pytest.mark.parametrize("place", [IN_A_CONTAINER, []])
def test_stop_ends_what_goes_on_though_its_lx_was_killed(project, lx, place):
    (project / "train.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(100)\n")
    process = subprocess.Popen([*LX, "run", "base", *place, "hp.lr=0.1,0.2", "-j", "1"], stdout=subprocess.DEVNULL)
    wait_for(lambda: runs(lx) and "ready" in lx("logs", runs(lx)[0]["id"]).out)
    (supervisor,) = supervisors(process.pid)
    process.kill()
    process.wait()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: runs(lx)[1]["reason"])  # it says that nothing is at work on it
    assert runs(lx)[0]["status"] == "RUNNING"
    done = lx("stop", runs(lx)[0]["sweep"])
    assert "2 runs ended" in done.out, done
    assert [run["status"] for run in runs(lx)] == ["CANCELLED", "CANCELLED"]
    assert f"lx stop by {os.environ.get('USER') or 'root'}" in runs(lx)[0]["reason"]
    assert connect().containers(all=True, filters={"name": runs(lx)[0]["id"].split("-", 2)[2]}) == []


def _starts(project):
    try:
        return len((project / "starts").read_text().split())
    except FileNotFoundError:
        return 0


def test_init_writes_a_dockerfile_that_builds(project, lx):
    copy_packages(project / "pip-for-the-base", "pip")
    (project / "Dockerfile.base").write_text(
        f"FROM {BASE}\nCOPY pip-for-the-base /usr/local/lib/python3.11/dist-packages\n"
        "RUN printf '#!/bin/sh\\nexec python3 -m pip \"$@\"' >/usr/local/bin/pip && chmod +x /usr/local/bin/pip\n"
    )
    subprocess.run(["docker", "build", "-q", "-t", "lightex-test/pip:1", "-f", "Dockerfile.base", "."], check=True,
                   capture_output=True)  # fmt: skip
    assert lx("init", "--docker").code == 0
    (project / "requirements.txt").write_text(f"# {uuid4()}\n")  # what is named there would come from a network
    done = lx("init", "--docker")
    assert done.code == 2
    assert "Dockerfile exists already" in done.err
    text = (project / "lxconfig.py").read_text()
    container = "container=Container(Build(args={'BASE': 'lightex-test/pip:1'}), mount_lightex=True)"
    (project / "lxconfig.py").write_text(
        text.replace("hp=HP(),", f"hp=HP(), {container},").replace(
            "import Experiment", "import Build, Container, Experiment"
        )
    )
    done = lx("run", "base", "-e", "docker")
    assert done.code == 0, done.err
    assert "building: Step 5/5 : RUN pip install -r /tmp/requirements.txt" in done.err


def test_a_secret_that_would_stay_in_an_image_is_refused(project, lx):
    config = (project / "lxconfig.py").read_text().replace("import Experiment", "import Build, Container, Experiment")
    container = "container=Container(Build(args={'MY_TOKEN': 'x'})),"
    (project / "lxconfig.py").write_text(config.replace("hp=HP(),", f"hp=HP(), {container}"))
    done = lx("run", "base", "-e", "docker")
    assert done.code == 2
    assert "container.image.args.MY_TOKEN looks like a secret" in done.err
