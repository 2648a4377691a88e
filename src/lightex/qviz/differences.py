"""In what runs differ beside their parameters: config, code, environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lightex.core.errors import StorageError
from lightex.core.naming import flatten
from lightex.core.rundir import RunDir
from lightex.qviz.groups import varying

_NOT_SETTINGS = ("hp", "name")  # parameters are told as such; a name is no setting


@dataclass(frozen=True)
class Differences:
    """What is not the same for all of some runs.

    Attributes:
        config: dotted path to the value of each run, None where it has none.
        environment: the same of `python`, `system`, ..., and of `packages.NAME`.
        code: digest of the code (None: not kept) to the runs that it made.
    """

    config: dict[str, list[Any]]
    environment: dict[str, list[Any]]
    code: dict[str | None, list[RunDir]]


def differences(runs: Sequence[RunDir]) -> Differences:
    """Compare runs; what cannot be read of one counts as missing."""
    configs = [_config(run) for run in runs]
    environments = [flatten(_read(run, "environment")) for run in runs]
    code: dict[str | None, list[RunDir]] = {}
    for run in runs:
        digest = None
        with suppress(StorageError):
            digest = run.code_file.name.split(".")[1] if run.code_file else None
        code.setdefault(digest, []).append(run)
    said = [each for each in environments if each]
    return Differences(_differing(configs), _differing(environments) if len(said) == len(runs) else {}, code)


def _config(run: RunDir) -> dict[str, Any]:
    config = _read(run, "config")
    return flatten({name: value for name, value in config.items() if name not in _NOT_SETTINGS})


def _read(run: RunDir, what: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = getattr(run, what)
    except StorageError:
        return {}
    return found


def _differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [each.get(name) for each in values] for name in varying(values)}
