"""Real runs of the process engine: told, and stopped; the commands; inside lx ui."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from tests.helpers import LX, wait_for

CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources

@dataclass(frozen=True)
class HP:
    lr: float = 0.1

explodes = Experiment(name="explodes", command=["python", "train.py"], hp=HP(), grace=1.0,
                      resources=Resources(cpus=0.2, memory="200MiB"))
fails = Experiment(name="fails", command=["sh", "-c", "echo no data; exit 3"], hp=HP(), resources=Resources(cpus=0.2))
"""
TRAIN = """import time
import lightex
with lightex.start_run() as run:
    for step in range(600):
        run.log({"loss": 1.0 if step < 3 else float("nan")}, step=step)
        time.sleep(0.1)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    (tmp_path / "lxconfig.py").write_text(CONFIG)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def rules(here, to, text):
    (here / "new").write_text(f'to = ["{to}"]\n{text}')
    (here / "new").replace(here / "alerts.toml")  # half a file would be valid, too


@contextmanager
def running(*arguments, ready, **environment):
    """`lx ARGUMENTS` in a process of its own, once it has printed `ready`; yields it and what it printed so far."""
    with open("printed", "wb") as lines:
        process = subprocess.Popen([*LX, *arguments], stdout=lines, stderr=subprocess.STDOUT, start_new_session=True,
                                   env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment)  # fmt: skip

    def printed():
        with open("printed", encoding="utf-8") as file:
            return file.read()

    try:
        wait_for(lambda: re.search(ready, printed()) or process.poll() is not None)
        yield process, printed
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        finally:
            process.kill()
            process.wait()


def test_a_run_whose_loss_is_nan_is_stopped_and_told(here, lx, inbox):
    rules(here, inbox.url, '[[rule]]\nwhen = "nan"\nmetric = "loss"\nact = "stop"\n[[rule]]\nwhen = "ended"')
    with running("alert", "watch", "--every", "0.2", ready="watching") as (process, printed):
        done = subprocess.run([*LX, "run", "explodes"], capture_output=True, text=True, check=False, timeout=60)
        assert "CANCELLED" in done.stdout + done.stderr
        wait_for(lambda: "CANCELLED" in json.dumps(inbox.got))
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert "told json 1: NAN" in printed()
    said = "\n".join(f"{each['title']}\n{each['message']}" for each in inbox.got)  # of one message, or of two
    assert len(re.findall(r"^NAN  \S+  explodes$", said, re.MULTILINE)) == 1
    assert len(re.findall(r"^CANCELLED  \S+  explodes$", said, re.MULTILINE)) == 1
    assert "loss is nan" in said
    assert "it was asked to end, by rule 1 (nan), line 2" in said
    (run,) = lx("ls", "--json").json
    assert run["status"] == "CANCELLED"
    assert run["reason"] == "stopped by an alert: nan metric=loss"


def test_the_ui_tells_too_with_links_without_its_token(here, inbox):
    rules(here, inbox.url, '[[rule]]\nwhen = "failed"\n[[rule]]\nwhen = "sweep-finished"')
    with running("ui", "--no-browser", ready="Ctrl-C ends it", LX_TOKEN="secrettoken") as (_, printed):
        assert "alerts: 2 rules of" in printed()
        wait_for((here / "runs" / ".alerts" / "told.jsonl").exists)
        wait_for(lambda: "sweep-finished" in (here / "runs" / ".alerts" / "told.jsonl").read_text())
        subprocess.run([*LX, "run", "fails"], capture_output=True, check=False, timeout=60)
        wait_for(lambda: {"FAILED", "FINISHED"} <= set(re.findall("FAILED|FINISHED", json.dumps(inbox.got))))
        second = subprocess.run([*LX, "alert", "watch"], capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 2
        assert "watches" in second.stderr
    said = json.dumps(inbox.got)
    assert "no data" in said
    assert re.search(r"http://127.0.0.1:\d+/run/", said)
    assert "secrettoken" not in said


def test_changed_rules_are_read_and_broken_ones_change_nothing(here, make, inbox):
    rules(here, inbox.url, '[[rule]]\nwhen = "lost"')
    with running("alert", "watch", "--every", "0.1", ready="watching") as (_, printed):
        rules(here, inbox.url, '[[rule]]\nwhen = "failed"\n[[rule]]\nwhen = "lost"')
        wait_for(lambda: "2 rules of" in printed())
        (here / "alerts.toml").write_text('[[rule]]\nwhen = "faild"')
        wait_for(lambda: "no rule for 'faild'" in printed())
        assert printed().count("the rules from before go on") == 1
        (here / "alerts.toml").unlink()
        make("a", "FAILED", at=time.time())
        wait_for(lambda: "FAILED  a  digits" in inbox.titles)


def test_the_ui_takes_up_rules_that_are_written_later(here, make, inbox):
    with running("ui", "--no-browser", ready="Ctrl-C ends it", LX_TOKEN="t") as (_, printed):
        rules(here, inbox.url, '[[rule]]\nwhen = "failed"')
        wait_for(lambda: "alerts: 1 rule of" in printed())
        make("a", "FAILED", at=time.time())
        wait_for(lambda: "FAILED  a  digits" in inbox.titles)


def test_the_ui_goes_on_when_the_rules_are_broken(here):
    (here / "runs").mkdir()
    (here / "alerts.toml").write_text('[[rule]]\nwhen = "faild"')
    with running("ui", "--no-browser", ready="Ctrl-C ends it", LX_TOKEN="t") as (_, printed):
        assert (
            "warning: no alerts: alerts.toml: rule 1, line 1: there is no rule for 'faild'. Did you mean" in printed()
        )
        address = re.search(r"http://[^?\s]+", printed())[0]
        asked = urllib.request.Request(address, headers={"authorization": "Bearer t"})
        assert wait_for(lambda: status(asked)) == 200


def status(request):
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except ConnectionError:
        return None
    except urllib.error.URLError as error:  # it tells its address a moment before it listens
        return getattr(error, "code", None)


# ---------------------------------------------------------------------- commands


def test_init_writes_rules_that_are_understood(here, lx, monkeypatch):
    done = lx("alert", "init")
    assert done.code == 0
    assert "Next: lx alert test" in done.out
    done = lx("alert", "check")
    assert (done.code, done.err) == (0, "")
    assert "rule 4 (stalled), line 19: a run has written neither output nor records for 30 min" in done.out
    assert "would be told now: nothing" in done.out
    done = lx("alert", "init")
    assert done.code == 2
    assert "exists already" in done.err
    lines = (here / "alerts.toml").read_text().splitlines()
    comments = re.compile(r"# (\[\[rule\]\]|[a-z]+ = )")
    everything = "\n".join(line[2:] if comments.match(line) else line for line in lines)
    for name in ("SLACK_URL", "MAIL_USER", "MAIL_PASSWORD"):
        monkeypatch.setenv(
            name, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ" if name == "SLACK_URL" else "me"
        )
    everything = everything.replace('to = ["desktop://"]\n', "", 1)
    (here / "alerts.toml").write_text(everything)
    done = lx("alert", "check")
    assert (done.code, done.err) == (0, "")
    assert "tells slack 1, mailto 1 (example.com), jsons 1 (hooks.example.com)" in done.out
    assert "TIiajk" not in done.out


def test_check_shows_what_would_be_told_now(here, lx, make, inbox):
    rules(here, inbox.url, '[[rule]]\nwhen = "nan"\nact = "stop"\n[[rule]]\nwhen = "failed"')
    make("a", records=({"metrics": {"loss": float("nan")}, "step": 1},))
    make("b", "FAILED", at=time.time())
    done = lx("alert", "check")
    assert "would be told now: 1\n  NAN  a  digits\n    loss is nan\n    it is asked to end, by rule 1" in done.out
    assert inbox.got == []


def test_test_says_who_got_it_and_why_another_one_did_not(here, lx, inbox):
    (here / "alerts.toml").write_text(
        f'to = ["{inbox.url}", "json://me:hunter22@127.0.0.1:1/secretpath", "slak://secretsecret"]'
    )
    done = lx("alert", "test")
    assert done.code == 1
    first, second, third = done.out.splitlines()
    assert first == f"ok    json 1 (127.0.0.1:{inbox.port})"
    assert second.startswith("FAIL  json 2 (127.0.0.1:1): ")
    assert third.startswith("FAIL  slak 1: slak 1 is not an address that Apprise knows")
    assert "hunter22" not in done.out
    assert "secret" not in done.out
    assert inbox.titles == ["LightEx: a test"]
    rules(here, inbox.url, "")
    assert lx("alert", "test").code == 0


def test_mistakes_are_said(here, lx):
    for words in (("check",), ("test",), ("watch",)):
        done = lx("alert", *words)
        assert done.code == 2
        assert "lx alert init writes one" in done.err
    (here / "alerts.toml").write_text("")
    assert "names nobody to be told" in lx("alert", "test").err
    rules(here, "${NOWHERE}", "")
    assert "NOWHERE is not set" in lx("alert", "watch").err
