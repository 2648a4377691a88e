"""Configs in YAML, TOML and JSON."""

import pytest

from lightex.core.errors import ConfigError, NotFoundError
from lightex.core.taxonomy import Experiment
from lightex.namedconf.layers import sources
from lightex.namedconf.registry import Registry
from lightex.namedconf.resolve import expand
from lightex.namedconf.sweep import Sweep


def registry(folder):
    return Registry.load(folder, Experiment)


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


def test_a_file_extends_a_named_python_config_with_sources_by_line(project):
    name = write(project, "fast.yaml", "extends: base\nhp:\n  lr: 1e-1\n  model: {type: MLP, width: 3}\n")
    named = registry(project).get(name)
    assert named.name == "fast"
    assert named.value.hp.lr == 0.1
    assert named.value.hp.model.width == 3
    found = sources(named.value, named.source)
    assert str(found["hp.lr"]) == "fast.yaml:3"
    assert str(found["hp.model.width"]) == "fast.yaml:4"
    assert str(found["hp.epochs"]).startswith("default lxconfig.py:")


def test_a_file_extends_a_file_and_sweeps(project):
    write(
        project, "one.toml", 'name = "one"\ncommand = "run {{ hp.lr }}"\n[hp]\nlr = 0.1\nn = 1\n[hp.model]\ndepth = 2\n'
    )
    name = write(project, "two.json", '{"extends": "one.toml", "hp.model.depth": 5, "sweep": {"hp.lr": [0.5, 1.5]}}')
    value = registry(project).get(name).value
    assert isinstance(value, Sweep)
    assert [(p.config.hp.lr, p.config.hp.model.depth, p.config.name) for p in value] == [
        (0.5, 5, "one"),
        (1.5, 5, "one"),
    ]


@pytest.mark.parametrize(
    ("section", "count"),
    [
        ("{hp.lr: [1.0, 2.0], hp.n: [1, 2]}", 4),
        ("{zip: {hp.lr: [1.0, 2.0], hp.n: [1, 2]}}", 2),
        ("[{hp.lr: 3.0}, {hp.n: 5}, {hp.n: 6}]", 3),
        ("{sample: {n: 5, seed: 1, hp.lr: {loguniform: [1e-5, 1e-1]}, hp.n: [1, 2]}}", 5),
        ("{hp.n: [1, 2], sample: {n: 2, hp.lr: {uniform: [0, 1]}}}", 4),
    ],
)
def test_sections_that_sweep(tmp_path, section, count):
    write(tmp_path, "x.yaml", f"command: run\nhp: {{lr: 0.1, n: 1}}\nsweep: {section}\n")
    found = registry(tmp_path)
    expansion = expand(found.get(str(tmp_path / "x.yaml")), (), found.values())
    assert len(list(expansion.points)) == count == len(expansion.points)


def test_names_in_lxconfig_yaml(tmp_path):
    write(tmp_path, "lxconfig.yaml", "base:\n  command: run\n  hp: {lr: 0.1}\nlong: {extends: base, hp: {lr: 0.5}}\n"
                                     "grid: {extends: long, sweep: {hp.lr: [1.0, 2.0]}}\n")  # fmt: skip
    found = registry(tmp_path)
    assert [(n.name, n.kind) for n in found.names()] == [("base", "config"), ("long", "config"), ("grid", "sweep")]
    assert found.get("long").value.hp.lr == 0.5
    assert found.get("long").value.name == "base"


def test_values_in_a_file_are_the_types_of_its_fields(tmp_path):
    write(tmp_path, "x.yaml", "command: run\nhp: {lr: 0.1, n: 1, names: [a], none: null, off: no}\n")
    found = registry(tmp_path)
    named = found.get(str(tmp_path / "x.yaml"))
    assert named.value.hp.off == "no"
    for bad in ("hp.n=fast", "hp.lr=x", "hp.names=[1]", "hp.lrr=1"):
        with pytest.raises(ConfigError):
            expand(named, [bad], found.values())
    assert expand(named, ["hp.none=3", "hp.names=[b,c]"], found.values()).base.hp.names == ["b", "c"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "a: [1\nb: 2", "x.yaml:2:2: expected ',' or ']', but got ':'"),
        ("x.toml", "a = \n", "x.toml does not parse: Invalid value (at line 1, column 5)"),
        ("x.json", '{"a": }', "x.json:1:7: unexpected character, expected a JSON value"),
        ("x.yaml", 'command: "a\x07"', "x.yaml does not parse: unacceptable character"),
        ("x.yaml", "- 1", "x.yaml must hold a mapping (name: ..., command: ...), it holds list"),
        ("x.yaml", "comand: run", "there is no field 'comand'. Did you mean 'command'?"),
        ("x.yaml", "extends: base\nhp: {lrr: 1}", "hp has no field 'lrr'. Did you mean 'hp.lr'?"),
        ("x.yaml", "extends: base\nhp: {lr: fast}", "hp.lr must be a float, got 'fast' (x.yaml:2)"),
        ("x.yaml", "extends: x.yaml", "configs extend each other in a circle: x.yaml -> x.yaml"),
        ("x.yaml", "extends: base\nsweep: {hp.lr: 3}", "hp.lr: the values of a sweep are a list, got 3"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(project, name, text, message):
    write(project, name, text)
    with pytest.raises(ConfigError) as caught:
        registry(project).get(name)
    assert caught.value.message.startswith(message)


def test_what_does_not_exist_names_the_nearest(project):
    with pytest.raises(NotFoundError, match=r"no config named 'gird'. Did you mean 'grid'\?"):
        registry(project).get("gird")
    with pytest.raises(NotFoundError, match=r"no such config file: none.yaml"):
        registry(project).get("none.yaml")


def test_a_folder_without_lxconfig_says_lx_init(tmp_path):
    with pytest.raises(NotFoundError, match="lx init"):
        registry(tmp_path).get("base")


@pytest.mark.parametrize(
    ("text", "message", "detail"),
    [
        ("x = 1\nraise ValueError('no')\n", "lxconfig.py:2: ValueError: no", "raise ValueError('no')"),
        ("x = (\n", "lxconfig.py:1:5: '(' was never closed", "x = ("),
        ("import sys\nsys.exit(3)\n", "lxconfig.py:2: SystemExit: 3", "sys.exit(3)"),
        ("from lightex import sweep\nsweep(3, {})\n", "sweep starts from a config or a sweep, got int",
         "at lxconfig.py:2: sweep(3, {})"),
    ],
)  # fmt: skip
def test_lxconfig_that_raises_shows_the_users_own_line(project, text, message, detail):
    (project / "lxconfig.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        registry(project)
    assert (caught.value.message, caught.value.details[0]) == (message, detail)
