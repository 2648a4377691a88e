"""Where what can be deleted is kept."""

import os
import subprocess
from pathlib import Path

import pytest

from lightex.core import cache


def test_the_folder_is_that_of_lightex_of_the_desktop_or_of_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder() == tmp_path / ".cache" / "lightex"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_folder() == Path("/xdg/lightex")
    monkeypatch.setenv("LX_CACHE", "/own")
    assert cache.cache_folder() == Path("/own")


def test_the_file_system_of_a_folder_is_known_also_where_its_name_has_spaces(tmp_path):
    folder = tmp_path / "a b\tü"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        (folder / "inside").mkdir()
        assert cache._kind(folder / "inside" / "not there yet") == "tmpfs"
        assert cache._kind(tmp_path) == cache._kind(tmp_path.parent)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_folder_on_a_file_server_is_left_for_one_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    assert cache.local_folder() == tmp_path / "cache"
    monkeypatch.setattr(cache, "_REMOTE", {cache._kind(tmp_path)})  # as if it were one
    own = cache.local_folder()
    assert own == Path(f"/var/tmp/lightex-{os.getuid()}")
    assert own.stat().st_mode & 0o777 == 0o700
