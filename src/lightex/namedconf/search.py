"""Configs that are chosen as others come out: what a search varies, how long, and by which method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightex.core.errors import ConfigError
from lightex.namedconf.classes import caller, is_config
from lightex.namedconf.layers import Source, change, locate
from lightex.namedconf.literal import literal
from lightex.namedconf.quick import parse
from lightex.namedconf.space import Distribution, distribution

_SETTINGS = {"trials": int, "sampler": str, "pruner": str | None, "seed": int}  # `lx run tune trials=5` changes these


@dataclass(frozen=True)
class Search:
    """What `search` describes; see there.

    Attributes:
        base: the config that all trials vary.
        space: what is drawn from, by path.
        trials: how many configs are tried in all.
        sampler: the method that chooses them.
        pruner: the method that gives up bad ones early; None: none.
        sampler_options: further arguments of the sampler.
        pruner_options: further arguments of the pruner.
        seed: of the sampler.
        source: where it was written.
    """

    base: Any
    space: Mapping[str, Distribution]
    trials: int
    sampler: str = "tpe"
    pruner: str | None = None
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    pruner_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    source: Source = field(default=Source("search"), compare=False)

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"search: trials must be 1 or more, got {self.trials}")

    @property
    def formula(self) -> str:
        """What it does, in words."""
        pruned = f", given up early by {self.pruner}" if self.pruner else ""
        return f"chosen by {self.sampler} as they go{pruned}"

    def on(self, function: Callable[[Any], Any]) -> Search:
        """The same search around another base."""
        return dataclasses.replace(self, base=function(self.base))

    def settings(self, texts: Sequence[str]) -> tuple[Search, list[str]]:
        """The search with its own settings of the command line (trials=5, sampler=random), and the other arguments.

        Raises:
            ConfigError: a setting is not of its type.
        """
        changed, rest = {}, []
        for text in texts:
            name, equals, given = text.partition("=")
            if equals and name in _SETTINGS:
                changed[name] = parse(_SETTINGS[name], literal(given), name, "command line")
            else:
                rest.append(text)
        return dataclasses.replace(self, **changed), rest

    def config(self, values: Mapping[str, Any]) -> Any:
        """The config of one point.

        Raises:
            ConfigError: its class does not allow these values together.
        """
        try:
            return change(self.base, values, self.source)
        except ConfigError:
            raise
        except Exception as error:  # the class's own checks
            raise ConfigError(f"refused by the config's class: {type(error).__name__}: {error}") from error


def search(
    base: Any,
    space: Mapping[str, Distribution | Sequence[Any]],
    trials: int,
    *,
    sampler: str = "tpe",
    pruner: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    pruner_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Search:
    """A sweep that chooses as it goes: `search(base, {"hp.lr": loguniform(1e-5, 1e-1)}, trials=50)`.

    What is good is told by the `metric` and the `mode` of the base. The methods are Optuna's (`lightex[search]`).

    Args:
        base: a config with a `metric`.
        space: distributions by path; a list means `choice` of it.
        trials: how many configs are tried in all, those that fail or are given up included.
        sampler: "tpe", "random", "cmaes", "gp", "qmc", ...: a sampler of Optuna without the word.
        pruner: "median", "hyperband", "successivehalving", ...: a pruner of Optuna, which ends runs whose metric is bad
            compared with that of others at the same step; None: every run goes to its end.
        sampler_options: further arguments of the sampler, such as {"n_startup_trials": 5}.
        pruner_options: further arguments of the pruner, such as {"n_warmup_steps": 3}.
        seed: of the sampler.

    Raises:
        ConfigError: a path leads nowhere, or its field cannot hold what is drawn.
    """
    source = Source("search", caller(1))
    if not is_config(base):
        raise ConfigError(f"search starts from a config, got {type(base).__name__}")
    if not space:
        raise ConfigError("search: there is nothing to draw from", 'e.g. {"hp.lr": loguniform(1e-5, 1e-1)}')
    drawn = {path: distribution(path, given) for path, given in space.items()}
    for path, one in drawn.items():
        for value in one.examples():  # not `change`: the class may refuse this value beside those of the base
            kind, _, owner = locate(base, path, value, source)
            parse(kind, value, path, str(source), owner)
    return Search(
        base, drawn, trials, sampler, pruner, dict(sampler_options or {}), dict(pruner_options or {}), seed, source
    )
