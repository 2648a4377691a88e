"""From a name and what the command line adds to it, to the configs that are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightex.core.errors import ConfigError
from lightex.namedconf.check import check
from lightex.namedconf.layers import Source, change
from lightex.namedconf.overrides import Overrides, parse
from lightex.namedconf.registry import Named
from lightex.namedconf.search import Search
from lightex.namedconf.sweep import NOTHING, Axis, Points, Sweep


@dataclass(frozen=True)
class Expansion:
    """What a name stands for.

    Attributes:
        name: of the config or sweep.
        reference: what the registry finds it by; None: it has no name there.
        base: the config, with what is fixed on the command line; of a sweep, the first base.
        axes: what varies.
        points: the configs, with what each has of its own. Made one by one.
        source: where the config was written.
        search: what chooses configs around the base; `points` is the base alone then.
    """

    name: str
    reference: str | None
    base: Any
    axes: list[Axis]
    points: Sweep
    source: Source
    search: Search | None = None


def expand(
    named: Named, overrides: Sequence[str], parts: Mapping[str, Any], samples: int | None = None, seed: int = 0
) -> Expansion:
    """Resolve a name with overrides. What the command line names takes the place of what the sweep varies.

    Args:
        named: a config, a sweep or a search.
        overrides: `key=value` arguments (see `overrides.parse`).
        parts: values that have names, for `hp.model=vit_small`.
        samples: draw so many random points of what the command line varies.
        seed: of these draws.

    Raises:
        ConfigError: the config or an override is not valid.
    """
    search = named.value if isinstance(named.value, Search) else None
    if search:
        if samples is not None:
            raise ConfigError("a search draws by itself, samples are for sweeps", f"write: trials={samples}")
        search, overrides = search.settings(overrides)
        value = Sweep(((search.base, NOTHING),))
    else:
        value = named.value if isinstance(named.value, Sweep) else Sweep(((named.value, NOTHING),))
    value = value.on(lambda config: check(config, named.source))
    asked = parse(overrides, value.parts[0][0], parts, samples, seed)
    source = Source("command line", " ".join(overrides))
    if asked.fixed:
        value = value.on(lambda config: change(config, asked.fixed, source))
    if asked.paths:
        value = Sweep(tuple((base, _without(around, asked.paths)) for base, around in value.parts))
    value = value.times(asked.points)
    base = value.parts[0][0]
    if search:
        search = _around(search, base, asked)
    return Expansion(named.name, named.reference, base, value.axes, value, named.source, search)


def _around(search: Search, base: Any, asked: Overrides) -> Search:
    """A search with a changed base: what the command line fixes is not searched any more."""
    if several := set(asked.paths) - set(asked.fixed):
        path = min(several)
        raise ConfigError(f"{path}: a search takes one value of each", "what it may choose from stands in its space")
    space = {path: drawn for path, drawn in search.space.items() if path not in asked.fixed}
    if not space:
        raise ConfigError("nothing is left to search: the command line fixes all of it", "leave one path open")
    return replace(search, base=base, space=space)


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
