"""The named configs of a project: the variables of lxconfig.py, the names in lxconfig.yaml, and files by path."""

from __future__ import annotations

import ast
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError, LightexError, NotFoundError, did_you_mean
from lightex.core.root import PROJECT_FILES, project_folder
from lightex.namedconf.classes import is_config, shown_path
from lightex.namedconf.layers import Source
from lightex.namedconf.search import Search
from lightex.namedconf.sweep import Sweep

_OURS = Path(__file__).parents[1]
SUFFIXES = (".yaml", ".yml", ".toml", ".json")


@dataclass(frozen=True)
class Named:
    """Something that has a name: a config, a sweep, or a part that can be put into a config.

    Attributes:
        name: as people know it.
        value: the dataclass instance, the sweep or the search.
        kind: "config", "sweep", "search" or "part".
        source: where it stands.
        reference: what `Registry.get` finds it by, from any folder: its name, or the path of its file; None: it has
            no name, it was made by a program.
    """

    name: str
    value: Any
    kind: str
    source: Source
    reference: str | None

    @property
    def base(self) -> Any:
        """The config itself, or the (first) one that a sweep or a search varies."""
        if isinstance(self.value, Sweep):
            return self.value.parts[0][0]
        return self.value.base if isinstance(self.value, Search) else self.value


def kind_of(value: Any, root_class: type) -> str:
    """What a named value is: see `Named.kind`."""
    kinds: list[tuple[type, str]] = [(Sweep, "sweep"), (Search, "search"), (root_class, "config")]
    return next((kind for cls, kind in kinds if isinstance(value, cls)), "part")


class Registry:
    """The named configs of one folder.

    Args:
        folder: where lxconfig.py, lxconfig.yaml, lxconfig.toml or lxconfig.json lie; some or all of them.
        root_class: the dataclass that makes a config; instances of others are parts.
    """

    def __init__(self, folder: Path, root_class: type) -> None:
        self.folder, self.root_class = folder, root_class
        python, *others = (folder / name for name in PROJECT_FILES)
        self._python = _load_python(python, root_class) if python.is_file() else {}
        self._files = [file for file in others if file.is_file()]

    @classmethod
    def load(cls, start: Path, root_class: type) -> Registry:
        """The configs of the nearest folder, from `start` upwards, that has an lxconfig file, else of `start`.

        Raises:
            ConfigError: lxconfig.py raises or does not parse.
        """
        return cls(project_folder(start) or start, root_class)

    def names(self) -> list[Named]:
        """All that has a name in the lxconfig files, as it stands there.

        Raises:
            ConfigError: a file is not valid.
        """
        from lightex.namedconf.files import names_in

        return [*self._python.values(), *(self.get(name) for file in self._files for name in names_in(file))]

    def values(self) -> Mapping[str, Any]:
        """The parts by name, for `hp.model=vit_small`."""
        return {name: named.value for name, named in self._python.items() if named.kind == "part"}

    def get(self, name: str, stack: tuple[str, ...] = (), beside: Path | None = None) -> Named:
        """What has a name, or what a file holds.

        Args:
            name: a name, or the path of a .yaml, .toml or .json file.
            stack: what extends what, down to this; for finding circles.
            beside: the folder that a path is relative to; default: the working directory.

        Raises:
            NotFoundError: there is none; names the nearest.
            ConfigError: what it holds is not valid.
        """
        from lightex.namedconf import files

        if name in self._python:
            return self._python[name]
        for file in self._files:
            if name in files.names_in(file):
                return files.load(file, name, self, stack)
        if Path(name).suffix in SUFFIXES:
            file = (beside or Path.cwd()) / name
            if not file.is_file():
                raise NotFoundError(f"no such config file: {name}", f"looked for {file}")
            return files.load(file, None, self, stack)
        known = [*self._python, *(found for file in self._files for found in files.names_in(file))]
        if not known:
            raise NotFoundError(
                f"no config named '{name}': there is no lxconfig file in {self.folder} or above",
                "lx init writes one",
            )
        raise NotFoundError(
            f"no config named '{name}'.{did_you_mean(name, known)}", f"there are: {', '.join(known)}  (lx configs)"
        )


def _load_python(file: Path, root_class: type) -> dict[str, Named]:
    try:
        text = file.read_text(encoding="utf-8")
        lines = _lines(ast.parse(text, str(file)))
    except SyntaxError as error:
        at = f"{shown_path(file)}:{error.lineno}:{error.offset}"
        raise ConfigError(f"{at}: {error.msg}", (error.text or "").strip()) from None
    module = _execute(file)
    found = {}
    for name, value in vars(module).items():
        kind = kind_of(value, root_class)
        if not name.startswith("_") and (kind != "part" or is_config(value)):
            where = f"{shown_path(file)}:{lines[name]}" if name in lines else shown_path(file)
            found[name] = Named(name, value, kind, Source("config", where), name)
    return found


def _execute(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"cannot load {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses look their annotations up there
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _users_error(error, file) from error
    return module


def _users_error(error: BaseException, file: Path) -> ConfigError:
    """What went wrong, at the user's own line: ours would not help."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(Path(frame.filename), file.parent)]
    at = f"{shown_path(Path(own[-1].filename))}:{own[-1].lineno}" if own else shown_path(file)
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() if own else ""
    if isinstance(error, LightexError):
        return ConfigError(error.message, f"at {at}: {line}", *error.details)
    return ConfigError(f"{at}: {type(error).__name__}: {error}", *([line] if line else []))


def _is_users(file: Path, folder: Path) -> bool:
    return folder in file.parents and _OURS not in file.parents and "site-packages" not in file.parts


def _lines(tree: ast.Module) -> dict[str, int]:
    found = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name):
                found[target.id] = node.lineno
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node.lineno for alias in node.names}
    return found
