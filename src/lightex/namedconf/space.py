"""What values are drawn from, by chance or by a search."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from lightex.core.errors import ConfigError
from lightex.core.naming import show
from lightex.namedconf.classes import is_config
from lightex.namedconf.tree import to_tree


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds.

    Attributes:
        low: the lower bound.
        high: the upper bound, included where numbers are whole.
        log: whether the logarithms of the numbers are alike, not the numbers.
        whole: whether they are integers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if self.log and self.low <= 0:
            raise ConfigError(f"{self.text}: both bounds must be positive")
        if self.high < self.low:
            raise ConfigError(f"{self.text}: the lower bound comes first")

    @property
    def text(self) -> str:
        """As it is written."""
        name = "integers" if self.whole else "loguniform" if self.log else "uniform"
        return f"{name}({self.low:g}, {self.high:g})"

    def draw(self, rng: random.Random) -> float:
        """One number. It comes of `random()`, the one method whose results Python promises to keep the same."""
        if self.whole:
            return self.low + int((self.high - self.low + 1) * rng.random())
        if self.log:
            return exp(log(self.low) + (log(self.high) - log(self.low)) * rng.random())
        return self.low + (self.high - self.low) * rng.random()

    def examples(self) -> list[Any]:
        """Values that a field must be able to hold."""
        return [self.low, self.high, self.draw(random.Random(0))]  # noqa: S311  no secret


@dataclass(frozen=True)
class Choice:
    """One of some values, which may be configs.

    Attributes:
        values: all there are.
    """

    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        """As it is written."""
        return f"choice({', '.join(show(plain(value)) for value in self.values)})"

    def draw(self, rng: random.Random) -> Any:
        """One of the values."""
        return self.values[int(len(self.values) * rng.random())]

    def examples(self) -> list[Any]:
        """Values that a field must be able to hold."""
        return list(self.values)


Distribution = Interval | Choice


def uniform(low: float, high: float) -> Distribution:
    """Floats between two bounds, all alike.

    Raises:
        ConfigError: `high` is below `low`.
    """
    return Interval(low, high)


def loguniform(low: float, high: float) -> Distribution:
    """Floats between two positive bounds, whose logarithms are alike.

    Raises:
        ConfigError: a bound is not positive, or `high` is below `low`.
    """
    return Interval(low, high, log=True)


def integers(low: int, high: int) -> Distribution:
    """Whole numbers from `low` to `high`, both included.

    Raises:
        ConfigError: `high` is below `low`.
    """
    return Interval(low, high, whole=True)


def choice(values: Sequence[Any]) -> Distribution:
    """One of some values."""
    return Choice(tuple(values))


def distribution(path: str, given: Any) -> Distribution:
    """What a path is drawn from; a list means `choice` of it.

    Raises:
        ConfigError: it is neither a distribution nor a list, or the list is empty.
    """
    return given if isinstance(given, (Interval, Choice)) else Choice(tuple(listed(path, given)))


def listed(path: str, given: Iterable[Any] | Any) -> list[Any]:
    """The values that are given for a path.

    Raises:
        ConfigError: it is no list, or there are none.
    """
    if isinstance(given, (Interval, Choice)):
        raise ConfigError(f"{path}: {given.text} is drawn from", "use sample({...}, n=20) for distributions")
    if isinstance(given, (str, bytes, dict)) or not hasattr(given, "__iter__"):
        raise ConfigError(f"{path}: the values of a sweep are a list, got {given!r}", f"write [{given!r}]")
    values = list(given)
    if not values:
        raise ConfigError(f"{path}: there are no values to choose from")
    return values


def plain(value: Any) -> Any:
    """A value for people: a config as its class and its fields."""
    return {"type": type(value).__name__, **to_tree(value)} if is_config(value) else value
