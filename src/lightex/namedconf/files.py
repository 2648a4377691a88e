"""Configs in YAML, TOML and JSON: of their own, or extending others."""

from __future__ import annotations

import dataclasses
import inspect
import keyword
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, did_you_mean
from lightex.namedconf.classes import is_config, members, shown_path, slots, tags
from lightex.namedconf.layers import Source, change, locate, remember
from lightex.namedconf.quick import parse
from lightex.namedconf.search import Search, search
from lightex.namedconf.space import integers, loguniform, uniform
from lightex.namedconf.sweep import NOTHING, Points, Sweep, grid, points, sample, sweep, zipped

if TYPE_CHECKING:
    from lightex.namedconf.registry import Named, Registry

_DISTRIBUTIONS = {"uniform": uniform, "loguniform": loguniform, "integers": integers}


def names_in(file: Path) -> list[str]:
    """The names in a file that holds several configs.

    Raises:
        ConfigError: it does not parse, or is no mapping of names to configs.
    """
    data, _ = read(file)
    for name, value in data.items():
        if not isinstance(value, dict):
            raise ConfigError(f"{shown_path(file)}: '{name}' must be a config (a mapping), got {value!r}",
                              "this file holds named configs: base: {name: ..., command: ...}")  # fmt: skip
    return list(data)


def load(file: Path, name: str | None, registry: Registry, stack: tuple[str, ...] = ()) -> Named:
    """The config or the sweep that a file holds under a name, or (None) the one that the whole file is.

    Raises:
        ConfigError: it does not parse, extends itself, or is not valid.
        NotFoundError: what it extends does not exist.
    """
    from lightex.namedconf.registry import Named, kind_of

    mark = f"{shown_path(file)}:{name}" if name else shown_path(file)
    if mark in stack:
        circle = " -> ".join((*stack[stack.index(mark) :], mark))
        raise ConfigError(f"configs extend each other in a circle: {circle}", "take one 'extends' out")
    data, lines = read(file)
    prefix: tuple[str, ...] = (name,) if name else ()
    body = dict(data[name] if name else data)
    own = Source("file", _at(file, lines, prefix))
    varied, searched, parent = body.pop("sweep", None), body.pop("search", None), body.pop("extends", None)
    if parent is None:
        value = _whole(body, registry.root_class, own, name or file.stem)
        remember(value, {path: Source("file", _at(file, lines, (*prefix, *path.split(".")))) for path in _paths(body)})
    else:
        base = registry.get(str(parent), (*stack, mark), file.parent).value
        if not isinstance(base, (registry.root_class, Sweep, Search)):
            raise ConfigError(f"{mark} extends {parent}, which is not a config")

        def changed(config: Any) -> Any:
            return _apply(config, body, prefix, file, lines)

        value = base.on(changed) if isinstance(base, (Sweep, Search)) else changed(base)
    if varied is not None:
        around = _points(varied, mark).sourced(Source("sweep", _at(file, lines, (*prefix, "sweep"))))
        value = sweep(value, around)
    if searched is not None:
        value = _search(value, searched, mark)
    return Named(name or file.stem, value, kind_of(value, registry.root_class), own, name or str(file.resolve()))


