"""`lx export`."""

from __future__ import annotations

import click

from lightex.cli.sync import command as sync


@click.command()
@click.argument("logger")
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.option("--option", "-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the logger.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@click.pass_context
def command(
    context: click.Context, logger: str, which: tuple[str, ...], options: tuple[str, ...], as_json: bool
) -> int:
    """Bring runs (default: all) to MLflow, TensorBoard, W&B, ...: lx sync RUN --to LOGGER by another name.

    \b
    lx export mlflow 3f9a -o tracking_uri=http://localhost:5000
    """
    code: int = context.invoke(sync, which=which, sinks=(logger,), options=options, as_json=as_json)
    return code
