"""Optuna, as a search needs it: a study in a file of its own, that asks, hears and judges.

Optuna's journal storage is kept, with a backend that writes as our other journals do: a line is whole or not there, and
a lock is let go by the kernel however its holder ended (Optuna's own lock files hold others up for 30 s after a kill).
"""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightex.core import journal
from lightex.core.errors import ConfigError, did_you_mean, needing
from lightex.namedconf.search import Search
from lightex.namedconf.space import Choice, Distribution, plain

with needing("a search needs", "'lightex[search]'"):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

_PLAIN = (str, int, float, bool, type(None))  # what Optuna keeps as it is
_REFUSED = 100  # points in a row that the config's class refuses


class Study:
    """The trials of one search, by their numbers in the study.

    Args:
        path: the file; it is made where it is missing. One process at a time writes trials: who holds the sweep.
        search: what is searched, and how.
        name: of the study.
        mode: "min" or "max".

    Raises:
        ConfigError: the sampler, the pruner, or an option of theirs does not exist, or the space has changed.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path, search: Search, name: str, mode: str) -> None:
        self.search, self.path = search, path
        self._space = {at: _optuna(drawn) for at, drawn in search.space.items()}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with _translated(path):
            storage = JournalStorage(_Backend(path))
            self._study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="minimize" if mode == "min" else "maximize",
                load_if_exists=True,
            )
            done = len(self._study.get_trials(deepcopy=False))
            # A sampler begins its random numbers anew with each process: it must not draw the same ones again.
            self._study.sampler, self._study.pruner = _sampler(search, done), _pruner(search)
            self._open = {
                frozen.number: Trial(self._study, frozen._trial_id)
                for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            }
            for number, trial in list(self._open.items()):
                if not self._space.keys() <= trial.params.keys():  # killed, or out of room, while it was drawn
                    self._study.tell(self._open.pop(number), state=TrialState.FAIL)

    @property
    def open(self) -> dict[int, dict[str, Any]]:
        """The values of the trials that have not ended, by number."""
        return {number: self._values(trial.params) for number, trial in self._open.items()}

    def ask(self) -> tuple[int, dict[str, Any]]:
        """A new trial: its number, and a value for each path.

        Raises:
            ConfigError: the config's class refuses all that is drawn, or the space has changed.
        """
        reason = None
        for _ in range(_REFUSED):
            with _translated(self.path):
                trial = self._study.ask(self._space)
            values = self._values(trial.params)
            try:
                self.search.config(values)
            except ConfigError as error:
                reason = error
                with _translated(self.path):
                    self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._open[trial.number] = trial
            return trial.number, values
        raise ConfigError(f"search: the config's class refused {_REFUSED} points in a row", *str(reason).split("\n"))

    def reported(self, number: int) -> set[int]:
        """The steps of a trial that are known."""
        trial = self._open.get(number)
        return set(self._study._storage.get_trial(trial._trial_id).intermediate_values) if trial else set()

    def report(self, number: int, points: Mapping[int, float]) -> None:
        """Tell the metric of a trial that goes on, by step."""
        if trial := self._open.get(number):
            with _translated(self.path):
                for step, value in points.items():
                    trial.report(value, step)

    def hopeless(self, number: int) -> bool:
        """Whether the pruner would give a trial up."""
        trial = self._open.get(number)
        with _translated(self.path):
            return bool(trial and trial.should_prune())

    def tell(self, number: int, value: float | None, pruned: bool = False) -> bool:
        """Tell how a trial ended; whether it was open.

        Args:
            number: of the trial.
            value: of its metric; None: there is none, the trial has failed.
            pruned: whether it was given up.
        """
        trial = self._open.get(number)
        if trial is None:
            return False
        with _translated(self.path):
            if pruned:
                self._study.tell(trial, state=TrialState.PRUNED)
            elif value is None:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, value)
        del self._open[number]
        return True

    def add(self, number: int, value: float) -> None:
        """Tell that a trial which had ended otherwise has come out well in a further attempt; once."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if any(number in (trial.number, trial.user_attrs.get("again")) for trial in trials):
            return
        old: FrozenTrial = self._study.get_trials(deepcopy=False)[number]
        again = create_trial(params=old.params, distributions=old.distributions, value=value,
                             user_attrs={"again": number})  # fmt: skip
        with _translated(self.path):
            self._study.add_trial(again)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {path: _back(self.search.space[path], value) for path, value in params.items() if path in self._space}


