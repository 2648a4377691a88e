"""The arguments that a script gives to argparse, read from its text without running it."""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError


@dataclass(frozen=True)
class Argument:
    """One optional argument.

    Attributes:
        flag: as it is given: --learning-rate.
        switch: "value" follows it; "on" or "off" when it sets so by being there; "both": --x and --no-x.
        name: as an attribute of what argparse returns, or one like it that Python allows.
        kind: the name of its type.
        default: None if there is none.
        choices: all that is allowed; empty: anything.
        help: its words.
    """

    flag: str
    switch: str
    name: str
    kind: str
    default: Any
    choices: tuple[Any, ...]
    help: str


def read_arguments(script: Path) -> list[Argument]:
    """The `--options` of all add_argument calls whose parts are written out; others are passed over.

    Raises:
        LightexError: the script does not parse.
    """
    try:
        tree = ast.parse(script.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise LightexError(f"{script} does not parse: {error}") from None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "add_argument"]
    found = (_argument(call) for call in sorted(calls, key=lambda call: call.lineno))
    return list({argument.name: argument for argument in found if argument}.values())


def _argument(call: ast.Call) -> Argument | None:
    names = [value for arg in call.args if isinstance(value := _value(arg), str) and value.startswith("--")]
    given = {each.arg: each.value for each in call.keywords if each.arg}
    action = _value(given.get("action"))
    if not names or action in ("version", "help", "count", "append"):
        return None
    name = re.sub(r"\W", "_", str(_value(given.get("dest")) or names[0].lstrip("-")))
    if not name.isidentifier() or keyword.iskeyword(name):  # --2d, --lambda: no field of Python's can be called so
        name = f"arg_{name}"
    default = _value(given.get("default"))
    switch = {"store_true": "on", "store_false": "off"}.get(str(action), "value")
    if "BooleanOptionalAction" in ast.unparse(given.get("action", ast.Constant(""))):
        switch, kind = "both", "bool"
    elif switch != "value":
        kind, default = "bool", bool(default) if default is not None else action == "store_false"
    else:
        kind = _kind(given.get("type"), default)
    if kind == "float" and isinstance(default, int):
        default = float(default)
    if "nargs" in given and _value(given["nargs"]) in ("+", "*"):
        kind = (
            f"tuple[{kind if not isinstance(default, list) else type(default[0]).__name__ if default else 'str'}, ...]"
        )
    choices = _value(given.get("choices")) or ()
    words = " ".join(str(_value(given.get("help")) or "").split())
    return Argument(names[0], switch, name, kind, default, tuple(choices), words)


def _kind(node: ast.expr | None, default: Any) -> str:
    if isinstance(node, ast.Name) and node.id in ("int", "float", "str", "bool"):
        return node.id
    if node is None and isinstance(default, (int, float)):
        return type(default).__name__
    return "str"


def _value(node: ast.expr | None) -> Any:
    """The value that an expression writes out, or None."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
