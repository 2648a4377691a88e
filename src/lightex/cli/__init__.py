"""The `lx` command. Each subcommand is a module of its own that is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

# command -> its one-line help; here, because `lx --help` must not import the commands
COMMANDS = {
    "init": "Write a first lxconfig.py, from a script's own arguments if one is named.",
    "configs": "List the named configs, sweeps, searches and parts.",
    "show": "Show a config with its overrides, or the config of a run.",
    "diff": "Show in what two configs or runs differ.",
    "schema": "Print the JSON Schema of a config.",
    "plan": "Show every experiment that a run would start, and start nothing.",
    "run": "Run a config, a sweep or a search on this machine's resources.",
    "resume": "Run what of a sweep has not succeeded.",
    "retry": "Run some runs once more.",
    "clone": "Start a run with the config of another one, changed.",
    "attach": "Follow a sweep that runs elsewhere.",
    "stop": "End runs, or whole sweeps.",
    "pause": "Let nothing new of a sweep start.",
    "priority": "Have runs that wait start sooner, or later.",
    "ls": "List runs.",
    "why": "Say why a run ended as it did, or what it waits for.",
    "logs": "Print what runs wrote to their output.",
    "compare": "Compare runs: what differs, best first.",
    "plot": "Draw metrics of runs, in the terminal or to a file.",
    "query": "Ask runs in SQL.",
    "top": "Watch what every job is doing, in the terminal.",
    "ui": "Look at runs in the browser.",
    "alert": "Be told when runs fail, stall, or finish.",
    "note": "Note something of runs: a text, tags, that they are put away.",
    "sync": "Bring to MLflow, W&B, ... what they have not got yet.",
    "mlflow": "Open MLflow's own UI on the runs at hand.",
    "import": "Bring in runs of MLflow, TensorBoard or W&B.",
    "export": "Bring runs to MLflow, TensorBoard, W&B, ...: lx sync --to.",
    "rm": "Remove runs.",
    "doctor": "Check that this machine is ready.",
}

_MODULES = {"import": "imports"}  # of commands whose name is a keyword of Python


class LazyGroup(click.Group):
    """Knows its commands by name and imports one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The names, in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"lightex.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command named where there is none."""
        if args and args[0] not in COMMANDS:
            from lightex.core.errors import did_you_mean

            ctx.fail(f"no command '{args[0]}'.{did_you_mean(args[0], COMMANDS)} lx --help lists them.")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--root", type=click.Path(), metavar="DIR", help="Folder of runs (default: LX_ROOT, or runs/ beside lxconfig)."
)
@click.option("-C", "--directory", type=click.Path(), metavar="DIR", help="Act as if started in DIR.")
@click.version_option(package_name="lightex", prog_name="lx")
@click.pass_context
def group(ctx: click.Context, root: str | None, directory: str | None) -> None:
    """Run many ML experiments at once, record them, compare them.

    Start with `lx init`, then `lx run`.
    """
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            raise click.UsageError(f"-C {directory}: {error.strerror}") from error
    ctx.obj = root


def _open_streams() -> None:
    """Have all three standard streams, also where some were closed (`lx run grid >&-`): no file takes their place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def main(arguments: list[str] | None = None) -> None:
    """Run `lx`; the one place that prints errors and exits.

    Exit codes: 0 all is well; 1 a run failed; 2 a mistake in what was asked; 130 interrupted.
    """
    _open_streams()
    try:
        code: Any = group.main(arguments, prog_name="lx", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `lx ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        from lightex.core.errors import LightexError

        if not isinstance(error, LightexError):
            raise
        from lightex.cli.output import print_error

        print_error(error)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
