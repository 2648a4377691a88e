"""`lx diff`."""

from __future__ import annotations

import sys
from typing import Any

import click

from lightex.cli.output import paint, print_json, print_table
from lightex.cli.show import find
from lightex.core.errors import StorageError
from lightex.core.naming import show
from lightex.core.rundir import RunDir
from lightex.namedconf.fingerprint import diff
from lightex.namedconf.tree import to_tree

_CHARS = 40  # of a value, on a terminal


@click.command()
@click.argument("left", metavar="CONFIG|RUN")
@click.argument("right", metavar="CONFIG|RUN")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object: path to both values, of runs also the code.")
@click.pass_obj
def command(root: str | None, left: str, right: str, as_json: bool) -> None:
    """Show in what two configs differ; or two runs, with their code (untracked files too) and environment."""
    sides = [find(root, name, ()) for name in (left, right)]
    trees = [run.config if expansion is None else to_tree(expansion.base) for run, expansion in sides]
    found: dict[str, tuple[Any, Any]] = diff(trees[0], trees[1])
    runs = [run for run, expansion in sides if expansion is None]
    code, environment, unknown = _of_runs(*runs) if len(runs) == 2 else ("", {}, [])
    if as_json:
        more: dict[str, Any] = {"code": code} if code else {}
        more |= {"environment": environment} if environment else {}
        print_json({path: list(values) for path, values in found.items()} | more)
        return
    if not found and not code and not environment:
        but = f"; the code of {' and '.join(unknown)} was not kept" if unknown else ""
        click.echo(f"{left} and {right} are equal{but}")
    elif unknown:
        click.echo(f"the code of {' and '.join(unknown)} was not kept", err=True)
    for values in (found, environment):
        if values:
            print_table(["", left, right], [[path, _short(a), _short(b)] for path, (a, b) in values.items()])
    _print_code(code)


def _of_runs(left: RunDir, right: RunDir) -> tuple[str, dict[str, tuple[Any, Any]], list[str]]:
    """What differs in the code of two runs, as a unified diff, and in what they ran in; whose code is not known."""
    from lightex.qviz.code import code_diff, read_code
    from lightex.qviz.differences import differences

    try:
        codes = read_code(left), read_code(right)
        text = code_diff(*codes)
    except OSError as error:
        raise StorageError(f"the code of one cannot be read: {error.strerror}") from error
    unknown = [run.short_id for run, code in zip((left, right), codes, strict=True) if not code.digest]
    return text, {name: (a, b) for name, (a, b) in differences([left, right]).environment.items()}, unknown


def _print_code(text: str) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in text.splitlines():
        head = line.startswith(("+++", "---", "diff ", "commit "))
        click.echo(paint(line, bold=True) if head else paint(line, colours.get(line[:1])))


def _short(value: Any) -> str:
    text = show(value)
    return text if len(text) <= _CHARS or not sys.stdout.isatty() else f"{text[: _CHARS - 3]}..."
