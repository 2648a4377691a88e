"""Names with overrides, and fingerprints."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from lightex.core.errors import ConfigError
from lightex.core.taxonomy import Experiment
from lightex.namedconf.export import FORMATS, environment
from lightex.namedconf.fingerprint import diff, fingerprint
from lightex.namedconf.registry import Registry
from lightex.namedconf.resolve import expand
from lightex.namedconf.tree import to_tree


@pytest.fixture
def registry(project):
    return Registry.load(project, Experiment)


def test_the_command_line_takes_the_place_of_what_a_sweep_varies(registry):
    found = expand(registry.get("grid"), ["hp.lr=0.5", "hp.epochs=1,2"], registry.values())
    assert [(p.config.hp.lr, p.config.hp.epochs) for p in found.points] == [(0.5, 1), (0.5, 2)]
    assert [axis.paths for axis in found.axes] == [("hp.epochs",)]


def test_a_named_part_swaps_a_sub_config(registry):
    assert expand(registry.get("base"), ["hp.model=tiny"], registry.values()).base.hp.model.width == 2


def test_a_config_that_python_let_pass_is_checked_with_its_place(project):
    (project / "lxconfig.py").write_text(
        "from dataclasses import dataclass\nfrom lightex import Experiment\n@dataclass\nclass HP:\n    lr: float = 1.0\n"
        "base = Experiment(name='x', command='run', hp=HP(lr='fast'))\n"
    )
    registry = Registry.load(project, Experiment)
    with pytest.raises(ConfigError, match=r"hp.lr must be a float, got 'fast' \(lxconfig.py:6\)"):
        expand(registry.get("base"), (), registry.values())


@dataclass(frozen=True)
class Inner:
    b: float = 0.5
    a: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    where: str = field(default="here", metadata={"result": False})


def test_the_fingerprint_is_this_one_for_ever():
    assert fingerprint(Outer()) == "49694af949d4831d" == fingerprint(Outer(where="there"))
    assert fingerprint(Outer(Inner(a=2))) != fingerprint(Outer())


def test_the_fingerprint_can_be_computed_elsewhere():
    program = (
        "import hashlib, json; d = json.dumps({'inner': {'b': 0.5, 'a': 1}}, sort_keys=True, separators=(',', ':'));"
        "print(hashlib.blake2b(d.encode(), digest_size=8).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(Outer())


def test_where_a_run_happens_is_not_in_the_fingerprint(registry):
    base = expand(registry.get("base"), (), registry.values()).base
    for change in ("resources.cpus=0.25", "timeout=1h", "tags={a: b}"):
        assert fingerprint(expand(registry.get("base"), [change], registry.values()).base) == fingerprint(base)
    assert fingerprint(expand(registry.get("long"), (), registry.values()).base) != fingerprint(base)


def test_diff_names_paths_and_both_values():
    assert diff(to_tree(Outer()), to_tree(Outer(Inner(a=2)))) == {"inner.a": (1, 2)}


def test_exports():
    tree = {"hp": {"lr": 0.1, "on": True, "none": None, "names": ["a b"], "inf": float("inf")}}
    assert FORMATS["yaml"](tree).splitlines()[:2] == ["hp:", "  lr: 0.1"]
    assert FORMATS["toml"]({"a": {"b": None, "c": 1}}) == "[a]\nc = 1"
    assert FORMATS["flags"](tree["hp"]) == "--lr 0.1 --on --names 'a b' --inf Infinity"
    assert FORMATS["env"](tree).splitlines()[3] == "LX_HP_NAMES='[\"a b\"]'"
    assert environment(tree)["LX_HP_INF"] == "Infinity"
    with pytest.raises(ConfigError, match=r"a.b and a_b would both be the variable LX_A_B"):
        environment({"a": {"b": 1}, "a_b": 2})
