"""`lx top` as a user has it: in a real terminal (tmux), on a real sweep."""

import os
import re
import shutil
import subprocess
import sys
import time
import uuid

import pytest

from tests.helpers import LX
from tests.services.docker import skip_or_fail

CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, sweep


@dataclass(frozen=True)
class HP:
    seed: int = 0
    lr: float = 0.1


base = Experiment(name="demo", command=["sh", "-c", "echo hello from {{ hp.seed }}; [ {{ hp.seed }} != 0 ] || exit 3; "
                  "while [ ! -e go ]; do sleep 0.1; done"], hp=HP(), resources=Resources(cpus=0.1), grace=1)
some = sweep(base, {"hp.seed": [0, 1, 2, 3]})
"""


class Terminal:
    """A terminal of 80x24 in which something runs."""

    def __init__(self, folder, command, **environment):
        self.name = f"lx-{uuid.uuid4().hex[:8]}"
        plain = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], **environment}
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("TMUX")} | plain
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", "80", "-y", "24", "-c", str(folder),
                   command + "; echo ended with $?; exec cat")  # fmt: skip

    def _tmux(self, *arguments):
        return subprocess.run(["tmux", "-L", self.name, *arguments], check=True, capture_output=True, text=True,
                              env=self._environment).stdout  # fmt: skip

    def keys(self, *keys):
        for key in keys:
            self._tmux("send-keys", key)

    def text(self, escapes=False):
        return self._tmux("capture-pane", "-p", *["-e"] * escapes)

    def resize(self, width, height):
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, pattern, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, text := self.text())):
            assert time.monotonic() < deadline, f"{pattern!r} is not in\n{text}"
            time.sleep(0.05)
        return found

    def close(self):
        subprocess.run(["tmux", "-L", self.name, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep of which one run has failed, and two run."""
    if not shutil.which("tmux"):
        skip_or_fail("tmux", "tmux is not installed")
    pytest.importorskip("textual")
    (tmp_path / "lxconfig.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    done = subprocess.run([*LX, "run", "some", "-j", "2", "--detach"], check=True, capture_output=True, text=True)
    yield re.search(r"some  (\w{4}) ", done.stdout)[1]
    (tmp_path / "go").touch()
    names = os.listdir(tmp_path / "runs" / ".sweeps")
    subprocess.run([*LX, "stop", "--kill", *names], check=False, capture_output=True)


@pytest.fixture
def terminal(tmp_path):
    made = []

    def open_one(*arguments, **environment):
        words = " ".join(arguments)
        made.append(Terminal(tmp_path, f"{sys.executable} -c '{LX[2]}' top {words}", **environment))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def test_a_sweep_is_watched_and_acted_on(sweep, terminal):
    screen = terminal()
    screen.shows(r"Running 2")
    screen.shows(rf"{sweep}-000 .*FAILED .*exit code 3")
    screen.shows(rf"{sweep} +some +\S+ 1/4")
    assert all(len(line) <= 80 for line in screen.text().splitlines())

    chosen = screen.shows(rf"> ({sweep}-\d+)")[1]
    screen.keys("s")
    screen.shows(f"Stop {chosen}")
    screen.keys("y")
    screen.shows("1 run asked to end, each within its grace")
    screen.shows(rf"> {chosen} .*CANCELLED")  # the cursor has gone with it

    screen.keys("/")
    screen.shows("a word of what is shown")
    screen.keys("seed=0", "Enter")
    screen.shows(rf"> {sweep}-000 .*FAILED")
    screen.keys("r")
    screen.shows(f"1 run queued again in sweep {sweep}")
    screen.keys("Escape", "Escape")
    screen.shows(r"Running 2")

    screen.keys("g", "j", "c")
    screen.shows(r"hp.seed +\d")
    screen.keys("x", "Enter")
    screen.shows(r"hp.seed must be an int, got '\dx'")
    screen.shows("HP.seed: int = 0, lxconfig.py:")  # it stays, below the field
    screen.keys("BSpace", "BSpace", "7", "Enter")
    screen.shows("lx attach")
    screen.shows("seed=7|Running 3")

    screen.resize(140, 40)
    screen.shows("experiment +varies +progress")
    screen.keys("q")
    screen.shows("ended with 0")


def test_without_colours_states_are_words_and_a_log_is_read(sweep, terminal):
    screen = terminal(sweep, NO_COLOR="1", LC_ALL="C", TERM="screen")
    screen.shows("FAILED")
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|38;|48;|9\d|10\d)", screen.text(escapes=True))
    assert screen.text().isascii()
    screen.keys("l")
    screen.shows(r"hello from \d[\s\S]*following of 13 B")
    screen.keys("q", "w")
    screen.shows("process .* of ")
    screen.keys("Escape", "C-c")
    screen.shows("ended with 0")


def test_a_pipe_is_refused_with_what_to_use(lx):
    done = lx("top")
    assert done.code == 2
    assert done.err == ("error: lx top draws on a terminal, and this is none\n"
                        "  lx ls lists runs (--json), lx attach follows a sweep\n")  # fmt: skip


def test_without_textual_it_says_how_to_get_it(tmp_path):
    code = f"""import sys
sys.modules["textual"] = None
import lightex.cli.top
lightex.cli.top._is_terminal = lambda: True
from lightex.cli import main
main(["--root", {str(tmp_path)!r}, "top"])"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: lx top needs the package 'textual', which is not installed\n  pip install 'lightex[tui]'\n"
    )
