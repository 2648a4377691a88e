"""Run directories: whole or not at all, refused when of a newer format."""

import subprocess
import sys

import pytest

from lightex.core.errors import NewerFormatError, StorageError
from lightex.core.rundir import RunDir, short


def test_a_run_has_its_identity_config_and_first_event(run_dir):
    assert run_dir.identity["format"] == 1
    assert run_dir.config == {"hp": {"lr": 0.1}}
    assert [event["state"] for event in run_dir.events()] == ["QUEUED"]
    assert sorted(path.name for path in run_dir.path.iterdir()) == ["config.json", "events.jsonl", "run.json"]


def test_a_failure_while_it_is_made_leaves_nothing(tmp_path):
    def fails(_run):
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="free some space"):
        RunDir.create(tmp_path / "x" / "id", {}, {}, {"state": "QUEUED"}, fails)
    assert list((tmp_path / "x").iterdir()) == []


def test_what_a_killed_dispatcher_left_half_made_is_made_anew(tmp_path):
    half = tmp_path / "x" / ".id.part"
    half.mkdir(parents=True)
    (half / "run.json").write_text("{")
    made = RunDir.create(tmp_path / "x" / "id", {"id": "id"}, {}, {"state": "QUEUED"})
    assert RunDir(made.path).identity == {"format": 1, "id": "id"}
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["id"]


def test_a_newer_format_is_refused(run_dir):
    path = run_dir.path / "run.json"
    path.write_text('{"format": 99}')
    with pytest.raises(NewerFormatError, match="update LightEx"):
        _ = RunDir(run_dir.path).identity
    path.write_text('{"format": ')
    with pytest.raises(StorageError, match=r"run.json is broken: line 1, column"):
        _ = RunDir(run_dir.path).identity


def test_last_output_holds_nothing_that_a_terminal_obeys(run_dir):
    run_dir.output_file.write_text("\x1b[32mgreen\x1b[0m\n\x1b]0;title\x07\x1b[2J\x1b[Hgone\x08\n\x1b7\n\tend\n")
    assert run_dir.last_output() == ["green", "gone", "\tend"]


def test_last_output_shows_a_progress_bar_as_it_last_stood(run_dir):
    run_dir.output_file.write_bytes(b"start\n10%\r20%\r30%\nend\n")
    assert run_dir.last_output() == ["start", "30%", "end"]


def test_short_ids():
    assert short("261123-174613-3f9a-007") == "3f9a-007"


def test_what_several_note_at_once_is_all_kept(run_dir):
    program = "import sys; from lightex.core.rundir import RunDir; run = RunDir(sys.argv[1])\n"
    program += "for n in range(50): run.note(tags={f'{sys.argv[2]}.{n}': 'x'})"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(run_dir.path), str(n)]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(run_dir.notes["tags"]) == 200


def test_a_run_whose_events_were_lost_counts_as_queued_and_one_that_is_gone_does_not(run_dir):
    run_dir.events_file.write_bytes(b"")  # power went before the disk had them
    assert run_dir.last_event == {"state": "QUEUED"}
    run_dir.remove()
    with pytest.raises(StorageError, match="is gone"):
        _ = run_dir.last_event
