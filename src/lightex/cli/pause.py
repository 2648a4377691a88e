"""`lx pause`."""

from __future__ import annotations

import click

from lightex.core.root import Root
from lightex.mon import actions


@click.command()
@click.argument("sweep", required=False)
@click.pass_obj
def command(root: str | None, /, sweep: str | None) -> None:
    """Let nothing new of a sweep (default: the latest) start; what runs goes on. `lx resume` ends the pause."""
    folder = Root.locate(root)
    found = folder.find_sweep(sweep)
    click.echo(f"{actions.pause(folder, found.id)}. Next: lx resume {found.id}")
