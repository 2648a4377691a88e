"""From a name and what the command line adds to it, to the configs that are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightex.namedconf.check import check
from lightex.namedconf.layers import Source, change
from lightex.namedconf.overrides import parse
from lightex.namedconf.registry import Named, Registry
from lightex.namedconf.sweep import NOTHING, Axis, Points, Sweep


@dataclass(frozen=True)
class Expansion:
    """What a name stands for.

    Attributes:
        name: of the config or sweep.
        reference: what the registry finds it by.
        base: the config, with what is fixed on the command line; of a sweep, the first base.
        axes: what varies.
        points: the configs, with what each has of its own. Made one by one.
        source: where the config was written.
    """

    name: str
    reference: str
    base: Any
    axes: list[Axis]
    points: Sweep
    source: Source


def expand(
    named: Named, overrides: Sequence[str], registry: Registry, samples: int | None = None, seed: int = 0
) -> Expansion:
    """Resolve a name with overrides. What the command line names takes the place of what the sweep varies.

    Args:
        named: a config or a sweep.
        overrides: `key=value` arguments (see `overrides.parse`).
        registry: for named parts.
        samples: draw so many random points of what the command line varies.
        seed: of these draws.

    Raises:
        ConfigError: the config or an override is not valid.
    """
    value = named.value if isinstance(named.value, Sweep) else Sweep(((named.value, NOTHING),))
    value = value.on(lambda config: check(config, named.source))
    asked = parse(overrides, value.parts[0][0], registry.values(), samples, seed)
    source = Source("command line", " ".join(overrides))
    if asked.fixed:
        value = value.on(lambda config: change(config, asked.fixed, source))
    if asked.paths:
        value = Sweep(tuple((base, _without(around, asked.paths)) for base, around in value.parts))
    value = value.times(asked.points)
    return Expansion(named.name, named.reference, value.parts[0][0], value.axes, value, named.source)


def _without(around: Points, paths: Sequence[str]) -> Points:
    """Points that leave some paths alone; an axis that varied nothing else is gone."""
    terms = []
    for term in around.terms:
        kept = []
        for axis in term:
            left = tuple(path for path in axis.paths if path not in paths)
            if left == axis.paths:
                kept.append(axis)
            elif left:
                rows = tuple({path: row[path] for path in left if path in row} for row in axis.points)
                kept.append(Axis(left, rows, axis.text, axis.source))
        terms.append(tuple(kept))
    return Points(tuple(terms))
