"""`lx query`."""

from __future__ import annotations

import click

from lightex.cli.selecting import opened
from lightex.cli.writing import check_suffix, print_rows, write_table
from lightex.core.root import Root


@click.command()
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="The rows as a JSON array of objects.")
@click.option("--csv", "as_csv", is_flag=True, help="The rows as CSV.")
@click.option("--output", "-o", metavar="FILE", help="Write them to a file: .csv, .json, .jsonl or .parquet.")
@click.pass_obj
def command(root: str | None, /, sql: str, as_json: bool, as_csv: bool, output: str | None) -> None:
    """Ask runs in SQL (DuckDB's): a SELECT over runs, params, metrics and events.

    \b
    lx query 'select "hp.lr", avg("val.acc") from runs group by 1 order by 2 desc'
    lx query "select run, step, value from metrics where name = 'loss'" -o loss.parquet
    lx query "select cause, count(*) from events where state = 'FAILED' group by 1"
    """
    from lightex.qviz.sql import query

    check_suffix(output)
    with opened(Root.locate(root)) as index:
        table = query(index, sql)
    if output:
        write_table(table, output)
    elif as_json:
        click.echo(table.to_json())
    elif as_csv:
        click.echo(table.to_csv(), nl=False)
    elif not table:
        click.echo(f"no rows: {', '.join(table.columns)}")
    else:
        print_rows(table)
