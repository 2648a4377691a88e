"""The rules of alerts.toml: when somebody is told, who, and what is done besides."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError, LightexError, NotFoundError, did_you_mean
from lightex.core.root import Root
from lightex.core.units import parse_size

NAME = "alerts.toml"
"""The file's name, beside the folder of runs."""

KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "failed": ("a run has failed, and is not tried again by itself", ("where",)),
    "lost": ("a run is gone, and nobody saw how it ended", ("where",)),
    "ended": ("a run has ended, however", ("where",)),
    "sweep-finished": ("all runs of a sweep have ended", ()),
    "stalled": ("a run has written neither output nor records for {minutes:g} min", ("minutes", "where", "act")),
    "nan": ("{what} of a run is NaN or infinite", ("metric", "where", "act")),
    "metric": ("{where} holds of a run that runs, or has just ended", ("where", "act")),
    "no-improvement": (
        "{what} of a run has had no better value for {minutes:g} min",
        ("metric", "mode", "minutes", "where", "act"),
    ),
    "gpu-idle": (
        "all GPUs of a run have computed less than {below:.0%} for {minutes:g} min",
        ("minutes", "below", "where", "act"),
    ),
    "disk": ("less than {free} is left on the disk of {disk}", ("free", "path")),
}
"""What `when` may be: what it means, and which further keys it has beside `to`."""

_TOP = ("to", "address", "lines", "rule")
_MOST_LINES = 50

Check = Callable[[str], None]
"""Raises a LightexError for a `where` that is not understood."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        when: a key of KINDS.
        where: a filter that must hold of the run, as `lx ls --where` takes it; empty: of any.
        metric: a regular expression that is searched for in the names of metrics; empty: see KINDS.
        mode: whether the least ("min") or the greatest ("max") value is best; empty: as the config says, else "min".
        minutes: for how long.
        below: a share of 1 of what a GPU can do.
        free: a share of the disk ("5%") or a size ("10GiB").
        path: on the disk that is meant; empty: that of the runs.
        act: "stop": the run is asked to end; empty: nothing is done.
        to: who is told, instead of all.
        place: "rule 2 (stalled), line 7".
    """

    when: str
    where: str = ""
    metric: str = ""
    mode: str = ""
    minutes: float = 30.0
    below: float = 0.05
    free: str = "5%"
    path: str = ""
    act: str = ""
    to: tuple[str, ...] = ()
    place: str = ""

    @property
    def sought(self) -> str:
        """What it looks for, in one line."""
        given = [f"{name}={_show(getattr(self, name))}" for name in KINDS[self.when][1] if name != "act"]
        return " ".join([self.when, *(each for each in given if not each.endswith("="))])

    @property
    def key(self) -> str:
        """What it looks for and does: what one rule has told, another one with the same key does not tell again."""
        return f"{self.sought} act={self.act}" if self.act else self.sought


@dataclass(frozen=True)
class Alerts:
    """What alerts.toml says.

    Attributes:
        path: of the file.
        to: Apprise URLs as they are written there, `${NAME}` and all.
        rules: in order.
        address: where `lx ui` is, for links; empty: not known.
        lines: how many of the last lines of its output a message about a run has.
    """

    path: Path
    to: tuple[str, ...]
    rules: tuple[Rule, ...]
    address: str = ""
    lines: int = 5


def locate(root: Root) -> Path:
    """Where the rules of a folder of runs are: LX_ALERTS, or alerts.toml beside it."""
    return Path(os.environ.get("LX_ALERTS") or root.path.parent / NAME)


def load(path: Path, check: Check | None = None) -> Alerts:
    """Read a file of rules.

    Args:
        path: of the file.
        check: of each `where`; None: any text will do.

    Raises:
        NotFoundError: there is none.
        ConfigError: it is not understood, or it is another user's and was not named by LX_ALERTS.
    """
    try:
        with path.open("rb") as file:
            owner, data = os.fstat(file.fileno()).st_uid, file.read()
        text = data.decode()
    except FileNotFoundError:
        raise NotFoundError(f"there is no {path}", "lx alert init writes one, LX_ALERTS names another") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    # It may have variables of our environment sent anywhere.
    if owner not in (os.getuid(), 0) and not os.environ.get("LX_ALERTS"):
        raise ConfigError(f"{path} belongs to another user", f"if you trust it: LX_ALERTS={path}")
    return parse(text, path, check)


