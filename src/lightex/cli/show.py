"""`lx show`."""

from __future__ import annotations

from typing import Any

import click

from lightex.cli.options import config_name, load_registry
from lightex.cli.output import print_json, print_table
from lightex.core.errors import NotFoundError
from lightex.core.naming import flatten, show
from lightex.namedconf.export import FORMATS
from lightex.namedconf.layers import sources
from lightex.namedconf.resolve import Expansion, expand
from lightex.namedconf.tree import to_tree


@click.command()
@click.argument("name", required=False, metavar="[CONFIG|RUN]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--format", "-f", "form", type=click.Choice(list(FORMATS)), help="Only the config, so (default: yaml).")
@click.option("--json", "as_json", is_flag=True, help="A config as JSON, or all that is known of a run.")
@click.option("--sources", "-s", "with_sources", is_flag=True, help="Tell where each value comes from.")
@click.pass_obj
def command(
    root: str | None, name: str | None, overrides: tuple[str, ...], form: str | None, as_json: bool, with_sources: bool
) -> None:
    """Show a config with its overrides applied, or a run: its parameters, metrics, files and loggers.

    --format env and --format flags are for programs in other languages.
    """
    found, expansion = find(root, name, overrides)
    if expansion is None:
        if with_sources:
            raise click.UsageError("--sources is for configs; a run keeps the values only")
        if form:
            click.echo(FORMATS[form](found.config))
        else:
            from lightex.cli.show_run import show_run

            show_run(found, as_json)
        return
    tree = to_tree(expansion.base)
    if not with_sources:
        click.echo(FORMATS["json" if as_json else form or "yaml"](tree))
        return
    flat, origins = flatten(tree), sources(expansion.base, expansion.source)
    if as_json or form == "json":
        print_json({path: {"value": value, "source": str(origins[path])} for path, value in flat.items()})
    else:
        print_table(["", "source", "value"], [[path, str(origins[path]), show(value)] for path, value in flat.items()])


def find(root: str | None, name: str | None, overrides: tuple[str, ...]) -> tuple[Any, Expansion | None]:
    """A run (its RunDir, and None), or a named config with overrides (None, and its Expansion).

    Raises:
        NotFoundError: there is neither.
        ConfigError: the config or an override is not valid.
    """
    from lightex.core.root import Root

    registry = load_registry()
    try:
        known, rest = config_name(registry, name, overrides)
        expansion = expand(registry.get(known), rest, registry.values())
    except NotFoundError:
        try:
            runs = Root.locate(root, registry.folder).find(name) if name and not overrides else []
        except NotFoundError:
            runs = []
        if len(runs) != 1:
            raise
        return runs[0], None
    return None, expansion
