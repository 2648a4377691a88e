"""`lx pause`."""

from __future__ import annotations

import click

from lightex.core.errors import LightexError
from lightex.core.root import Root


@click.command()
@click.argument("sweep", required=False)
@click.pass_obj
def command(root: str | None, /, sweep: str | None) -> None:
    """Let nothing new of a sweep (default: the latest) start; what runs goes on. `lx resume` ends the pause."""
    found = Root.locate(root).find_sweep(sweep)
    if not found.supervised:
        raise LightexError(f"nothing is at work on sweep {found.id}", f"lx resume {found.id} takes it up again")
    found.paused = True
    click.echo(f"sweep {found.id} is paused: what runs goes on, nothing new starts. Next: lx resume {found.id}")
