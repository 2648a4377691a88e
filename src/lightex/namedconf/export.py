"""A config for other programs: JSON, YAML, TOML, environment variables, command-line flags."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError
from lightex.core.journal import jsonable
from lightex.core.naming import flatten

Tree = Mapping[str, Any]


def environment(tree: Tree, prefix: str = "LX_") -> dict[str, str]:
    """A variable per value: hp.model.depth -> LX_HP_MODEL_DEPTH.

    Booleans are `true` and `false`, none is the empty text, lists and mappings without keys are JSON.

    Raises:
        ConfigError: two values would have the same variable.
    """
    found: dict[str, str] = {}
    paths: dict[str, str] = {}
    for path, value in flatten(jsonable(dict(tree))).items():
        name = prefix + "".join(letter if letter.isalnum() else "_" for letter in path).upper()
        if name in found:
            raise ConfigError(f"{paths[name]} and {path} would both be the variable {name}", "rename one of them")
        found[name], paths[name] = text_of(value), path
    return found


def flags(tree: Tree) -> list[str]:
    """Flags as argparse takes them: `--lr 0.1 --model.depth 4`.

    True is `--name`, false is `--no-name` (argparse.BooleanOptionalAction), none is left out, a list is one flag with
    its values behind it.
    """
    arguments: list[str] = []
    for path, value in flatten(jsonable(dict(tree))).items():
        if isinstance(value, bool):
            arguments.append(f"--{path}" if value else f"--no-{path}")
        elif isinstance(value, list):
            arguments += [f"--{path}", *map(text_of, value)]
        elif value is not None:
            arguments += [f"--{path}", text_of(value)]
    return arguments


def text_of(value: Any) -> str:
    """A value as one argument or variable."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return jsonlib.dumps(value).decode()
    return str(value)


def _json(tree: Tree) -> str:
    return jsonlib.dumps(jsonable(dict(tree)), option=jsonlib.OPT_INDENT_2).decode()


def _yaml(tree: Tree) -> str:
    from ruamel.yaml import YAML

    writer, out = YAML(typ="safe", pure=True), StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(dict(tree), out)
    return out.getvalue().rstrip()


def _toml(tree: Tree) -> str:
    import tomli_w

    return tomli_w.dumps(_without_none(dict(tree))).rstrip()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


FORMATS: dict[str, Callable[[Tree], str]] = {
    "yaml": _yaml,
    "json": _json,
    "toml": _toml,
    "env": lambda tree: "\n".join(f"{name}={shlex.quote(value)}" for name, value in environment(tree).items()),
    "flags": lambda tree: shlex.join(flags(tree)),
}
"""How to write a config. TOML has no word for none: such values are left out of it."""