class _Backend(JournalFileBackend):
    """Optuna's file of JSON lines, written as `core.journal` writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._locked() as descriptor:
            journal.cut_torn_line(descriptor)
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self._locked() as descriptor:
            journal.write_whole(descriptor, "".join(json.dumps(log) + "\n" for log in logs).encode())

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = journal.open_for_append(self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def check(search: Search) -> None:
    """Check the methods of a search, without a study.

    Raises:
        ConfigError: the sampler, the pruner, or an option of theirs does not exist.
    """
    _sampler(search, 0)
    _pruner(search)


def _sampler(search: Search, done: int) -> optuna.samplers.BaseSampler:
    known = {
        name.removesuffix("Sampler").lower(): getattr(optuna.samplers, name)
        for name in optuna.samplers.__all__
        if name.endswith("Sampler") and "seed" in inspect.signature(getattr(optuna.samplers, name)).parameters
    }
    # Those that need more than options are no names here; brute force is a sweep, and stops only studies that it runs.
    known = {name: method for name, method in known.items() if not _needs(method) and name != "bruteforce"}
    given = {"seed": search.seed + done}
    made: optuna.samplers.BaseSampler = _made("sampler", search.sampler, known, search.sampler_options, given)
    return made


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    if search.pruner is None:
        return optuna.pruners.NopPruner()
    known = {
        name.removesuffix("Pruner").lower(): getattr(optuna.pruners, name)
        for name in optuna.pruners.__all__
        if name not in ("BasePruner", "NopPruner", "PatientPruner")
    }
    made: optuna.pruners.BasePruner = _made("pruner", search.pruner, known, search.pruner_options, {})
    return made


def _made(kind: str, name: str, known: Mapping[str, Any], options: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(f"there is no {kind} '{name}'.{did_you_mean(name, known)}", f"valid: {', '.join(known)}")
    valid = [option for option in inspect.signature(known[name]).parameters if option not in given]
    for option in options:
        if option not in valid:
            raise ConfigError(
                f"{kind}_options: {name} has no '{option}'.{did_you_mean(option, valid)}", f"valid: {', '.join(valid)}"
            )
    if lacks := [option for option in _needs(known[name]) if option not in options]:
        raise ConfigError(f"the {kind} {name} needs {', '.join(lacks)}", f"{kind}_options={{'{lacks[0]}': ...}}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a method is experimental
            return known[name](**options, **given)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{kind} {name}: {error}", f"{kind}_options: {', '.join(valid)}") from error


def _needs(method: Any) -> list[str]:
    parameters = inspect.signature(method).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def _optuna(drawn: Distribution) -> Any:
    if isinstance(drawn, Choice):
        return optuna.distributions.CategoricalDistribution(_names(drawn))
    if drawn.whole:
        return optuna.distributions.IntDistribution(int(drawn.low), int(drawn.high), log=drawn.log)
    return optuna.distributions.FloatDistribution(drawn.low, drawn.high, log=drawn.log)


def _names(choice: Choice) -> list[Any]:
    """The choices as Optuna can keep them: others than plain ones as texts."""
    if all(isinstance(value, _PLAIN) for value in choice.values):
        return list(choice.values)
    return [json.dumps(journal.jsonable(plain(value)), default=str) for value in choice.values]


def _back(drawn: Distribution, value: Any) -> Any:
    return drawn.values[_names(drawn).index(value)] if isinstance(drawn, Choice) else value


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Optuna's errors as ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise journal.cannot_write(path, error) from error
    except ImportError as error:  # some methods need a package that Optuna asks for only when they are at work
        raise ConfigError(f"search: {error}", "install it, or choose another sampler or pruner") from error
    except ValueError as error:  # another space than before, or a file that is broken
        raise ConfigError(f"search: {error}", f"its trials are in {path}; for another space start it anew") from error
