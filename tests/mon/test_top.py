"""`lx top`: what it shows, that it stays put, that keys do what they say."""

import asyncio
import json
import os
import re
import subprocess
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("textual")

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from lightex.core.errors import StorageError
from lightex.core.index import Index
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.dispatcher.why import why
from lightex.machine import Machines
from lightex.mon.state import picture
from lightex.mon.top.app import Top
from lightex.mon.top.columns import Column, line, widths
from lightex.mon.top.header import header
from lightex.mon.top.log import bare, coloured
from lightex.mon.top.logfile import LogFile
from lightex.mon.top.table import Table
from lightex.mon.top.watch import Given, Sight, Wish
from lightex.mon.top.words import end, middle
from tests.helpers import LX, make_run

CONFIG = """from dataclasses import dataclass
from lightex import Experiment, Resources, sweep


@dataclass(frozen=True)
class HP:
    seed: int = 0


base = Experiment(name="demo", command=["sh", "-c", "i=0; while [ ! -e go ]; do i=$((i+1)); "
                  "echo line $i of {{ hp.seed }}; sleep 0.1; done"], hp=HP(), resources=Resources(cpus=0.1), grace=1)
some = sweep(base, {"hp.seed": [0, 1, 2]})
"""
MACHINE = SimpleNamespace(cpus=8.0, cpus_leased=1.5, memory=2**34, memory_leased=2**30, devices=[])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@asynccontextmanager
async def top(runs, size=(80, 24), **more):
    app = Top(Given(Root(runs), lambda: MACHINE, why, **more))
    async with app.run_test(size=size) as pilot:
        await shows(app, "Running")
        yield app, pilot


def screen(app):
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))


async def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return value


async def shows(app, text, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not re.search(text, screen(app)):
        assert time.monotonic() < deadline, f"{text!r} is not in\n{screen(app)}"
        await asyncio.sleep(0.02)


def chosen(app):
    return app._overview.query_one(Table).chosen.key


def line_of(app, text):
    return next(each for each in screen(app).splitlines() if text in each)


def now(run, state="RUNNING", **more):
    run.append_event({"time": time.time(), "state": state, "attempt": 1, **more})


def test_it_tells_what_runs_waits_and_has_ended_and_why(runs):
    one = make_run(runs, "aaaa-001", {"lr": 0.1}, {"time": 1.0, "step": 3, "metrics": {"loss": 0.5}}, state=None,
                   varied={"hp.lr": 0.1})  # fmt: skip
    one.append_usage({"time": time.time(), "cpu": 0.97, "memory": 311 << 20})
    one.output_file.write_text(" 42%|####      | 42/100 [00:10<00:14,  4.19it/s]")
    failed = make_run(runs, "bbbb-001", {"lr": 0.2}, state=None, varied={"hp.lr": 0.2})
    now(failed, "FAILED", cause="exit", reason="exit code 1: loss is \x1b[2JNaN", exit_code=1)

    async def scenario():
        async with top(runs) as (app, _):
            assert re.search(r"1 running +1 failed", screen(app))
            assert "cpus" in screen(app)
            assert "1.5/8 leased" in screen(app)
            running = line_of(app, "aaaa-001")
            for part in ("lr=0.1", "42%", "00:14", "97%", "311M", "loss 0.5"):
                assert part in running
            assert "exit code 1: loss is" in line_of(app, "bbbb-001")
            assert "\x1b" not in screen(app)
            assert "FAILED" in line_of(app, "bbbb-001")

    asyncio.run(scenario())


def test_what_nobody_looks_after_is_marked(runs):
    make_run(runs, "abcd-000", {"lr": 0.1}, state=None, sweep="abcd")
    (runs / ".sweeps" / "abcd").mkdir(parents=True)

    async def scenario():
        async with top(runs) as (app, pilot):
            assert "? not watched" in line_of(app, "abcd-000")
            await pilot.press("enter")
            await shows(app, "its dispatcher is gone")

    asyncio.run(scenario())


def test_the_cursor_stays_on_its_run_when_others_come_and_when_it_ends(runs):
    for number in range(5):
        make_run(runs, f"aaaa-{number:03}", state=None)

    async def scenario():
        async with top(runs) as (app, pilot):
            await pilot.press("j", "down", "k")
            mine = chosen(app)
            other = make_run(runs, "bbbb-001", state=None)
            now(other)  # the latest comes first
            await shows(app, "bbbb-001")
            assert chosen(app) == mine
            assert line_of(app, mine.split("-", 2)[-1]).startswith("> ")
            run = next(run for run in Root(runs).runs() if run.id == mine)
            now(run, "SUCCEEDED", exit_code=0)
            await shows(app, "Ended 1")
            assert chosen(app) == mine
            run.remove()
            await until(lambda: chosen(app) != mine)

    asyncio.run(scenario())


def test_of_many_the_first_are_shown_and_the_others_counted_and_found(runs):
    for number in range(130):
        make_run(runs, f"aaaa-{number:03}", {"seed": number}, state=None, varied={"hp.seed": number})

    async def scenario():
        async with top(runs) as (app, pilot):
            assert "Running 130" in screen(app)
            await pilot.press("G")
            await shows(app, "30 more: / finds one")
            assert "Running 130" in screen(app).splitlines()[3]  # the heading stays
            await pilot.press("slash", *"seed=7", "enter")
            await shows(app, r"Running 11\b")
            await pilot.press("g")
            assert "seed=7" in line_of(app, "> ")
            await pilot.press("escape")
            await shows(app, "Running 130")
            await pilot.press("tab", "shift+tab", "pageup", "pagedown")

    asyncio.run(scenario())


def test_only_what_is_asked_for_is_shown(runs):
    make_run(runs, "aaaa-001", state=None, sweep="aaaa")
    make_run(runs, "bbbb-001", state=None, sweep="bbbb")

    async def scenario():
        async with top(runs, within=("sweep IN (?)", ("bbbb",)), named="bbbb") as (app, _):
            assert "aaaa" not in screen(app)
            assert "bbbb-001" in screen(app)
            assert "1 running" in screen(app)

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [(20, 6), (40, 10), (80, 24), (200, 60)])
def test_it_fits_any_terminal_and_any_change_of_it(runs, size):
    make_run(runs, "aaaa-001", {"lr": 0.1}, state=None, experiment="é漢字" * 30, varied={"hp.lr": 0.1})

    async def scenario():
        async with top(runs) as (app, pilot):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            await pilot.press("enter", "escape", "question_mark", "escape", "l", "q", "w", "escape")
            assert all(cell_len(each) <= size[0] for each in screen(app).splitlines())

    asyncio.run(scenario())


