"""Many configs from one: products, zips, lists, random samples, and compositions of these."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain, product
from math import prod
from typing import Any

from lightex.core.errors import ConfigError
from lightex.core.naming import show
from lightex.namedconf.classes import caller, is_config
from lightex.namedconf.layers import Source, change
from lightex.namedconf.space import Distribution, distribution, listed, plain

Values = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """What varies together: one factor of a product.

    Attributes:
        paths: what varies.
        points: the values, one mapping per point.
        text: what the values are, if they do not speak for themselves.
        source: where it was written.
    """

    paths: tuple[str, ...]
    points: tuple[Values, ...]
    text: str = ""
    source: Source = field(default=Source("sweep"), compare=False)

    @property
    def size(self) -> int:
        """How many points it has."""
        return len(self.points)

    def describe(self) -> str:
        """Its values, for people."""
        if self.text:
            return self.text
        shown = [", ".join(show(plain(value)) for value in point.values()) for point in self.points[:8]]
        return " | ".join(shown) + (f" | ... {self.size}" if self.size > len(shown) else "")


@dataclass(frozen=True)
class Points:
    """A set of points: a sum (alternatives) of products of axes. `*` multiplies, `+` appends."""

    terms: tuple[tuple[Axis, ...], ...]

    def __mul__(self, other: Points) -> Points:
        return Points(tuple((*a, *b) for a, b in product(self.terms, other.terms)))

    def __add__(self, other: Points) -> Points:
        return Points(self.terms + other.terms)

    def __len__(self) -> int:
        return sum(prod(axis.size for axis in term) for term in self.terms)

    def __iter__(self) -> Iterator[Values]:
        for term in self.terms:
            for parts in product(*(axis.points for axis in term)):
                yield reduce(lambda a, b: a | b, parts, {})

    def sourced(self, source: Source) -> Points:
        """The same points, with the place where they were written."""
        return Points(tuple(tuple(Axis(a.paths, a.points, a.text, source) for a in term) for term in self.terms))


NOTHING = Points(((),))
"""One point that changes nothing: the neutral element of `*`."""


def grid(values: Mapping[str, Sequence[Any]]) -> Points:
    """The product of lists of values: `grid({"hp.lr": [0.1, 0.01], "hp.seed": range(3)})` is 6 points.

    Raises:
        ConfigError: a list is empty, or is none.
    """
    axes = tuple(Axis((path,), tuple({path: value} for value in listed(path, given))) for path, given in values.items())
    return Points((axes,))


def zipped(values: Mapping[str, Sequence[Any]]) -> Points:
    """Lists of values that vary together: `zipped({"hp.lr": [0.1, 0.01], "hp.epochs": [3, 30]})` is 2 points.

    Raises:
        ConfigError: the lists differ in length, or are empty.
    """
    columns = {path: listed(path, given) for path, given in values.items()}
    lengths = {path: len(column) for path, column in columns.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise ConfigError(f"zipped values must be of one length: {told or 'there are none'}")
    rows = zip(*columns.values(), strict=True)
    return Points(((Axis(tuple(columns), tuple(dict(zip(columns, row, strict=True)) for row in rows)),),))


def points(given: Sequence[Mapping[str, Any]]) -> Points:
    """Points written out: `[{"hp.lr": 0.1, "hp.seed": 1}, {"hp.lr": 0.2}]`.

    Raises:
        ConfigError: there are none.
    """
    rows = tuple(dict(point) for point in given)
    if not rows:
        raise ConfigError("a sweep over a list of points needs at least one point")
    return Points(((Axis(tuple(dict.fromkeys(path for row in rows for path in row)), rows),),))


def sample(space: Mapping[str, Distribution | Sequence[Any]], n: int, seed: int = 0) -> Points:
    """Random points: `sample({"hp.lr": loguniform(1e-5, 1e-1), "hp.act": ["relu", "gelu"]}, n=20)`.

    Args:
        space: distributions by path; a list means `choice` of it.
        n: how many points.
        seed: the same seed gives the same points, on every version of Python.

    Raises:
        ConfigError: there is nothing to draw from.
    """
    if n < 1 or not space:
        raise ConfigError(f"sample needs n of at least 1 and something to draw from, got n={n} and {len(space)} paths")
    drawn = {path: distribution(path, given) for path, given in space.items()}
    rng = random.Random(seed)  # noqa: S311  no secret
    rows = tuple({path: one.draw(rng) for path, one in drawn.items()} for _ in range(n))
    text = ", ".join(one.text for one in drawn.values())
    return Points(((Axis(tuple(drawn), rows, f"{n} samples of {text}, seed {seed}"),),))


@dataclass(frozen=True)
class Point:
    """One config of a sweep, and what it has of its own."""

    config: Any
    varied: Values


@dataclass(frozen=True)
class Sweep:
    """Some configs that vary around others: pairs of a base and the points around it.

    Attributes:
        parts: bases with their points.
    """

    parts: tuple[tuple[Any, Points], ...]

    def __len__(self) -> int:
        return sum(len(around) for _, around in self.parts)

    def __iter__(self) -> Iterator[Point]:
        for base, around in self.parts:
            source = next((axis.source for term in around.terms for axis in term), Source("sweep"))
            for values in around:
                yield Point(change(base, values, source) if values else base, values)

    def __add__(self, other: Sweep) -> Sweep:
        return Sweep(self.parts + other.parts)

    def times(self, more: Points) -> Sweep:
        """Every config of this sweep, varied further."""
        return Sweep(tuple((base, around * more) for base, around in self.parts))

    def on(self, function: Callable[[Any], Any]) -> Sweep:
        """The same points around other bases."""
        return Sweep(tuple((function(base), around) for base, around in self.parts))

    @property
    def formula(self) -> str:
        """How the number of configs comes about: `hp.lr (3) x hp.seed (2) + hp.n (4)`."""
        terms = chain.from_iterable(around.terms for _, around in self.parts)
        products = (" x ".join(f"{', '.join(axis.paths)} ({axis.size})" for axis in term) or "1" for term in terms)
        return "" if not self.axes else " + ".join(products)

    @property
    def axes(self) -> list[Axis]:
        """What varies, each axis once."""
        terms = chain.from_iterable(around.terms for _, around in self.parts)
        return list({id(axis): axis for axis in chain.from_iterable(terms)}.values())


def sweep(base: Any, *parts: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | Points) -> Sweep:
    """Many configs from one: the product of all parts, around a base.

    Args:
        base: a config, or a sweep to vary further.
        parts: each a dict of lists (their product, see `grid`), a list of dicts (see `points`), or what `zipped`,
            `sample`, `grid` and compositions of them (`*`, `+`) give.

    Raises:
        ConfigError: a part is empty or of another kind.
    """
    source = Source("sweep", caller(1))
    total = reduce(lambda a, b: a * b, (_as_points(part).sourced(source) for part in parts), NOTHING)
    if isinstance(base, Sweep):
        return base.times(total)
    if not is_config(base):
        raise ConfigError(f"sweep starts from a config or a sweep, got {type(base).__name__}")
    return Sweep(((base, total),))


def _as_points(part: Any) -> Points:
    if isinstance(part, Points):
        return part
    if isinstance(part, Mapping):
        return grid(part)
    if isinstance(part, Sequence) and not isinstance(part, str):
        return points(part)
    raise ConfigError(f"a part of a sweep is a dict of lists, a list of dicts, zipped(..) or sample(..), got {part!r}")
