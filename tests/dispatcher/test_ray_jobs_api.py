"""Jobs of Ray's Jobs API: what becomes of their output. Its server is not needed for that."""

import asyncio
import errno
from types import SimpleNamespace

import pytest

from lightex.core import journal
from lightex.dispatcher.engines.rayside.jobs_api import JobsApi


@pytest.fixture
def ended(tmp_path):
    """A job that has ended, as the API tells of it."""
    return SimpleNamespace(
        status=SimpleNamespace(value="SUCCEEDED"), message="", driver_node_id="n", start_time=1, end_time=2,
        metadata={"lightex.run": str(tmp_path), "lightex.attempt": "2"}, entrypoint="e", submission_id="a",
    )  # fmt: skip


def state_after_a_look(job):
    async def look():
        api = JobsApi("http://127.0.0.1:1", lambda _: None)
        api._client = SimpleNamespace(get_job_logs=lambda _: "hello\n")
        api.expect(["a"])
        await api._look("a", job)
        api.close()
        return api.states["a"]

    return asyncio.run(look())


def test_output_is_brought_once_though_several_brokers_look(ended, tmp_path):
    (tmp_path / "output.log").write_text("before\n")
    assert [state_after_a_look(ended)["state"] for _ in range(3)] == ["SUCCEEDED"] * 3
    assert (tmp_path / "output.log").read_text() == "before\n--- attempt 2 ---\nhello\n"


def test_an_end_is_told_when_there_is_room_for_its_output(ended, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_whole", full)
        waits = state_after_a_look(ended)
    assert waits["state"] == "SUBMITTED"
    assert waits["reason"] == "it has ended, its output cannot be written here: No space left on device"
    assert state_after_a_look(ended)["state"] == "SUCCEEDED"
    assert "hello" in (tmp_path / "output.log").read_text()
