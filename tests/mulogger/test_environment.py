"""What a run's program runs in."""

import re
from importlib import metadata
from platform import python_version

from lightex.mulogger.environment import environment


def test_packages_have_the_versions_that_their_metadata_say(monkeypatch, tmp_path):
    (tmp_path / "shadowed-1.0.dist-info").mkdir()
    (tmp_path / "a.zip").write_text("")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "shadowed-2.0.dist-info").mkdir()
    (tmp_path / "b" / "Old_Style-3.1-py3.12.egg-info").mkdir()
    found = environment()["packages"]
    for each in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        if name in found:
            assert found[name] == each.version, name
    assert {"pytest", "numpy", "duckdb"} <= set(found)
    monkeypatch.setattr(
        "sys.path", [str(tmp_path), str(tmp_path / "a.zip"), str(tmp_path / "b"), str(tmp_path / "gone")]
    )
    said = environment()
    assert said["packages"] == {"old-style": "3.1", "shadowed": "1.0"}
    assert said["python"] == python_version()
