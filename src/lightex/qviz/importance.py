"""Which parameters a metric hangs on, by fANOVA (Hutter et al., ICML 2014), as Optuna computes it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import isfinite
from typing import Any

from lightex.core.errors import LightexError, needing
from lightex.core.summary import Summary

_LEAST = 4  # runs: with fewer there is nothing to learn


def importance(runs: Sequence[Summary], metric: str, params: Sequence[str]) -> dict[str, float]:
    """The share of a metric's variance that each parameter explains, greatest first; they sum up to 1.

    Args:
        runs: those with a finite value of the metric count.
        metric: which; its last value.
        params: parameters that differ between the runs.

    Raises:
        LightexError: Optuna or scikit-learn is missing, there are too few runs, or they differ in nothing.
    """
    with needing("importance needs", "'lightex[importance]'"):
        import optuna
        from optuna.importance import FanovaImportanceEvaluator

    if not metric:
        raise LightexError("importance needs a metric, and these runs have none")
    used = [run for run in runs if isfinite(run.metrics.get(metric, float("nan")))]
    if len(used) < _LEAST:
        raise LightexError(f"importance needs {_LEAST} runs or more with '{metric}', there are {len(used)}")
    spaces = {name: _space(optuna.distributions, [run.params.get(name) for run in used]) for name in params}
    spaces = {name: space for name, space in spaces.items() if space is not None}
    if not spaces:
        raise LightexError(f"the {len(used)} runs with '{metric}' differ in no parameter")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for run in used:
        values = {name: _value(space, run.params.get(name)) for name, space in spaces.items()}
        trial = optuna.trial.create_trial(params=values, distributions=dict(spaces), value=run.metrics[metric])
        study.add_trial(trial)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except ImportError:
        raise LightexError("importance needs scikit-learn", "pip install 'lightex[importance]'") from None
    except RuntimeError:  # no variance at all: no parameter matters
        return dict.fromkeys(spaces, 0.0)
    return {name: float(share) for name, share in found.items()}


def _space(distributions: Any, values: list[Any]) -> Any:
    """What Optuna calls a distribution, of the values that there are; None: they are all the same."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) for value in values):
        low, high = min(values), max(values)
        if low == high:
            return None
        return distributions.FloatDistribution(low, high, log=low > 0 and high / low >= 100)
    choices = sorted({str(value) for value in values})
    return distributions.CategoricalDistribution(choices) if len(choices) > 1 else None


def _value(space: Any, value: Any) -> Any:
    return str(value) if hasattr(space, "choices") else float(value)
