"""How a message gets to a service: by Apprise, which knows more than a hundred; to the desktop by its own program."""

from __future__ import annotations

import html
import logging
import shutil
import subprocess
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from lightex.core.errors import ConfigError, needing
from lightex.mon.alerts.notice import Message
from lightex.mon.alerts.targets import Target

Send = Callable[[Message], str | None]
"""Sends a message; returns why that did not work, None: it did."""

_DESKTOP = "desktop"
_PATIENCE = 10.0  # seconds for a program that shows something on the desktop
_SHOW = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def service(target: Target) -> Send:
    """What sends to a target.

    Raises:
        LightexError: Apprise is missing.
        ConfigError: it does not understand the address, or the address needs what is missing here.
    """
    if target.url.partition("://")[0].lower() == _DESKTOP:
        return _desktop
    with needing("alerts need", "'lightex[alerts]'"):
        import apprise
    _hear()
    said: list[str] = []
    token = _heard.set(said)
    try:
        asset = apprise.AppriseAsset(app_id="LightEx", app_desc="LightEx", app_url="https://pypi.org/project/lightex")
        plugin: Any = apprise.Apprise.instantiate(target.url, asset=asset)
    finally:
        _heard.reset(token)
    if plugin is None:
        why = [target.scrub(each) for each in said[:3]]
        raise ConfigError(f"{target.name} is not an address that Apprise knows, or it lacks a package", *why)
    if "overflow=" not in target.url:  # else a service refuses what is too long, again and again
        plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
    teller = apprise.Apprise(asset=asset)
    teller.add(plugin)
    return lambda message: _send(teller, target, message)


def _send(teller: Any, target: Target, message: Message) -> str | None:
    import apprise

    said: list[str] = []
    token = _heard.set(said)
    try:
        kind = getattr(apprise.NotifyType, message.kind.upper())
        done = teller.notify(message.body, message.title, kind, body_format=apprise.NotifyFormat.TEXT)
    except Exception as error:  # noqa: BLE001  a hundred services, each with libraries of its own
        return target.scrub(f"{type(error).__name__}: {error}")
    finally:
        _heard.reset(token)
    return None if done else target.scrub("; ".join(dict.fromkeys(said)) or "Apprise does not say why")


class _Ear(logging.Handler):
    """Keeps what Apprise says for whom it says it; nothing of it is printed, since addresses are in it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a word."""
        if (said := _heard.get()) is not None and record.levelno >= logging.WARNING:
            said.append(" ".join(record.getMessage().split()))


def _hear() -> None:
    logger = logging.getLogger("apprise")
    if not any(isinstance(each, _Ear) for each in logger.handlers):
        logger.addHandler(_Ear())
        logger.propagate = False


def _desktop(message: Message) -> str | None:
    if program := shutil.which("notify-send"):
        urgency = "critical" if message.kind == "failure" else "normal"
        command = [program, f"--urgency={urgency}", "--app-name=LightEx", "--", message.title]
        command.append(html.escape(message.body, quote=False))  # desktops read markup in it
    elif program := shutil.which("osascript"):
        command = [program, "-e", _SHOW, message.title, message.body]
    else:
        return "neither notify-send (Debian: libnotify-bin) nor osascript is on PATH"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program}: {error}"
    return None if done.returncode == 0 else f"{program}: {done.stderr.strip() or f'exit code {done.returncode}'}"
