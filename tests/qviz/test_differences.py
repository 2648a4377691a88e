"""In what runs differ beside their parameters."""

from lightex.core.rundir import RunDir
from lightex.qviz.differences import differences
from tests.helpers import make_run


def test_settings_environments_and_code_that_differ_are_told(tmp_path):
    runs = [make_run(tmp_path, f"s-{n}", {"lr": n}, config={"name": f"n{n}", "resources": {"cpus": n, "gpus": 0},
                                                           "command": ["x"], "env": {}}) for n in range(3)]  # fmt: skip
    for place, run in enumerate(runs):
        run.environment = {
            "python": "3.12.1",
            "packages": {"torch": f"2.{place}", "numpy": "2.0"} | ({"x": "1"} if place else {}),
        }
    runs[0].append_event({"time": 1.0, "code": "aaa"})
    (runs[0].path / "code.aaa.tar.gz").write_bytes(b"")
    found = differences(runs)
    assert found.config == {"resources.cpus": [0, 1, 2]}
    assert found.environment == {"packages.torch": ["2.0", "2.1", "2.2"], "packages.x": [None, "1", "1"]}
    assert found.code == {"aaa": [runs[0]], None: [runs[1], runs[2]]}


def test_where_one_run_did_not_say_what_it_ran_in_nothing_is_said_of_it(tmp_path):
    runs = [make_run(tmp_path, f"s-{n}") for n in range(2)]
    runs[0].environment = {"python": "3.12.1"}
    assert differences(runs).environment == {}


def test_what_is_broken_of_a_run_counts_as_missing(tmp_path):
    runs = [make_run(tmp_path, f"s-{n}", config={"a": 1}) for n in range(2)]
    (runs[0].path / "config.json").write_text("{")
    (runs[0].path / "environment.json").write_text("[]")
    (runs[0].path / "events.jsonl").write_bytes(b"\xff\n[]\n")
    runs = [RunDir(run.path) for run in runs]
    found = differences(runs)
    assert found.config == {"a": [None, 1]}
    assert found.code == {None: runs}
    assert differences([]).config == {}