def test_what_cannot_be_done_is_told_with_what_can(runs):
    make_run(runs, "aaaa-001")

    async def scenario():
        async with top(runs) as (app, pilot):
            now_ended = Root(runs)
            run = next(now_ended.runs())
            now(run, "SUCCEEDED", exit_code=0)
            await shows(app, "SUCCEEDED")
            await pilot.press("s")
            await shows(app, "error: aaaa-001 has ended already: SUCCEEDED")
            await pilot.press("r")
            await shows(app, "only runs that have ended without success are retried")
            assert "clone the others" in screen(app)
            await pilot.press("plus")
            await shows(app, "none of these runs waits")
            await pilot.press("p")
            await shows(app, "belongs to no sweep")
            await pilot.press("escape")
            assert "error" not in screen(app)

    asyncio.run(scenario())


def test_a_run_closely(runs):
    run = make_run(runs, "aaaa-001", {"lr": 0.1, "depth": 4}, {"time": 1.0, "step": 3, "metrics": {"val.acc": 0.5}},
                   {"time": 2.0, "step": 4, "metrics": {"val.acc": 0.25}}, state=None, varied={"hp.lr": 0.1})  # fmt: skip
    run.output_file.write_text("\x1b[31mred\x1b[0m words\n")

    async def scenario():
        async with top(runs) as (app, pilot):
            await pilot.press("enter")
            await shows(app, "red words")
            for part in ("hp.lr  0.1", "depth=4", "val.acc", "0.25", "run.progress", "attempt 1"):
                assert part in screen(app)
            now(run, "FAILED", cause="exit", reason="exit code 3", exit_code=3)
            await shows(app, "exit code 3")
            await pilot.press("w")
            await shows(app, "cause: exit, an exit code other than 0")
            assert "lx logs aaaa-001" in screen(app)
            await pilot.press("escape", "escape")
            await shows(app, "Running 0")

    asyncio.run(scenario())


