"""Told once: over restarts, kills, full disks, and by one watcher for each folder."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from lightex.core import journal
from lightex.core.root import Root
from lightex.mon.alerts import told as module
from lightex.mon.alerts.told import Told
from tests.helpers import wait_for
from tests.mon.alerts.conftest import NOW
from tests.mon.alerts.test_watch import rule

FAILED = rule("failed")


@pytest.fixture
def told(root):
    made = Told(root, print)
    assert made.claim()
    yield made
    made.release()


def again(root):
    made = Told(root, print)
    assert made.claim()
    return made


def test_a_restarted_watcher_tells_only_what_is_new(make, watch):
    one = watch(FAILED)
    make("a", "FAILED")
    one.look(NOW + 5)
    wait_for(lambda: one.got)
    one = watch(FAILED, first=False)
    make("b", "FAILED", at=NOW + 20)  # while nobody watched
    assert one.look(NOW + 30) == ["FAILED  b  digits"]
    wait_for(lambda: one.got)
    assert one.got == ["FAILED  b  digits"]


def test_what_ended_long_ago_while_nobody_watched_is_not_told(make, watch):
    watch(FAILED)
    make("a", "FAILED", at=NOW)
    make("b", "FAILED", at=NOW + 86400)
    one = watch(FAILED, first=False)
    assert one.look(NOW + 86400 + 60) == ["FAILED  b  digits"]


def test_there_is_one_watcher_for_a_folder(make, watch, root):
    one = watch(FAILED)
    other = subprocess.run([sys.executable, "-c", "import sys; from lightex.core.root import Root; from "
                            "lightex.mon.alerts.told import Told; t = Told(Root(sys.argv[1]), print); "
                            "print(t.claim(), t.holder)", root.path], capture_output=True, text=True, check=True)  # fmt: skip
    assert other.stdout.split()[0] == "False"
    assert f"process {os.getpid()}" in other.stdout
    second = Told(root, print)
    assert not second.claim()
    one.watcher.close()
    assert second.claim()
    second.release()


def test_a_watcher_that_waits_for_another_one_tells_nothing_until_that_has_ended(make, watch, root):
    other = again(root)
    one = watch(FAILED)
    make("a", "FAILED")
    assert one.look(NOW + 5) == []
    other.begin("failed", [], NOW - 100)
    other.release()
    assert one.look(NOW + 10) == ["FAILED  a  digits"]


def test_what_was_noted_down_and_not_sent_is_sent_by_the_next_one(told, root):
    notice = told.note("title", "body", "failure", ["k"], ["json 1", "json 2"], NOW)
    told.sent([notice], "json 1", NOW)
    told.release()
    after = again(root)
    assert after.pending() == [(notice, "json 2")]
    assert after.knows("k")
    after.sent([notice], "json 2", NOW)
    after.release()
    after = again(root)
    assert after.pending() == []
    after.release()


def test_a_line_that_a_kill_cut_is_left_out_and_cut_off(told, root):
    told.note("one", "", "info", ["a"], [], NOW)
    told.release()
    with told.path.open("ab") as file:
        file.write(b'{"time": 1, "notice": {"id"')
    after = again(root)
    after.note("two", "", "info", ["b"], [], NOW)
    after.release()
    assert len(list(journal.read(told.path))) == 2
    last = again(root)
    assert last.knows("a")
    assert last.knows("b")
    last.release()


def test_a_long_journal_is_shortened_and_keeps_what_matters(told, root, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 1000)
    told.begin("failed", ["old"], time.time() - 100 * 86400)
    notices = [told.note(f"title {n}", "x" * 100, "info", [f"k{n}"], ["json 1"], time.time()) for n in range(20)]
    told.sent(notices[:19], "json 1", time.time())
    told.clear("k3", time.time())
    size, begun = told.path.stat().st_size, told.begun("failed")
    told.release()
    for _ in range(2):
        after = again(root)
        assert after.path.stat().st_size < size / 2
        assert after.pending() == [(notices[19], "json 1")]
        assert [n for n in range(20) if not after.knows(f"k{n}")] == [3]
        assert after.begun("failed") == begun
        assert not after.knows("old")
        after.release()


def test_a_full_disk_keeps_nothing_from_being_told(small_disk, tmp_path):
    said = []
    made = Told(Root(small_disk / "runs"), said.append)
    assert made.claim()
    filler = small_disk / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"x" * 4096)
    first = made.note("x" * 5000, "", "info", ["a"], ["json 1"], NOW)
    made.note("second", "", "info", ["b"], ["json 1"], NOW)
    assert made.knows("a")
    assert len(made.pending()) == 2
    assert len(said) == 1
    assert "cannot write" in said[0]
    filler.unlink()
    made.sent([first], "json 1", NOW)
    made.release()
    after = again(Root(small_disk / "runs"))
    assert [notice.title for notice, _ in after.pending()] == ["second"]
    after.release()


SENDER = """
import os, sys, time, signal
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.cli.alerting import watcher
from lightex.mon.alerts import told
from pathlib import Path
if sys.argv[2] == "kill":  # between the sending and the noting
    told.Told.sent = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
root = Root(sys.argv[1])
made, _ = watcher(root, root.path.parent / "alerts.toml", print)
with Index(root) as index:
    made.look(index)
made.close()
"""


def test_a_kill_between_sending_and_noting_doubles_what_was_being_sent_and_loses_nothing(make, watch, root, inbox):
    """The choice: at least once. Noting first would lose what was being sent."""
    one = watch(FAILED, first=False, to=f'to = ["{inbox.url}"]')
    one.look(time.time() - 3600)
    one.watcher.close()
    make("a", "FAILED", at=time.time() - 60)
    done = subprocess.run(
        [sys.executable, "-c", SENDER, root.path, "kill"], check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert inbox.titles == ["FAILED  a  digits"]
    make("b", "FAILED", at=time.time() - 5)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SENDER, root.path, ""], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert inbox.titles[1:] == ["2 alerts: 2 FAILED"]
    assert inbox.got[1]["message"].count("FAILED") == 2
