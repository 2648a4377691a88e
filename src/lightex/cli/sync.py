"""`lx sync`."""

from __future__ import annotations

import click

from lightex.cli.output import paint, print_json
from lightex.core.errors import ConfigError
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.mulogger import delivery
from lightex.mulogger.sync import sync
from lightex.namedconf.literal import literal


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.option(
    "--to", "sinks", multiple=True, metavar="LOGGER", help="Bring the runs to this logger too; may be repeated."
)
@click.option(
    "--option", "-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the logger given by --to."
)
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@click.pass_obj
def command(
    root: str | None, which: tuple[str, ...], sinks: tuple[str, ...], options: tuple[str, ...], as_json: bool
) -> int:
    """Bring to the loggers of runs (default: all runs) what they have not got yet.

    \b
    lx sync                                          what a server that was down has missed
    lx sync 3f9a --to wandb                          a logger named only now
    lx sync --to mlflow -o tracking_uri=http://localhost:5000
    """
    folder = Root.locate(root)
    runs = [run for prefix in which for run in folder.find(prefix)] if which else list(folder.runs())
    given = _options(options)
    if given and len(sinks) != 1:
        raise click.UsageError("--option needs one --to LOGGER that it is for")
    for run in runs:
        for name in sinks:
            delivery.choose(run, name, given)
    wanted = [(run, name) for run in runs for name in sinks or delivery.chosen(run)]
    found = []
    for run, name in wanted:
        if delivery.progress(run, name).closed is None:
            found.append((run, lag := sync(run, name)))
            if not as_json:
                _show(run, lag)
    if as_json:
        print_json([{"id": run.id, **vars(lag)} for run, lag in found])
    elif not found:
        click.echo("every logger has everything" if runs else f"no runs in {folder.path}")
    return 1 if any(lag.error for _, lag in found) else 0


def _show(run: RunDir, lag: delivery.Progress) -> None:
    mark = paint("behind", "red") if lag.error or lag.behind else paint("synced", "green")
    click.echo(f"{mark}  {run.short_id}  {lag}")
    for notice in lag.notices:
        click.echo(f"        {notice}")


def _options(texts: tuple[str, ...]) -> dict[str, object]:
    given = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--option {text!r} has no '='", "write it as KEY=VALUE")
        given[key] = literal(value)
    return given
