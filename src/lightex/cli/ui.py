"""`lx ui`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lightex.cli.output import paint
from lightex.core.errors import LightexError
from lightex.core.root import Root

if TYPE_CHECKING:
    from lightex.cli.alerting import Alerting
    from lightex.web.live import Live


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
    alerting = _alerting(live.root)
    try:
        with reading() as progress:
            live.open(progress)
        token = None if no_token else new_token()
        serve(live, listening, token, _told(live.root, alerting), not no_browser, lambda: _watch(live, alerting))
    finally:
        live.close()
        listening.close()
        alerting.close()


def _alerting(root: Root) -> Alerting:
    """What tells of runs, where there are rules; rules that are broken are said and do no harm."""
    from lightex.cli.alerting import Alerting
    from lightex.mon.alerts.rules import locate

    path = locate(root)
    alerting = Alerting(root, path, _say)
    if path.exists() or os.environ.get("LX_ALERTS"):
        try:
            if not alerting.start():
                _say(f"{alerting.holder} watches already; this one does when that has ended")
        except LightexError as error:
            click.echo(paint(f"warning: no alerts: {error.message}", "yellow"), err=True)
            for line in error.details:
                click.echo(f"  {line}", err=True)
    return alerting


def _say(text: str) -> None:
    from lightex.cli.alerting import said

    said(f"alerts: {text}")


async def _watch(live: Live, alerting: Alerting) -> None:
    from lightex.mon.alerts.watch import LOOK

    while True:
        with alerting.going_on():
            if alerting.wants:
                await live.ask(alerting.look)
        await asyncio.sleep(LOOK)


def _told(root: Root, alerting: Alerting) -> Callable[[str], None]:
    def tell(address: str) -> None:
        click.echo(f"runs of {root.path}\n  {paint(address, bold=True)}\nCtrl-C ends it")
        alerting.address = address.partition("?")[0].rstrip("/")  # without the token

    return tell
