"""What waits, in its order."""

import time

import pytest

from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Resources
from lightex.dispatcher.backlog import Backlog
from lightex.dispatcher.job import Job


@pytest.fixture
def job(tmp_path):
    def make(number, **options):
        run = RunDir(tmp_path / "demo" / f"261124-101010-abcd-{number:03d}")
        return Job(run=run, command=(), env={}, cwd=tmp_path, **{"resources": Resources(), **options})

    return make


def drain(backlog):
    order = []
    while heads := backlog.heads():
        backlog.take(heads[0])
        order.append(int(heads[0].run.id[-3:]))
    return order


def test_the_order_is_that_of_priority_then_of_coming(job):
    jobs = [job(0), job(1, priority=2), job(2, resources=Resources(cpus=2)), job(3, priority=2), job(4, priority=-1)]
    assert drain(Backlog(jobs)) == [1, 3, 0, 2, 4]


def test_of_each_line_only_the_first_may_start(job):
    backlog = Backlog([job(0), job(1), job(2, resources=Resources(cpus=2))])
    assert [head.run.id[-1] for head in backlog.heads()] == ["0", "2"]
    with pytest.raises(ValueError, match="not the first"):
        backlog.take(job(1))


def test_a_pause_is_waited_for(job):
    backlog = Backlog([])
    backlog.add(job(0), pause=0.1)
    assert backlog.heads() == []
    assert len(backlog) == 1
    assert backlog.waits_for(job(0).run.id) == "its retry, in 0 s"
    time.sleep(0.11)
    assert drain(backlog) == [0]


def test_what_depends_on_runs_starts_when_all_have_succeeded(job):
    first, second = job(0), job(1)
    last = job(2, after=(first.run.path, second.run.path))
    backlog = Backlog([last, first, second])
    assert drain(backlog) == [0, 1]
    assert backlog.waits_for(last.run.id) == "abcd-000 and 1 more runs, which it depends on"
    assert backlog.settle(first.run, "SUCCEEDED") == []
    assert drain(backlog) == []
    assert backlog.settle(second.run, "SUCCEEDED") == []
    assert drain(backlog) == [2]


def test_what_depends_on_a_failure_never_starts(job):
    first = job(0)
    last = job(1, after=(first.run.path,))
    backlog = Backlog([first, last])
    assert backlog.settle(first.run, "FAILED") == [(last, "abcd-000, which it depends on, is FAILED")]
    assert len(backlog) == 1


def test_runs_of_other_sweeps_are_looked_at(job, tmp_path):
    other = RunDir.create(tmp_path / "demo" / "261124-101010-zzzz-000", {}, {}, {"state": "RUNNING"})
    last = job(0, after=(other.path,))
    backlog = Backlog([last])
    assert backlog.look() == []
    other.append_event({"state": "SUCCEEDED"})
    assert backlog.look() == []  # not yet again
    backlog._looked = 0.0
    assert backlog.look() == []
    assert drain(backlog) == [0]


def test_what_is_removed_is_gone_wherever_it_waits(job):
    first = job(0)
    backlog = Backlog([first, job(1, after=(first.run.path,)), job(3)])
    backlog.add(job(2), pause=100)
    gone = backlog.remove(lambda job: job.run.id[-1] in "012")
    assert sorted(job.run.id[-1] for job in gone) == ["0", "1", "2"]
    assert [job.run.id[-1] for job in backlog] == ["3"]
    assert drain(backlog) == [3]


def test_priorities_may_change_while_jobs_wait(job):
    backlog = Backlog([job(0), job(1), job(2), job(3, priority=5)])
    backlog.add(job(4), pause=0.01)
    changed = backlog.prioritize(lambda each: each.run.id[-1] in "124", 5)
    assert [each.run.id[-1] for each in changed] == ["1", "2", "4"]
    assert backlog.prioritize(lambda each: each.run.id[-1] in "12", 5) == []
    time.sleep(0.02)
    assert drain(backlog) == [1, 2, 3, 4, 0]


def test_what_is_queued_again_after_what_it_depends_on_has_failed_is_hopeless(job):
    first = job(0)
    second = job(1, after=(first.run.path,))
    backlog = Backlog([first, second])
    backlog.take(first)
    assert [each.run.id for each, _ in backlog.settle(first.run, "FAILED")] == [second.run.id]
    backlog.add(second)
    ((gone, why),) = backlog.look()
    assert (gone.run.id, len(backlog)) == (second.run.id, 0)
    assert why.endswith("is FAILED")
