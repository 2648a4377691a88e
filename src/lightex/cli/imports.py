"""`lx import`."""

from __future__ import annotations

import time
from typing import Any

import click

from lightex.cli.output import paint, print_json
from lightex.cli.telling import Telling
from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.units import format_duration
from lightex.mulogger.imports.foreign import PEERS, open_peer
from lightex.mulogger.imports.intake import Intake, Taken

_SHOWN = 5  # failures
_REDRAW = 0.1, 5.0  # seconds between two lines of progress: on a terminal, elsewhere


@click.command("import")
@click.argument("peer", type=click.Choice(list(PEERS)))
@click.argument("uri")
@click.option("--experiment", metavar="NAME", help="Only this experiment or project; of TensorBoard: what to call it.")
@click.option("--json", "as_json", is_flag=True, help="What was done as a JSON object.")
@click.pass_obj
def command(root: str | None, peer: str, uri: str, experiment: str | None, as_json: bool) -> int:
    """Bring in runs of MLflow, TensorBoard or W&B, so that lx ls, show and compare work on them.

    \b
    lx import mlflow sqlite:///mlflow.db        also: mlruns/, http://host:port, postgresql://...
    lx import tensorboard logs/                 each folder in it that holds event files is a run
    lx import wandb wandb/                      offline runs; logged in also entity/project

    Nothing changes there. A second time takes only what is new, or has gone on since.
    """
    began = time.monotonic()
    folder = Root.locate(root)
    with Telling(_REDRAW) as line:
        line(f"opening {uri}")
        intake = Intake(folder, open_peer(peer, uri, experiment), lambda text: line(f"{_count(intake.taken)}  {text}"))
        try:
            intake.bring()
        except KeyboardInterrupt:
            line.clear()
            click.echo(f"interrupted: {_count(intake.taken)}; the same command takes up the rest", err=True)
            return 130
        except LightexError as error:
            done = intake.taken.imported or intake.taken.updated
            raise type(error)(error.message, *error.details, *([f"{_count(intake.taken)}"] if done else [])) from error
    if as_json:
        print_json(_as_json(intake.taken))
    else:
        _say(intake.taken, peer, time.monotonic() - began)
    return 1 if intake.taken.failed else 0


def _count(taken: Taken) -> str:
    parts = [f"{len(taken.imported)} imported"]
    parts += [f"{len(taken.updated)} brought up to date"] if taken.updated else []
    parts += [f"{taken.skipped} here already"] if taken.skipped else []
    parts += [f"{len(taken.failed)} failed"] if taken.failed else []
    return ", ".join(parts)


def _say(taken: Taken, peer: str, seconds: float) -> None:
    for name, why in taken.failed[:_SHOWN]:
        click.echo(f"{paint('failed', 'red')}  {name}: {why}", err=True)
    if len(taken.failed) > _SHOWN:
        click.echo(f"        and {len(taken.failed) - _SHOWN} more: lx import ... --json", err=True)
    if taken.gave_up:
        click.echo(f"so many failed in a row that the rest was not tried: is {peer} all right?", err=True)
    if taken.left_out:
        click.echo("left where they are: " + ", ".join(f"{n} x {what}" for what, n in taken.left_out.items()), err=True)
    groups = taken.groups
    next_step = f"lx compare {groups[0]}" if len(groups) == 1 else "lx ls"
    click.echo(f"{_count(taken)} in {format_duration(seconds)}. Next: {next_step}")


def _as_json(taken: Taken) -> dict[str, Any]:
    return {
        "imported": [str(run.path) for run in taken.imported],
        "updated": [str(run.path) for run in taken.updated],
        "skipped": taken.skipped,
        "failed": [{"name": name, "reason": reason} for name, reason in taken.failed],
        "left_out": dict(taken.left_out),
        "groups": taken.groups,
    }
