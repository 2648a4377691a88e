"""`lx configs`."""

from __future__ import annotations

import click

from lightex.cli.options import load_registry
from lightex.cli.output import print_json, print_table
from lightex.namedconf.registry import Named
from lightex.namedconf.search import Search
from lightex.namedconf.sweep import Sweep


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def command(as_json: bool) -> None:
    """List what has a name in lxconfig: configs, sweeps, searches, and parts that can be put into a config."""
    found = load_registry().names()
    if as_json:
        print_json([{"name": n.name, "kind": n.kind, "about": _about(n), "source": n.source.where} for n in found])
    elif not found:
        click.echo("no named configs here. lx init writes a first one")
    else:
        print_table(["name", "kind", "where", ""], [[n.name, n.kind, n.source.where, _about(n)] for n in found])


def _about(named: Named) -> str:
    value = named.value
    if isinstance(value, Sweep):
        return f"{len(value)} experiments: {value.formula}"
    if isinstance(value, Search):
        return f"{value.trials} trials {value.formula}: {', '.join(value.space)}"
    if named.kind == "part":
        return str(value)
    command = value.command or f"target {value.target}"
    words = command if isinstance(command, str) else " ".join(command)
    return f"{value.name}: {words}"
