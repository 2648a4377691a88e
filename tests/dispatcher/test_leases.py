"""What runs at once fits, among all dispatchers of a machine, and nobody waits for ever."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import StorageError
from lightex.core.liveness import birth_mark, user
from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.board import Board
from lightex.dispatcher.book import Book, Entry
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.gpus import Gpu
from lightex.dispatcher.job import Job
from lightex.dispatcher.leases import Leases

GPUS = tuple(Gpu(name, 100) for name in "012")


def job(name, priority=0, **needs):
    needs = {"cpus": 0, **needs}
    run = RunDir(f"/runs/demo/261123-101010-{name}")
    return Job(run=run, command=(), env={}, cwd=run.path, resources=Resources(**needs), priority=priority)


@pytest.fixture
def book(tmp_path):
    return Book(tmp_path / "book")


@pytest.fixture
def dispatcher(book):
    """Makes dispatchers on one book, each in the name of a process of its own."""
    processes = []

    def make(capacity=None, patience=30.0):
        processes.append(subprocess.Popen(["sleep", "100"], start_new_session=True))
        pid = processes[-1].pid
        capacity = capacity or Capacity(4, 100, lambda: GPUS)
        return Leases(capacity, book, patience, owner=f"{pid}:{birth_mark(pid)}")

    yield make
    for process in processes:
        process.kill()
        process.wait()


needs = st.builds(
    Resources,
    cpus=st.sampled_from([0.1, 0.5, 1, 2]),
    memory=st.sampled_from([None, 10, 60]),
    gpus=st.integers(0, 2),
    gpu_memory=st.sampled_from([None, 30, 100]),
)


@given(st.lists(st.tuples(needs, st.booleans()), max_size=30))
def test_what_is_given_never_exceeds_the_capacity_and_is_refused_only_where_it_must_be(steps):
    capacity, held = Capacity(4, 100, lambda: GPUS), []
    for wanted, give_back in steps:
        wish, board = Entry.wish(wanted), Board(capacity, held)
        gpus = board.fits(wish)
        assert (gpus is None) == (board.short_of(wish) is not None)
        if gpus is not None:
            held.append(replace(wish, gpus=gpus))
        if give_back and held:
            held.pop(0)
        assert sum(lease.cpus for lease in held) <= 4 + 1e-9
        assert sum(lease.memory for lease in held) <= 100
        for gpu in GPUS:
            shares = [lease.gpus[gpu.name] for lease in held if gpu.name in lease.gpus]
            assert None not in shares or len(shares) == 1
            assert sum(share or 0 for share in shares) <= gpu.memory
    assert Board(capacity, ()).fits(Entry.wish(Resources(cpus=4, memory=100, gpus=3))) == dict.fromkeys("012")


def test_ten_tenths_fit_in_one_cpu():
    held = [Entry.wish(Resources(cpus=0.1)) for _ in range(10)]
    assert Board(Capacity(1, 0, tuple), held[:9]).fits(held[9]) == {}
    assert Board(Capacity(1, 0, tuple), held).short_of(held[0]) == "a cpu (1 of 1 in use)"


def test_what_can_never_be_given_is_told():
    capacity = Capacity(2, 1 << 30, lambda: (Gpu("0", 40 << 30),))
    assert capacity.lacks(Resources(cpus=3)) == "needs 3 cpus, there are 2"
    assert capacity.lacks(Resources(memory="2GiB")) == "needs 2 GiB of memory, there are 1 GiB"
    assert capacity.lacks(Resources(gpus=2)) == "needs 2 GPUs, there are 1"
    words = "needs 50 GiB of a GPU's memory, the largest here has 40 GiB"
    assert capacity.lacks(Resources(gpu_memory="50GiB")) == words
    assert capacity.lacks(Resources(cpus=2, memory="1GiB", gpus=1)) is None


def test_experiments_share_a_gpu_by_memory_and_spread_over_all(dispatcher):
    one = dispatcher()
    places = []
    for number in range(7):
        wanted = job(f"s-{number}", gpu_memory=50)
        assert (one.lease([wanted]) is wanted) == (number < 6)
        places += one.gpus(wanted)
    assert sorted(places) == ["0", "0", "1", "1", "2", "2"]
    assert one.waits_for(job("s-7", gpu_memory=50)).startswith("50 B of a GPU (3 of 3 in use by ")


def test_gpus_on_which_others_compute_are_left_alone(dispatcher):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        busy = (Gpu("0", 100, {stranger.pid: 60}), Gpu("1", 100))
        one = dispatcher(Capacity(4, 100, lambda: busy))
        whole, again, shared = job("w-0", gpus=1), job("w-1", gpus=1), job("w-2", gpu_memory=40)
        assert one.lease([whole]) is whole
        assert one.gpus(whole) == ("1",)
        assert one.lease([again]) is None
        assert f"process {stranger.pid} on GPU 0 is not lx's" in one.waits_for(again)
        assert one.lease([again, shared]) is shared
        assert one.gpus(shared) == ("0",)
        assert one.lease([job("w-3", gpu_memory=1)]) is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("known_by", ["session", "environment"])
def test_a_job_on_its_own_gpu_is_no_stranger_there(dispatcher, known_by):
    first, second = job("o-0", gpu_memory=70), job("o-1", gpu_memory=30)
    environment = os.environ | {"LX_RUN_DIR": str(first.run.path)}
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    worker = subprocess.Popen(["sleep", "60"], start_new_session=True, env=environment)  # as of torchrun
    try:
        seen = (Gpu("0", 100, {(child if known_by == "session" else worker).pid: 60}),)
        one = dispatcher(Capacity(4, 100, lambda: seen))
        one.hold(first, ["0"], f"{child.pid}:1")
        one.held[str(first.run.path)].job = f"{child.pid}:1"
        assert one.lease([second]) is second
    finally:
        for each in (child, worker):
            each.kill()
            each.wait()


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_book_that_is_lost_is_written_again_though_nothing_changes(dispatcher, book, monkeypatch, spoil):
    monkeypatch.setattr("lightex.dispatcher.leases._SURE", 0.0)
    one, two = dispatcher(), dispatcher()
    first, second = job("a-0", cpus=3), job("b-0", cpus=2)
    assert one.lease([first]) is first
    spoil(book.path)
    one.flush()
    assert two.lease([second]) is None


def test_two_dispatchers_share_one_machine(dispatcher):
    one, two = dispatcher(), dispatcher()
    first, second = job("a-0", cpus=3), job("b-0", cpus=2)
    assert one.lease([first]) is first
    assert two.lease([second]) is None
    assert two.waits_for(second) == f"a cpu (3 of 4 in use by a-0 of {user()})"
    assert one.waits_for(second) == "a cpu (3 of 4 in use by this sweep)"
    one.release(first)
    one.flush()
    assert two.lease([second]) is second


def test_they_take_turns_where_both_want_all(dispatcher):
    one, two = dispatcher(), dispatcher()
    turns = []
    queues = {one: [job(f"a-{n}", cpus=4) for n in range(4)], two: [job(f"b-{n}", cpus=4) for n in range(4)]}
    running = None
    for _ in range(40):
        if running:
            running[0].release(running[1])
            running[0].flush()
            running = None
        for each in (one, one, two):  # one looks more often
            if queues[each] and (got := each.lease(queues[each][:1])):
                queues[each].pop(0)
                turns.append("one" if each is one else "two")
                running = (each, got)
    assert len(turns) == 8
    assert "one" in turns[:3]
    assert "two" in turns[:3]
    assert turns[1:6].count("one") >= 2
    assert turns[1:6].count("two") >= 2


def test_what_is_of_higher_priority_comes_first_though_it_came_later(dispatcher):
    one, two = dispatcher(), dispatcher()
    holder, low, high = job("h-0", cpus=4), job("l-0", cpus=4), job("p-0", priority=1, cpus=4)
    assert one.lease([holder]) is holder
    assert one.lease([low]) is None
    assert two.lease([high]) is None
    one.release(holder)
    assert one.lease([low]) is None
    assert two.lease([high]) is high


def test_small_ones_overtake_a_group_but_not_for_ever(dispatcher):
    capacity = Capacity(100, 100, lambda: GPUS)
    one, two = dispatcher(capacity, 0.2), dispatcher(capacity, 0.2)
    first, group = job("s-0", gpus=1), job("g-0", gpus=3)
    assert one.lease([first]) is first
    assert two.lease([group]) is None
    second = job("s-1", gpus=1)
    assert one.lease([second]) is second
    time.sleep(0.25)
    assert two.lease([group]) is None
    assert one.lease([job("s-2", gpus=1)]) is None
    assert one.lease([cpu := job("c-0", cpus=1)]) is cpu
    one.release(first)
    one.release(second)
    one.flush()
    assert two.lease([group]) is group
    assert two.gpus(group) == ("0", "1", "2")


def test_an_aged_group_of_one_dispatcher_is_not_overtaken_by_its_own_small_ones(dispatcher):
    one = dispatcher(patience=0.1)
    first, group = job("s-0", gpus=1), job("g-0", gpus=3)
    assert one.lease([first]) is first
    assert one.lease([group, job("s-1", gpus=1)]).run.id.endswith("s-1")
    time.sleep(0.15)
    assert one.lease([group, job("s-2", gpus=1)]) is None


def test_who_waits_and_looks_no_more_holds_nobody_back(dispatcher, monkeypatch):
    one, two = dispatcher(), dispatcher()
    first = job("a-0", cpus=4)
    assert one.lease([first]) is first
    assert two.lease([job("b-0", cpus=4)]) is None
    one.release(first)
    assert one.lease([job("a-1", cpus=4)]) is None
    monkeypatch.setattr("lightex.dispatcher.book.SILENCE", 0.0)
    assert one.lease([job("a-2", cpus=4)]) is not None


def test_leases_of_the_dead_are_freed_and_those_of_jobs_that_live_on_are_not(dispatcher, book):
    child = subprocess.Popen(["sleep", "60"])
    try:
        program = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3])\n"
            "from tests.dispatcher.test_leases import *\n"
            "held = Leases(Capacity(4, 100, tuple), Book(Path(sys.argv[1])))\n"
            "a, b = job('d-0', cpus=1), job('d-1', cpus=2)\n"
            "assert held.lease([a]) and held.lease([b])\n"
            "pid = int(sys.argv[2]); held.started(b, f'{pid}:{birth_mark(pid)}'); held.flush()\n"
        )
        arguments = [sys.executable, "-c", program, str(book.path), str(child.pid), os.getcwd()]
        subprocess.run(arguments, check=True, timeout=30)
        assert [entry.cpus for entry in book.read().leases] == [2]
        one = dispatcher()
        assert one.lease([job("n-0", cpus=3)]) is None
        child.kill()
        child.wait()
        assert one.lease([job("n-0", cpus=3)]) is not None
    finally:
        child.kill()
        child.wait()


def test_a_book_that_was_removed_or_spoilt_is_written_anew(dispatcher, book):
    one = dispatcher()
    first = job("a-0", cpus=1)
    one.lease([first])
    book.path.write_text('{"leases": [{"run"')
    one.lease([job("a-1", cpus=1)])
    assert len(book.read().leases) == 2
    book.path.unlink()
    one.release(first)
    one.flush()
    assert len(book.read().leases) == 1
    assert book.path.stat().st_mode & 0o777 == 0o666


def test_a_book_that_cannot_be_opened_says_what_to_do(tmp_path):
    (tmp_path / "book").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="LX_LEASES"), Book(tmp_path / "book").open():
        pass
