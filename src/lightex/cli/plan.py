"""`lx plan`."""

from __future__ import annotations

import click

from lightex.cli.options import config_arguments, load_registry, plan_from
from lightex.cli.output import print_json, terminal_width
from lightex.cli.preview import preview
from lightex.core.root import Root
from lightex.experiment import succeeded_before


@click.command()
@config_arguments
@click.option("--json", "as_json", is_flag=True, help="Every experiment, as a JSON array.")
@click.pass_obj
def command(
    root: str | None, /, name: str | None, overrides: tuple[str, ...], as_json: bool, **choices: object
) -> None:
    """Show every experiment that a run would start, check them all, and start nothing."""
    registry = load_registry()
    plan = plan_from(registry, name, overrides, choices)
    folder = Root.locate(root, registry.folder)
    before = succeeded_before(plan, folder) if not plan.search else set()
    if as_json:
        print_json(
            [
                {
                    "experiment": item.config.name,
                    "varied": item.varied,
                    "command": item.command,
                    "fingerprint": item.fingerprint,
                    "succeeded_before": item.fingerprint in before,
                    "config": item.tree,
                }
                for item in plan.experiments
            ]
        )
        return
    for line in preview(plan, folder, before, terminal_width()):
        click.echo(line)
