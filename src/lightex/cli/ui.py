"""`lx ui`."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from lightex.cli.output import paint
from lightex.core.errors import LightexError
from lightex.core.root import Root

if TYPE_CHECKING:
    from lightex.mon.alerts.watch import Watcher
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
    watcher = _watcher(live.root)
    try:
        with reading() as progress:
            live.open(progress)
        tell, watch = _told(live.root, watcher), _watch(live, watcher) if watcher else None
        serve(live, listening, None if no_token else new_token(), tell, not no_browser, watch)
    finally:
        live.close()
        listening.close()
        if watcher:
            watcher.close()


def _watcher(root: Root) -> Watcher | None:
    """What tells of runs, where there are rules; rules that are broken are said and do no harm."""
    from lightex.mon.alerts.rules import locate

    path = locate(root)
    if not path.exists() and not os.environ.get("LX_ALERTS"):
        return None
    from lightex.cli.alerting import watcher

    try:
        made, alerts = watcher(root, path, _say)
        if made.claim():
            _say(f"{len(alerts.rules)} rules of {alerts.path}")
        else:
            _say(f"{made.holder} watches already; this one does when that has ended")
    except LightexError as error:
        click.echo(paint(f"warning: no alerts: {error.message}", "yellow"), err=True)
        for line in error.details:
            click.echo(f"  {line}", err=True)
        return None
    return made


def _say(text: str) -> None:
    from lightex.cli.alerting import said

    said(f"alerts: {text}")


def _watch(live: Live, watcher: Watcher) -> Callable[[], Coroutine[Any, Any, None]]:
    from lightex.mon.alerts.watch import LOOK

    return lambda: live.every(LOOK, watcher.look, _say)


def _told(root: Root, watcher: Watcher | None) -> Callable[[str], None]:
    def tell(address: str) -> None:
        click.echo(f"runs of {root.path}\n  {paint(address, bold=True)}\nCtrl-C ends it")
        if watcher and not watcher.address:
            watcher.address = address.partition("?")[0].rstrip("/")  # without the token

    return tell
