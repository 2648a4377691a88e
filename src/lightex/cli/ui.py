"""`lx ui`."""

from __future__ import annotations

from collections.abc import Callable

import click

from lightex.cli.output import paint
from lightex.core.errors import LightexError
from lightex.core.root import Root


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port (default: 8765, or the next free one).")
@click.option("--no-browser", is_flag=True, help="Print the address, do not open it.")
@click.option("--no-token", is_flag=True, help="Let everybody on this machine in. Only on a local address.")
@click.pass_obj
def command(root: str | None, /, host: str, port: int | None, no_browser: bool, no_token: bool) -> None:
    """Look at runs in the browser: tables, charts, comparisons, files, logs.

    Over SSH: ssh -L 8765:127.0.0.1:8765 HOST, then open the address here. LX_TOKEN sets the token. Ctrl-C ends it.
    """
    from lightex.cli.selecting import reading
    from lightex.web.live import Live
    from lightex.web.server import bind, is_local, new_token, serve

    if not is_local(host):
        if no_token:
            raise LightexError(f"without a token all who reach {host} may read your runs", "leave out --no-token")
        words = f"warning: others reach {host}; they need the token, and nothing is encrypted"
        click.echo(paint(words, "yellow"), err=True)
    listening = bind(host, port)
    live = Live(Root.locate(root))
    try:
        with reading() as progress:
            live.open(progress)
        serve(live, listening, None if no_token else new_token(), _told(live.root), not no_browser)
    finally:
        live.close()
        listening.close()


def _told(root: Root) -> Callable[[str], None]:
    def tell(address: str) -> None:
        click.echo(f"runs of {root.path}\n  {paint(address, bold=True)}\nCtrl-C ends it")

    return tell
