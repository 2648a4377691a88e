"""The feeder, with real processes that are really killed."""

import os
import random
import signal
import time

import pytest

from lightex.mulogger.delivery import progress
from lightex.mulogger.sync import sync
from tests.mulogger.conftest import until

LOG = """
import lightex, sys, time
count, pause = int(sys.argv[1]) if len(sys.argv) > 1 else {count}, {pause}
with lightex.start_run("demo", params={{"lr": 0.1}}, loggers=[lightex.Logger("jsonsink", {{"folder": "{folder}"}})]) as run:
    for number in range(count):
        run.log({{"x": number}}, step=number)
        time.sleep(pause)
"""


def code(program, count, pause=0.0):
    return LOG.format(count=count, pause=pause, folder=program.json)


def test_all_records_arrive_with_the_status_and_nothing_is_left_running(program):
    assert program.start(code(program, 1000)).wait() == 0
    assert program.closed() == "SUCCEEDED"
    assert program.values() == list(range(1000))
    assert program.written()[0] == {"params": {}}
    assert program.written()[-1]["status"] == "SUCCEEDED"
    feeder = program.feeder()
    until(lambda: not os.path.exists(f"/proc/{feeder}"), what="the feeder's end")
    assert not list(program.folder.glob("cache/feeders/*/*.run"))


def test_a_killed_program_reaches_the_backend_with_its_true_status(program):
    for _ in range(3):
        process = program.start(code(program, 1_000_000, 0.001))
        until(lambda: program.run and len(program.values()) > 10)
        time.sleep(random.random() / 10)
        process.kill()
        process.wait()
        assert program.closed() == "LOST"
        assert program.values() == program.logged()
        os.rename(program.run.path, program.folder / f"done-{process.pid}")


def test_a_feeder_that_is_killed_is_replaced_and_nothing_comes_twice(program):
    process = program.start(code(program, 1000, 0.008))
    for _ in range(2):
        have = until(lambda: program.run and len(program.values()), what="the first records")
        os.kill(program.feeder(), signal.SIGKILL)
        until(lambda have=have: len(program.values()) > have, what="a new feeder")
    assert process.wait() == 0
    assert program.closed() == "SUCCEEDED"
    assert program.values() == list(range(1000))


def test_a_backend_that_is_down_slows_nothing_and_is_caught_up_with(program):
    (program.json / "fail").touch()
    process = program.start(code(program, 500, 0.01))
    error = until(lambda: program.run and program.run.sinks.exists() and progress(program.run, "jsonsink").error)
    assert error == "ConnectionError: the backend is down"
    (program.json / "fail").unlink()
    assert process.wait() == 0
    assert program.closed() == "SUCCEEDED"
    assert program.values() == list(range(500))


@pytest.mark.parametrize("trouble", ["fail", "hang"])
def test_what_is_left_when_patience_ends_is_synced_later(program, lx, trouble, monkeypatch):
    monkeypatch.setattr("lightex.mulogger.feeder._HANGS", 0.0)
    (program.json / trouble).touch()
    began = time.monotonic()
    assert program.start(code(program, 100)).wait() == 0
    assert time.monotonic() - began < 20
    if trouble == "fail":
        feeder = program.feeder()
        until(lambda: not os.path.exists(f"/proc/{feeder}"), what="the feeder's end")
        done = lx("sync")
        assert done.code == 1
        assert "bytes behind: ConnectionError: the backend is down" in done.out
        assert "jsonsink behind: ConnectionError" in lx("ls").out
    else:
        os.kill(program.feeder(), signal.SIGKILL)
    (program.json / trouble).unlink()
    done = lx("sync")
    assert "jsonsink has it all" in done.out
    assert program.values() == list(range(100))
    assert "every logger has everything" in lx("sync").out


def test_a_sink_named_only_afterwards(program, lx):
    assert program.start("import lightex\nwith lightex.start_run() as run:\n    run.log({'x': 1})").wait() == 0
    done = lx("sync", program.run.short_id, "--to", "jsonsink", "-o", f"folder={program.json}")
    assert (done.code, program.values()) == (0, [1])
    assert "has no option 'foldr'. Did you mean 'folder'?" in lx("sync", "--to", "jsonsink", "-o", "foldr=x").err
    assert "no logger named 'jsonsnk'. Did you mean 'jsonsink'?" in lx("sync", "--to", "jsonsnk").err


def test_one_call_to_all_or_to_one(program):
    text = f"""
import lightex
run = lightex.MultiLogger([lightex.Logger("jsonsink", {{"folder": "{program.json}"}}), "csv"])
run.log({{"x": 1}})
run.to("csv").log({{"x": 2}})
assert run.sink("jsonsink").folder.name == "json"
try:
    run.to("cvs")
except lightex.LightexError as error:
    print(error.message)
run.finish()
"""
    assert program.start(text).wait() == 0
    assert (program.closed(), program.closed("csv")) == ("SUCCEEDED", "SUCCEEDED")
    assert program.values() == [1]
    assert (program.run.path / "csv" / "metrics.csv").read_text().count(",x,") == 2


def test_a_run_removed_under_the_feeder_is_no_trouble(program):
    process = program.start(code(program, 1_000_000, 0.001))
    until(lambda: program.run and len(program.values()) > 5)
    feeder = program.feeder()
    process.kill()
    process.wait()
    program.run.remove()
    until(lambda: not os.path.exists(f"/proc/{feeder}"), what="the feeder's end")
    (log,) = program.folder.glob("cache/feeders/*/log")
    assert "Traceback" not in log.read_text()


def test_sync_tells_what_fails(program, lx):
    (program.json / "fail").touch()
    assert program.start(code(program, 10)).wait() == 0
    until(lambda: not os.path.exists(f"/proc/{program.feeder()}"), what="the feeder's end")
    assert sync(program.run, "jsonsink").error == "ConnectionError: the backend is down"
