"""The watcher of alerts, made of what its parts need: rules, who is told, the language of filters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightex.core.index import Index
from lightex.core.root import Root
from lightex.mon.alerts.rules import load
from lightex.mon.alerts.services import service
from lightex.mon.alerts.targets import targets
from lightex.mon.alerts.watch import Watcher
from lightex.qviz.filters import check
from lightex.qviz.runs import select

if TYPE_CHECKING:
    from lightex.mon.alerts.rules import Alerts


def watcher(root: Root, path: Path, say: Callable[[str], None]) -> tuple[Watcher, Alerts]:
    """A watcher, and its rules.

    Args:
        root: the folder of runs.
        path: of the rules.
        say: told in words what happens.

    Raises:
        LightexError: the rules are not valid, a variable is not set, Apprise is missing.
    """
    alerts = load(path, check)
    who = targets(alerts, os.environ)
    services = {target.name: service(target) for target in who.values()}
    return Watcher(root, alerts, who, services, _holds, say), alerts


def said(text: str) -> None:
    """Print what a watcher says, with the time. It goes on when nobody reads that any more."""
    with suppress(OSError):
        click.echo(f"{time.strftime('%H:%M:%S')}  {text}")


def _holds(index: Index, where: str, ids: Sequence[str]) -> set[str]:
    return {run.id for run in select(index, where, within=ids)}
