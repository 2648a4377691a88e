"""What this machine has to share out."""

import pytest

from lightex.dispatcher import capacity, cgroups
from lightex.dispatcher.capacity import this_machine


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({"own/memory.max": "max", "memory.max": "64000"}, None, 64000),
        ({"own/memory.max": "32000", "memory.max": "64000"}, None, 32000),
        ({"own/memory.limit_in_bytes": "9223372036854771712", "memory.limit_in_bytes": "64000"}, None, 64000),
        ({"own/cpu.max": "max 100000", "cpu.max": "50000 100000"}, 0.5, None),
        ({"own/cpu.cfs_quota_us": "25000", "own/cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"}, 0.25, None),
        ({"own/cpu.cfs_quota_us": "-1", "own/cpu.cfs_period_us": "100000"}, None, None),
    ],
)
def test_the_limits_of_all_groups_above_this_process_hold(tmp_path, monkeypatch, files, cpus, memory):
    monkeypatch.setattr(capacity, "own_folders", lambda _: [])
    whole = this_machine()
    monkeypatch.setattr(capacity, "own_folders", lambda _: [tmp_path / "own", tmp_path])
    (tmp_path / "own").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    found = this_machine()
    assert (found.cpus, found.memory) == (cpus or whole.cpus, memory or whole.memory)


def test_the_groups_of_this_process_are_folders_from_its_own_to_the_mount():
    mount, _ = cgroups.mount_of("memory")
    if mount is None:
        pytest.skip("no memory controller here")
    folders = cgroups.own_folders("memory")
    assert folders[-1] == mount
    assert all(folder.is_dir() for folder in folders)