def read(file: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """What a file holds, and the line of each key (YAML and JSON; TOML's reader tells none).

    Raises:
        ConfigError: it does not parse (line and column), or holds no mapping.
    """
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(file: Path, _modified: int) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    shown, lines = shown_path(file), dict[tuple[str, ...], int]()
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            data: Any = tomllib.loads(text)
        elif file.suffix == ".json":
            data = jsonlib.loads(text)
            _, lines = _yaml(text, shown)
        else:
            data, lines = _yaml(text, shown)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{shown} does not parse: {error}") from None
    except jsonlib.JSONDecodeError as error:
        raise ConfigError(f"{shown}:{error.lineno}:{error.colno}: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {shown}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{shown} must hold a mapping (name: ..., command: ...), it holds {type(data).__name__}")
    return data, lines


def _yaml(text: str, shown: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    lines: dict[tuple[str, ...], int] = {}

    def walk(node: Any, at: tuple[str, ...]) -> None:
        lines[at] = node.start_mark.line + 1
        for key, value in node.value if isinstance(node.value, list) and node.id == "mapping" else ():
            walk(value, (*at, str(key.value)))
            lines[(*at, str(key.value))] = key.start_mark.line + 1

    try:
        data = YAML(typ="safe", pure=True).load(text)
        if node := YAML(typ="safe", pure=True).compose(text):
            walk(node, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{shown}:{mark.line + 1}:{mark.column + 1}: {error.problem or error.context}") from None
    except YAMLError as error:  # a character that YAML has not
        raise ConfigError(f"{shown} does not parse: {error}") from None
    return data, lines


def _at(file: Path, lines: Mapping[tuple[str, ...], int], at: tuple[str, ...]) -> str:
    line = next((lines[at[:end]] for end in range(len(at), -1, -1) if at[:end] in lines), None)
    return f"{shown_path(file)}:{line}" if line else shown_path(file)


def _apply(config: Any, body: Mapping[str, Any], at: tuple[str, ...], file: Path, lines: Any, path: str = "") -> Any:
    """Put a file's values into a config, each with the line that it stands on."""
    for key, value in body.items():
        here, source = f"{path}.{key}" if path else str(key), Source("file", _at(file, lines, (*at, str(key))))
        if isinstance(value, dict):
            kind, node, _ = locate(config, here, value, source)
            classes = members(kind)
            if is_config(node) and not (len(classes) > 1 and tags(classes)[0] in value):
                config = _apply(config, value, (*at, str(key)), file, lines, here)
                continue
        config = change(config, {here: value}, source)
    return config


def _whole(body: dict[str, Any], root_class: type, own: Source, name: str) -> Any:
    """A config that extends nothing: its open fields become dataclasses whose types are those of the values."""
    known, values = slots(root_class), {}
    for key, value in body.items():
        if key not in known:
            raise ConfigError(
                f"there is no field '{key}'.{did_you_mean(key, known)}", f"given in {own.where}",
                f"fields of {root_class.__name__}: extends, sweep, search, {', '.join(known)}",
            )  # fmt: skip
        slot = known[key]
        if slot.is_open and isinstance(value, dict):
            values[key] = _infer(key, value, own)
        else:
            values[key] = parse(slot.type, value, key, own.where, root_class)
    missing = [slot.name for slot in known.values() if slot.required and slot.name not in values]
    if "name" in missing:
        values["name"] = name
        missing.remove("name")
    if missing:
        raise ConfigError(f"{own.where}: {', '.join(missing)} is missing")
    return root_class(**values)


def _infer(name: str, data: Mapping[str, Any], own: Source) -> Any:
    fields: list[Any] = []
    values = {}
    for key, value in data.items():
        if not str(key).isidentifier() or keyword.iskeyword(str(key)):
            raise ConfigError(f"{name}: '{key}' cannot name a field ({own.where})", "use letters, digits and '_'")
        nested = _infer(str(key), value, own) if isinstance(value, dict) and value else value
        kind: Any = type(nested) if nested is not None else Any
        if isinstance(value, list):
            kinds = {type(item) for item in value}
            plain = len(kinds) == 1 and kinds <= {bool, int, float, str}
            kind = list.__class_getitem__(kinds.pop() if plain else Any)
        fields.append((str(key), kind))
        values[str(key)] = nested
    cls = dataclasses.make_dataclass(name, fields, frozen=True, namespace={"__source__": own.where})
    return cls(**values)


def _paths(body: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in body.items():
        here = f"{prefix}{key}"
        found += _paths(value, f"{here}.") if isinstance(value, dict) and value else [here]
    return found


def _points(given: Any, mark: str) -> Points:
    """The `sweep:` section: a mapping is a product, a list of mappings are points; `zip` and `sample` as keys."""
    if isinstance(given, list):
        return points(given)
    if not isinstance(given, dict):
        raise ConfigError(f"{mark}: sweep must be a mapping of paths to lists, or a list of points, got {given!r}")
    rest = dict(given)
    zips, drawn = rest.pop("zip", None), rest.pop("sample", None)
    total = grid(rest) if rest else NOTHING
    if zips is not None:
        total = total * zipped(zips)
    if drawn is not None:
        space = {path: _distribution(path, value) for path, value in drawn.items() if path not in ("n", "seed")}
        total = total * sample(space, int(drawn.get("n", 0)), int(drawn.get("seed", 0)))
    return total


def _search(base: Any, given: Any, mark: str) -> Search:
    """The `search:` section: `space`, `trials`, and what else `search` takes."""
    known = [name for name in inspect.signature(search).parameters if name != "base"]
    if not isinstance(given, dict) or not isinstance(given.get("space"), dict):
        raise ConfigError(f"{mark}: search must be a mapping with a space, got {given!r}", f"keys: {', '.join(known)}")
    if wrong := [key for key in given if key not in known]:
        raise ConfigError(f"{mark}: search has no '{wrong[0]}'.{did_you_mean(str(wrong[0]), known)}",
                          f"keys: {', '.join(known)}")  # fmt: skip
    if not isinstance(given.get("trials"), int):
        raise ConfigError(f"{mark}: search needs trials, a whole number, got {given.get('trials')!r}")
    space = {path: _distribution(path, value) for path, value in given["space"].items()}
    return search(base, **(given | {"space": space}))


def _distribution(path: str, given: Any) -> Any:
    if isinstance(given, dict) and len(given) == 1:
        (name, bounds), = given.items()  # fmt: skip
        if name in _DISTRIBUTIONS and isinstance(bounds, list) and len(bounds) == 2:
            return _DISTRIBUTIONS[name](*bounds)
    if isinstance(given, list):
        return given
    raise ConfigError(
        f"{path}: not something to draw from: {given!r}",
        "write a list, or {loguniform: [1e-5, 1e-1]}, uniform, integers",
    )
