"""The objects of a job as YAML that `kubectl apply -f -` takes."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from lightex.dispatcher.engines.cluster.manifest import Objects

_PLAIN = re.compile(r"(?!(?:yes|no|on|off|y|n|true|false|null)$)[A-Za-z/][A-Za-z0-9./_-]*", re.I)


def as_yaml(objects: Objects, context: str) -> str:
    """Objects as YAML; the values of secrets are left to your shell."""
    about = objects.job["metadata"]
    lines = []
    if objects.secret:
        values = " ".join(f'--from-literal={name}="${name}"' for name in objects.secret)
        where = f"--context {shlex.quote(context)} -n {about['namespace']}" if context else f"-n {about['namespace']}"
        lines = [
            "# It takes values from a Secret that is not printed. Make it first, out of your shell:",
            f"#   kubectl {where} create secret generic {about['name']} {values}",
        ]
    return "\n".join([*lines, dump([each for each in (objects.service, objects.job) if each])])


def dump(objects: Iterable[Mapping[str, Any]]) -> str:
    """Objects as YAML, one document each."""
    writer = YAML()
    writer.width = 1 << 30  # lines are not folded: ruamel loses a space where it folds a text with control characters
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.representer.ignore_aliases = lambda *_: True  # labels stand where they are meant
    text = io.StringIO()
    writer.dump_all([_readable(each) for each in objects], text)
    return "---\n" + text.getvalue().removeprefix("---\n").rstrip()


def _readable(value: Any) -> Any:
    """A value whose texts are taken for texts by all who read YAML, of any version; a script keeps its lines."""
    if isinstance(value, Mapping):
        return {name: _readable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        return value
    return LiteralScalarString(value) if _has_plain_lines(value) else DoubleQuotedScalarString(value)


def _has_plain_lines(text: str) -> bool:
    """Whether a text of several lines stays the same where it is written line by line."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and all(line.isascii() and (not line or line.isprintable()) and line == line.rstrip() for line in lines)
        and bool(lines[0])
        and not lines[0].startswith(" ")
        and bool(lines[-1])
    )