def test_a_log_is_followed_searched_and_scrolled(runs):
    run = make_run(runs, "aaaa-001", state=None)
    run.output_file.write_text("".join(f"step {n} \x1b[32mwell\x1b[0m\n" for n in range(20_000)) + "x" * 200 + "\n")

    async def scenario():
        async with top(runs) as (app, pilot):
            await pilot.press("l")
            await shows(app, "step 19999 well")
            assert "following" in screen(app)
            assert "x" * 79 + " \n" + "x" * 79 in screen(app)  # wrapped
            with run.output_file.open("a") as file:
                file.write("one more\n")
            await shows(app, "one more")
            await pilot.press("slash", *"STEP 1234 WELL", "enter")
            await shows(app, r"step 1234 well")
            assert "following" not in screen(app)
            await pilot.press("n")
            await shows(app, "is not above: N looks the other way")
            await pilot.press("g")
            await shows(app, r"step 0 well")
            await pilot.press("space", "k", "j", "pagedown", "pageup")
            app.screen._view.scroll_to(y=10**6, animate=False)  # to the end of what was read
            await until(lambda: app.screen._view.part.stop > 300_000)
            await pilot.press("f")
            await shows(app, "one more")
            run.output_file.write_text("anew\n")
            await shows(app, "anew")
            await pilot.press("q")
            await shows(app, "Running 1")

    asyncio.run(scenario())


def test_keys_act_on_a_real_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lxconfig.py").write_text(CONFIG)
    subprocess.run([*LX, "run", "some", "-j", "1", "--detach"], check=True, capture_output=True)
    root = Root(tmp_path / "runs")
    (sweep,) = root.sweeps()

    async def scenario():
        app = Top(Given(root, Machines().look, why))
        async with app.run_test(size=(120, 30)) as pilot:
            await shows(app, "Running 1 ")
            await shows(app, r"Waiting 2")
            assert "0/3" in line_of(app, sweep.id)
            first = chosen(app)
            await pilot.press("tab", "plus")
            await shows(app, "priority 1 for 1 run")
            await shows(app, r"0.1 cpu, priority 1")
            await pilot.press("equals_sign", "minus", "minus")
            await until(lambda: "priority" not in line_of(app, f"> {sweep.id}-001"))
            await pilot.press("p")
            await until(lambda: sweep.paused)
            await shows(app, "PAUSED")
            await pilot.press("p")
            await until(lambda: not sweep.paused)
            await pilot.press("g", "j")
            assert chosen(app) == first
            await pilot.press("l")
            await shows(app, r"line \d+ of 0")
            await pilot.press("q", "s", "n")
            await pilot.press("s")
            await shows(app, "Stop .*-000")
            await pilot.press("y")
            await shows(app, "1 run asked to end")
            await shows(app, "CANCELLED +.* ago")
            await pilot.press("r")
            await shows(app, "queued again")
            await pilot.press("g", "enter")
            await shows(app, f"only sweep {sweep.id}")
            await pilot.press("escape", "escape", "g", "K", "y")
            await shows(app, f"sweep {sweep.id} asked to end")
            await until(lambda: not sweep.supervised)
            await pilot.press("r")
            await shows(app, r"lx attach", 40)

    try:
        asyncio.run(scenario())
    finally:
        (tmp_path / "go").touch()
        subprocess.run([*LX, "stop", "--kill", *(each.id for each in root.sweeps())], check=False, capture_output=True)


# ---------------------------------------------------------------------- its parts


lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30), max_size=60)


@given(lines, st.integers(20, 200))
def test_parts_of_a_log_add_up_to_the_whole(tmp_path_factory, texts, block):
    path = tmp_path_factory.mktemp("log") / "output.log"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightex.mon.top.logfile._BLOCK", block * 10)
        file = LogFile(path)
        part = file.tail()
        while part.start > 0:
            part = file.before(part)
        assert [each.text for each in part.lines] == texts
        part = file.head()
        while not part.at_end:
            part = file.after(part)
        assert [each.text for each in part.lines] == texts
        path.write_bytes(path.read_bytes() + b"more")
        assert file.after(part).lines[-1].text == "more"


