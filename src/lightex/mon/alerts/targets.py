"""Who is told: addresses with what the environment holds put in, and names for them that give nothing away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from lightex.core.errors import ConfigError
from lightex.mon.alerts.rules import Alerts

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://")
_HOSTS = ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "http", "https")
"""Schemes whose host is one; others have a token in its place."""

_SECRET = 4  # characters of the shortest part of an address that is taken out of messages


@dataclass(frozen=True)
class Target:
    """Somebody who is told.

    Attributes:
        name: its kind, and the how manieth of these it is: "slack 1". The journal knows it by that.
        url: the whole address; it is never to be shown.
    """

    name: str
    url: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The name, with the host where that is not a secret."""
        return f"{self.name} ({self._host})" if self._host else self.name

    def scrub(self, text: str) -> str:
        """A text without any part of the address that may be secret."""
        parts = re.split(r"[/:@?&=,;+# ]+", self.url.partition("://")[2])
        shown = {*self.name.split(), *self._host.split(":")}
        secrets = {each for part in parts for each in (part, unquote(part)) if len(each) >= _SECRET} - shown
        for secret in sorted({self.url, *secrets}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    @property
    def _host(self) -> str:
        """The host and its port where they are no secret, else nothing."""
        if self.url.partition("://")[0].lower() not in _HOSTS:
            return ""
        try:
            parts = urlsplit(self.url)
            return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
        except ValueError:
            return ""


def targets(alerts: Alerts, environment: Mapping[str, str]) -> dict[str, Target]:
    """Everybody whom the rules name, by what is written in the file.

    Args:
        alerts: the rules.
        environment: what `${NAME}` is taken from.

    Raises:
        ConfigError: a variable is not set, or an address is none; it is not shown.
    """
    found: dict[str, Target] = {}
    counts: Counter[str] = Counter()
    places = [(f"to {number}", url) for number, url in enumerate(alerts.to, 1)]
    places += [(f"{rule.place}: to {n}", url) for rule in alerts.rules for n, url in enumerate(rule.to, 1)]
    for place, written in places:
        if written in found:
            continue
        where = f"{alerts.path.name}: {place}"
        url = _expanded(written, environment, where)
        match = _SCHEME.match(url)
        if not match:
            hint = "KIND://..., e.g. slack://TOKENS, mailto://USER:PASSWORD@HOST, desktop://"
            raise ConfigError(f"{where} is not an address", hint, "https://github.com/caronc/apprise/wiki lists them")
        scheme = match[1].lower()
        counts[scheme] += 1
        found[written] = Target(f"{scheme} {counts[scheme]}", url)
    return found


def _expanded(written: str, environment: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not environment.get(name):
            raise ConfigError(f"{where}: {name or '${}'} is not set in the environment", f"export {name}=...")
        return environment[name]

    return _VARIABLE.sub(value, written.strip())
