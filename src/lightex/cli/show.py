"""`lx show`."""

from __future__ import annotations

import click

from lightex.cli.options import config_name, load_registry
from lightex.cli.output import print_json, print_table
from lightex.core.naming import show
from lightex.namedconf.export import FORMATS
from lightex.namedconf.layers import sources
from lightex.namedconf.resolve import Expansion, expand
from lightex.namedconf.tree import flatten, to_tree


@click.command()
@click.argument("name", required=False, metavar="[CONFIG|RUN]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--format", "-f", "form", type=click.Choice(list(FORMATS)), default="yaml", show_default=True)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option("--sources", "-s", "with_sources", is_flag=True, help="Tell where each value comes from.")
@click.pass_obj
def command(root: str | None, name: str | None, overrides: tuple[str, ...], form: str, with_sources: bool) -> None:
    """Show a config with its overrides applied, or the config that a run had.

    --format env and --format flags are for programs in other languages.
    """
    tree, expansion = find_tree(root, name, overrides)
    if not with_sources:
        click.echo(FORMATS[form](tree))
        return
    if expansion is None:
        raise click.UsageError("--sources is for configs; a run keeps the values only")
    flat, found = flatten(tree), sources(expansion.base, expansion.source)
    if form == "json":
        print_json({path: {"value": value, "source": str(found[path])} for path, value in flat.items()})
    else:
        print_table(["", "source", "value"], [[path, str(found[path]), show(value)] for path, value in flat.items()])


def find_tree(
    root: str | None, name: str | None, overrides: tuple[str, ...]
) -> tuple[dict[str, object], Expansion | None]:
    """The tree of a named config with overrides, or else of the run of that id.

    Raises:
        NotFoundError: there is neither.
        ConfigError: the config or an override is not valid.
    """
    from lightex.core.errors import NotFoundError
    from lightex.core.root import Root

    registry = load_registry()
    try:
        known, rest = config_name(registry, name, overrides)
        expansion = expand(registry.get(known), rest, registry)
    except NotFoundError:
        try:
            runs = Root.locate(root, registry.folder).find(name) if name and not overrides else []
        except NotFoundError:
            runs = []
        if len(runs) != 1:
            raise
        return runs[0].config, None
    return to_tree(expansion.base), expansion
