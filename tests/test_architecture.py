"""Who imports whom, what a start costs, and that what is documented is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lightex
from lightex.cli import COMMANDS

SOURCE = Path(lightex.__file__).parent


def loaded_by(code):
    program = (
        f"import sys, json\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(json.dumps(sorted(sys.modules)))"
    )
    # measured coverage would import its own modules into the process
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain)
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"pydantic", "jinja2", "rich", "ruamel", "orjson", "psutil", "sqlite3", "asyncio", "pynvml", "textual"}


def test_help_imports_click_and_nothing_of_ours_but_the_group():
    loaded = loaded_by("from lightex.cli import main; main(['--help'])")
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith("lightex.")} == {"lightex.cli"}


def test_a_training_that_logs_imports_no_config_library():
    loaded = loaded_by("import lightex; lightex.start_run")
    assert loaded & (HEAVY - {"orjson"}) == set()


def test_listing_runs_imports_no_config_library():
    assert loaded_by("import lightex.cli.ls") & (HEAVY - {"orjson"}) == set()


def test_lx_top_loads_its_screen_only_where_there_is_a_terminal():
    assert loaded_by("import lightex.cli.top") & (HEAVY - {"orjson"}) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, lx):
    done = lx(name, "--help")
    assert done.code == 0
    assert len(done.out.splitlines()) > 4


def test_every_public_name_is_there():
    for name in lightex.__all__:
        assert getattr(lightex, name) is not None
    with pytest.raises(AttributeError):
        _ = lightex.nothing


def test_arrows_only_point_down():
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=SOURCE.parents[1], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_no_engine_is_named_in_the_core():
    words = ("docker", "swarm", "kubernetes", "slurm", "ray")
    for folder in ("core", "namedconf", "mulogger", "qviz"):
        for path in (SOURCE / folder).rglob("*.py"):
            code = path.read_text().lower().split()
            assert not [word for word in words if word in code], path
