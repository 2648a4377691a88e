"""The objects of a job as YAML that `kubectl apply -f -` takes."""

from __future__ import annotations

import io
import shlex
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from lightex.dispatcher.engines.cluster.manifest import Objects


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
    writer = YAML()
    writer.width = 120
    writer.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    writer.dump_all([_readable(each) for each in (objects.service, objects.job) if each], text)
    return "\n".join([*lines, "---", text.getvalue().removeprefix("---\n").rstrip()])


def _readable(value: Any) -> Any:
    """A value with texts of several lines as they are, not as one line with escapes."""
    if isinstance(value, dict):
        return {name: _readable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_readable(each) for each in value]
    return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value
