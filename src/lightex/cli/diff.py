"""`lx diff`."""

from __future__ import annotations

import click

from lightex.cli.output import print_json, print_table
from lightex.cli.show import find_tree
from lightex.core.naming import show
from lightex.namedconf.fingerprint import diff


@click.command()
@click.argument("left", metavar="CONFIG|RUN")
@click.argument("right", metavar="CONFIG|RUN")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object: path to both values.")
@click.pass_obj
def command(root: str | None, left: str, right: str, as_json: bool) -> None:
    """Show in what two configs, or the configs of two runs, differ."""
    found = diff(find_tree(root, left, ()), find_tree(root, right, ()))
    if as_json:
        print_json({path: list(values) for path, values in found.items()})
    elif not found:
        click.echo(f"{left} and {right} are equal")
    else:
        print_table(["", left, right], [[path, show(a), show(b)] for path, (a, b) in found.items()])