def parse(text: str, path: Path = Path(NAME), check: Check | None = None) -> Alerts:
    """Understand the text of such a file (see `load`).

    Raises:
        ConfigError: it is not understood; it names the rule and its line.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from None
    _refuse_unknown(given, _TOP, path.name)
    to = _texts(given.get("to", []), f"{path.name}: to")
    rules = given.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(each, dict) for each in rules):
        raise ConfigError(f"{path.name}: rule is not a list of tables", "each rule begins with a line [[rule]]")
    address, lines = given.get("address", ""), given.get("lines", Alerts.lines)
    if not isinstance(address, str) or (address and not re.match(r"https?://", address)):
        raise ConfigError(f"{path.name}: address must begin with http:// or https://, got {address!r}")
    if type(lines) is not int or not 0 <= lines <= _MOST_LINES:
        raise ConfigError(f"{path.name}: lines must be a whole number from 0 to {_MOST_LINES}, got {lines!r}")
    found = [_rule(each, place, path.name, check) for each, place in zip(rules, _places(text, rules), strict=True)]
    for rule in found:
        if not to and not rule.to:
            hint = 'write to = ["mailto://...", "slack://..."] at the top of the file'
            raise ConfigError(f"{path.name}: {rule.place}: nobody is to be told", hint)
    return Alerts(path, to, tuple(found), address.rstrip("/"), lines)


def _places(text: str, rules: list[dict[str, Any]]) -> list[str]:
    """What to call each rule in a message, with its line where that is sure."""
    starts = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    lines = [f", line {line}" for line in starts] if len(starts) == len(rules) else [""] * len(rules)
    kinds = [each.get("when") for each in rules]
    named = [f" ({kind})" if isinstance(kind, str) and kind in KINDS else "" for kind in kinds]
    return [f"rule {number}{kind}{line}" for number, (kind, line) in enumerate(zip(named, lines, strict=True), 1)]


def _rule(given: Mapping[str, Any], place: str, name: str, check: Check | None) -> Rule:
    where = f"{name}: {place}"
    when = given.get("when")
    if not isinstance(when, str) or when not in KINDS:
        what = (
            f"there is no rule for {when!r}.{did_you_mean(str(when), KINDS)}" if "when" in given else "when is missing"
        )
        raise ConfigError(f"{where}: {what}", f"valid: {', '.join(KINDS)}")
    _refuse_unknown(given, ("when", *KINDS[when][1], "to"), where)
    values: dict[str, Any] = {}
    for key, value in given.items():
        values[key] = _READ[key](value, f"{where}: {key}")
    if when == "metric" and not values.get("where"):
        raise ConfigError(f"{where}: where is missing", 'a filter, e.g. where = "train.loss > 100"')
    if check and values.get("where"):
        try:
            check(values["where"])
        except LightexError as error:
            raise ConfigError(f"{where}: where: {error.message}", *error.details) from None
    return Rule(**values, place=place)


def _refuse_unknown(given: Mapping[str, Any], valid: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in valid:
            raise ConfigError(f"{where}: unknown key '{key}'.{did_you_mean(key, valid)}", f"valid: {', '.join(valid)}")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{what} must be a text, got {value!r}")
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    """Addresses: what they are is never said, since they hold secrets."""
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise ConfigError(f"{what} must be a list of texts", 'e.g. to = ["${SLACK_URL}", "desktop://"]')
    return tuple(value)


def _regex(value: Any, what: str) -> str:
    try:
        re.compile(_text(value, what))
    except re.error as error:
        raise ConfigError(f"{what} is not a regular expression: {error}", str(value)) from None
    return str(value)


def _minutes(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ConfigError(f"{what} must be a number of minutes above 0, got {value!r}", "e.g. minutes = 30")
    return float(value)


def _share(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ConfigError(f"{what} must be a share above 0, up to 1, got {value!r}", "e.g. below = 0.05")
    return float(value)


def _free(value: Any, what: str) -> str:
    try:
        least_free(_text(value, what), 1)
    except ConfigError as error:
        raise ConfigError(f"{what} must be a share or a size, got {value!r}", 'e.g. "5%", "10GiB"') from error
    return str(value)


def _one_of(*valid: str) -> Callable[[Any, str], str]:
    def read(value: Any, what: str) -> str:
        if value not in valid:
            hint = did_you_mean(value, valid) if isinstance(value, str) else ""
            raise ConfigError(f"{what} cannot be {value!r}.{hint}", f"valid: {', '.join(valid)}")
        return str(value)

    return read


_READ: dict[str, Callable[[Any, str], Any]] = {
    "when": _text,
    "where": _text,
    "metric": _regex,
    "mode": _one_of("min", "max"),
    "minutes": _minutes,
    "below": _share,
    "free": _free,
    "path": _text,
    "act": _one_of("stop"),
    "to": _texts,
}


def least_free(free: str, total: float) -> float:
    """Bytes that must be left of a disk with so many in all.

    Raises:
        ConfigError: neither a share nor a size.
    """
    if match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", free):
        if float(match[1]) > 100:
            raise ConfigError(f"more than 100 %: {free!r}")
        return total * float(match[1]) / 100
    return parse_size(free)


def described(rule: Rule) -> str:
    """What a rule looks for, and what it does then, in words."""
    default = "the metric of its config" if rule.when == "no-improvement" else "a metric"
    what = f"a metric that matches '{rule.metric}'" if rule.metric else default
    words = KINDS[rule.when][0].format(what=what, disk=rule.path or "the runs", **vars(rule))
    only = f", where {rule.where}" if rule.where and rule.when != "metric" else ""
    return words + only + ("; then it is asked to end" if rule.act else "")


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
