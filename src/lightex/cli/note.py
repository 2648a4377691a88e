"""`lx note`."""

from __future__ import annotations

import click

from lightex.cli.output import print_json
from lightex.core.errors import LightexError
from lightex.core.root import Root


@click.command()
@click.argument("which", nargs=-1, required=True, metavar="RUN|SWEEP...")
@click.option("--message", "-m", metavar="TEXT", help='What to remember of them; "" takes it away.')
@click.option("--tag", "-t", "tags", multiple=True, metavar="NAME=VALUE", help="Set a tag; NAME= takes one away.")
@click.option("--archive/--unarchive", default=None, help="Leave them out of lists, or put them back.")
@click.option("--json", "as_json", is_flag=True, help="What is noted of them as a JSON object.")
@click.pass_obj
def command(
    root: str | None,
    /,
    which: tuple[str, ...],
    message: str | None,
    tags: tuple[str, ...],
    archive: bool | None,
    as_json: bool,
) -> None:
    """Note something of runs: a text, tags, or that they are put away. Without an option: show what is noted.

    It is stored in the runs, so a copy of them keeps it.
    """
    folder = Root.locate(root)
    runs = list({run.id: run for prefix in which for run in folder.find(prefix)}.values())
    new = dict(_pair(tag) for tag in tags)
    if message is not None or tags or archive is not None:
        for run in runs:
            run.note(message, new, archive)
    if as_json:
        print_json({run.id: run.notes for run in runs})
        return
    for run in runs:
        notes = run.notes
        said = [notes["note"]] if notes["note"] else []
        said += [
            f"{name}={value}" if value is not None else f"{name} taken away" for name, value in notes["tags"].items()
        ]
        click.echo(f"{run.short_id}  {'  '.join(said + ['archived'] * notes['archived']) or 'nothing is noted'}")


def _pair(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise LightexError(f"not a tag: '{text}'", "write NAME=VALUE, e.g. --tag team=vision")
    return name.strip(), value or None
