"""`lx init`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from lightex.cli import dockerfile
from lightex.cli.arguments import Argument, read_arguments
from lightex.core.errors import LightexError

_CONFIG = '''"""Named configs: each variable is one. Try: lx plan grid, lx run grid, lx compare."""

from dataclasses import dataclass
{imports}
from lightex import Experiment, Resources, replace, sweep


@dataclass(frozen=True)
class HP:
{fields}


base = Experiment(
    name="{name}",
    command={command},
    hp=HP(),
    resources=Resources(cpus=1),
)
{more}'''

_MORE = """longer = replace(base, {"hp.epochs": 30})
grid = sweep(base, {"hp.lr": [0.1, 0.01, 0.001], "hp.seed": [0, 1]})
"""

_SCRIPT = '''"""A stand-in for training: replace its loop by yours."""

import argparse
import random
import time

import lightex

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--epochs", type=int)
parser.add_argument("--seed", type=int)
args = parser.parse_args()

random.seed(args.seed)
weight = random.uniform(-1, 1)
with lightex.start_run() as run:
    for epoch in range(args.epochs):
        weight -= args.lr * 2 * (weight - 3)  # gradient descent on (weight - 3)^2
        run.log({"loss": (weight - 3) ** 2}, step=epoch)
        time.sleep(0.05)
    print(f"weight {weight:.4f}")
'''

_FIELDS = "    lr: float = 0.01\n    epochs: int = 10\n    seed: int = 0"


@click.command()
@click.argument("script", required=False, type=click.Path())
@click.option("--docker", is_flag=True, help="Write a Dockerfile and a .dockerignore from what the project needs.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
def command(script: str | None, docker: bool, force: bool) -> None:
    """Write a first lxconfig.py here, or (--docker) a Dockerfile for a project that is there.

    With SCRIPT, from the arguments that it gives to argparse (it is read, not run); without, beside a small
    train.py of its own.
    """
    if docker:
        if script:
            raise click.UsageError("--docker is for the project as a whole: lx init --docker")
        for written in dockerfile.write(Path.cwd(), force):
            click.echo(f"wrote {written}")
        click.echo("Next: give a config container=Container(image=Build(), mount_lightex=True), then: lx run -e docker")
        return
    target = Path("lxconfig.py")
    if target.exists() and not force:
        raise LightexError(f"{target} exists already", "lx configs lists what it has; --force writes over it")
    if script:
        config, following = _from_script(Path(script)), "plan base"
    else:
        train = Path("train.py")
        if train.exists():
            raise LightexError("there is a train.py here", "name it, to start from its arguments: lx init train.py")
        train.write_text(_SCRIPT)
        click.echo("wrote train.py")
        config, following = _config("train", "train.py", _FIELDS, _MORE), "run grid"
    target.write_text(config)
    click.echo(f"wrote {target}. Next: lx {following}")


def _from_script(path: Path) -> str:
    if not path.is_file():
        raise LightexError(f"no such script: {path}", "lx init without a name writes an example")
    arguments = read_arguments(path)
    fields = "\n".join(_field(argument) for argument in arguments) or "    pass"
    click.echo(f"found {len(arguments)} arguments in {path}: {', '.join(a.name for a in arguments) or 'none'}")
    numeric = next((a for a in arguments if a.kind == "float" and a.default not in (None, 0)), None)
    more = ""
    if numeric:
        values = [numeric.default, round(numeric.default / 10, 12)]
        more = f'grid = sweep(base, {{"hp.{numeric.name}": {values!r}}})\n'
    config = _config(path.stem, path.name, fields, more, [_word(argument) for argument in arguments])
    if not more:
        config = config.replace("Resources, replace, sweep", "Resources")
    return config if "replace(" in more else config.replace("Resources, replace,", "Resources,")


def _config(name: str, script: str, fields: str, more: str, words: Sequence[str] = ("{{ hp | flags }}",)) -> str:
    parts = [f"python {script}", *words]
    lines = [repr(part + " " * (part is not parts[-1])) for part in parts]
    command = repr(" ".join(parts)) if len(parts) < 3 else "\n        ".join(["(", *lines]) + "\n    )"
    imports = "from typing import Literal\n" if "Literal[" in fields else ""
    return _CONFIG.format(name=name, command=command, fields=fields, more=more, imports=imports)


def _word(argument: Argument) -> str:
    """The part of the command that passes an argument on."""
    value = f"hp.{argument.name}"
    match argument.switch:
        case "on":
            return f"{{% if {value} %}}{argument.flag}{{% endif %}}"
        case "off":
            return f"{{% if not {value} %}}{argument.flag}{{% endif %}}"
        case "both":
            return f"{{{{ '{argument.flag}' if {value} else '--no-{argument.flag[2:]}' }}}}"
    given = f"{argument.flag} {{{{ {value} }}}}"
    return given if argument.default is not None else f"{{% if {value} is not none %}}{given}{{% endif %}}"


def _field(argument: Argument) -> str:
    kind = argument.kind
    if argument.choices:
        kind = f"Literal[{', '.join(map(repr, argument.choices))}]"
    if argument.default is None:
        kind += " | None"
    default = argument.default
    if isinstance(default, list):
        return f"    {argument.name}: {kind} = {tuple(default)!r}"
    return f"    {argument.name}: {kind} = {default!r}" + (f"  # {argument.help}" if argument.help else "")