@given(lines, st.text(st.sampled_from("abc\x1b[m1;é"), min_size=1, max_size=3), st.booleans(), st.integers(0, 3000))
def test_a_search_finds_what_a_search_of_the_whole_finds(tmp_path_factory, texts, word, up, start):
    data = "\n".join(texts).encode()
    path = tmp_path_factory.mktemp("log") / "output.log"
    path.write_bytes(data)
    start = min(start, len(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightex.mon.top.logfile._CHUNK", 300)
        found = LogFile(path).find(word, start, up, lambda: False)
    places = [match.start() for match in re.finditer(b"(?=" + re.escape(word.encode()) + b")", data, re.IGNORECASE)]
    places = [place for place in places if (place < start if up else place >= start)]
    if not places:
        assert found is None or "\x1b" in data.decode()
    else:
        assert found is not None
        assert found >= places[-1] if up else found <= places[0]


def test_a_log_of_many_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "output.log"
    with path.open("wb") as file:
        file.truncate(1 << 36)  # a hole
        file.seek(0, os.SEEK_END)
        file.write(b"\nfirst\nlast 1%\rlast 2%\r\n")
    log = LogFile(path)
    began = time.monotonic()
    part = log.tail()
    assert [each.text for each in part.lines[-2:]] == ["first", "last 2%"]
    assert log.find("first", part.stop, True, lambda: False) == (1 << 36) + 1
    assert log.before(part).start < part.start
    assert time.monotonic() - began < 5
    assert log.find("absent", part.stop, True, lambda: True) is None  # given up
    assert LogFile(tmp_path / "none").tail().lines == ()
    assert LogFile(tmp_path / "none").find("a", 0, False, lambda: False) is None


def test_a_line_shows_its_colours_and_no_other_effect_of_what_it_holds():
    raw = "a\x1b[31mred\x1b[0m\x1b[2J\x07\x1b]0;title\x07\tb\x9bc"
    text = coloured(raw)
    assert "\x1b" not in text.plain
    assert text.plain.isprintable()
    assert text.plain.startswith("ared")
    assert any("color(1)" in str(span.style) for span in text.spans)
    assert bare("\x1b[31mred\x1b[0m") == "red"


def test_the_header_tells_what_is_leased_of_this_machine_and_which_others_are_at_work(runs):
    devices = [
        SimpleNamespace(name=str(n), memory=80 << 30, used=2 << 30, use=0.97, runs=["a"] * (n < 2)) for n in range(3)
    ]
    machine = SimpleNamespace(**(vars(MACHINE) | {"devices": devices}))
    run = make_run(runs, "aaaa-001", state=None)
    now(run, process={"host": "node2", "pid": 1, "born": "1"}, gpus=["0"])
    with Index(Root(runs)) as index:
        sight = Sight(Wish(word="a"), picture(index), machine, None)
    shown = header("/runs", sight, 200).plain
    assert "GPUs 2/3 leased (busy 97% 97% 97%)" in shown
    assert "node2: 1 run" in shown
    assert "only 'a'; esc shows all again" in shown


def test_a_look_that_fails_is_told_and_looked_again(runs, monkeypatch):
    make_run(runs, "aaaa-001", state=None)

    async def scenario():
        async with top(runs) as (app, _):
            with monkeypatch.context() as patch:
                patch.setattr("lightex.mon.top.watch.picture", broken)
                await shows(app, "error: the index was broken")
                assert "try again" in screen(app)
            make_run(runs, "bbbb-001", state=None)
            await shows(app, "bbbb-001")

    def broken(*_, **__):
        raise StorageError("the index was broken", "try again")

    asyncio.run(scenario())


@given(st.text(max_size=60), st.integers(0, 40))
def test_what_is_cut_fits(text, width):
    for cut in (end, middle):
        assert cell_len(cut(text, width)) <= max(width, 0) or cell_len(text) <= width


@given(st.lists(st.lists(st.text("abc é", max_size=80), min_size=4, max_size=4), max_size=5), st.integers(60, 150))
def test_columns_fit_where_there_is_room_for_their_least(rows, width):
    columns = [Column("id", right=True), Column("name", 6, inside=True), Column("state", 8, state=True), Column("x", 9)]
    rows = [[row[0][:8], *row[1:]] for row in rows]
    found = widths(columns, rows, width, ())
    for row in rows:
        assert sum(cell_len(text) for text, _ in line(columns, row, found)) - 2 <= width


def test_the_run_dir_is_left_as_it_is(runs):
    """Watching writes nothing into a run."""
    run = make_run(runs, "aaaa-001", state=None)
    before = sorted(os.listdir(run.path))

    async def scenario():
        async with top(runs) as (app, pilot):
            await pilot.press("enter", "l")
            await shows(app, "nothing was printed yet")

    asyncio.run(scenario())
    assert sorted(os.listdir(run.path)) == before
    assert json.loads((run.path / "run.json").read_text())["id"] == RunDir(run.path).identity["id"]
