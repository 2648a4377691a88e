"""`lx schema`."""

from __future__ import annotations

from typing import Any

import click

from lightex.cli.options import config_name, load_registry
from lightex.cli.output import print_json
from lightex.namedconf.resolve import expand
from lightex.namedconf.schema import config_schema


@click.command()
@click.argument("name", required=False, metavar="[CONFIG]")
@click.option("--json", is_flag=True, hidden=True, help="It is JSON anyway.")
def command(name: str | None, json: bool) -> None:  # noqa: ARG001
    """Print the JSON Schema of a config: editors complete and check YAML, TOML and JSON files by it."""
    registry = load_registry()
    known, _ = config_name(registry, name, ())
    schema: dict[str, Any] = config_schema(expand(registry.get(known), (), registry.values()).base)
    print_json(schema)
