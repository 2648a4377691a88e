"""Runs that differ in nothing but their seed, taken together: mean, spread, number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

from lightex.core.summary import Summary

_SEED = re.compile(r"(?:^|[._])(?:seed|random_?state)$", re.IGNORECASE)


@dataclass(frozen=True)
class Spread:
    """Several values of one metric.

    Attributes:
        mean: of the finite ones.
        std: their standard deviation with n - 1; None of a single one.
        n: how many are finite.
    """

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """Runs that belong together.

    Attributes:
        runs: the members.
        params: what they have in common, of the parameters that differ between groups.
    """

    runs: list[Summary]
    params: dict[str, Any]

    def spread(self, metric: str) -> Spread | None:
        """Mean and spread of a metric's last values; None where no member has a finite one."""
        return spread([run.metrics[metric] for run in self.runs if metric in run.metrics])


def is_seed(name: str) -> bool:
    """Whether a parameter is a seed by its name: seed, hp.seed, random_state."""
    return _SEED.search(name) is not None


def varying(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that do not have the same value in all of some mappings; one that is not there is None."""
    names = dict.fromkeys(name for each in values for name in each)
    return [name for name in names if len({repr(each.get(name)) for each in values}) > 1]


def group(runs: Sequence[Summary]) -> list[Group]:
    """Runs that are equal in all parameters but seeds, in the order of their first members."""
    found: dict[str, list[Summary]] = {}
    for run in runs:
        kept = {name: value for name, value in run.params.items() if not is_seed(name)}
        found.setdefault(repr((run.experiment, sorted(kept.items(), key=lambda item: item[0]))), []).append(run)
    groups = list(found.values())
    differing = [name for name in varying([one[0].params for one in groups]) if not is_seed(name)]
    return [Group(one, {name: one[0].params.get(name) for name in differing}) for one in groups]


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation of the finite values; None: there are none."""
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return None
    mean = sum(finite) / len(finite)
    if len(finite) == 1:
        return Spread(mean, None, 1)
    return Spread(mean, sqrt(sum((value - mean) ** 2 for value in finite) / (len(finite) - 1)), len(finite))
