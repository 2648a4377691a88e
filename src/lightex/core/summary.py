"""What became of a run, read from its directory: state, reason, parameters, last, least and greatest metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lightex.core import journal, jsonlib
from lightex.core.errors import NewerFormatError, StorageError
from lightex.core.journal import Record
from lightex.core.liveness import alive
from lightex.core.logged import Logged, read_logged
from lightex.core.naming import flatten
from lightex.core.root import Root
from lightex.core.rundir import ENDED, LOST, QUEUED, RunDir, short

ODD = (OSError, TypeError, ValueError, AttributeError, LookupError, RecursionError)
"""What reading a run may raise whose files a person or another program wrote, beside `StorageError`."""

_TEXTS = ("sweep", "reason", "config_name", "fingerprint", "engine", "user", "host")
_NUMBERS = ("created", "started", "ended")
_COUNTS = ("attempt", "exit_code")


@dataclass(kw_only=True)
class Summary:
    """One run, as `lx ls` and `lx compare` show it. Times are UTC seconds since the epoch.

    Attributes whose names do not tell:
        host: where it was submitted.
        node: where it runs or ran, as far as its engine told.
        gpus: those that it was given there.
        wants: the resources of its config, and its priority, as people have changed them since.
        progress: what it said of it last: `done`, `total` (or None), `time`; and `first`, `since`: its first word.
    """

    id: str
    sweep: str | None = None
    experiment: str
    status: str
    reason: str | None = None
    dir: str
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    varied: dict[str, Any] = field(default_factory=dict)
    config_name: str | None = None
    fingerprint: str | None = None
    attempt: int = 0
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    objective: tuple[str, str] | None = None
    best: dict[str, dict[str, float | None]] = field(default_factory=dict)
    engine: str | None = None
    user: str | None = None
    host: str | None = None
    note: str = ""
    archived: bool = False
    node: str | None = None
    gpus: list[str] = field(default_factory=list)
    wants: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, float | None] | None = None

    @property
    def short_id(self) -> str:
        """The id without its time."""
        return short(self.id)

    @property
    def duration(self) -> float | None:
        """Seconds between the start and the end of the last attempt."""
        return self.ended - self.started if self.started and self.ended else None

    def as_json(self) -> dict[str, Any]:
        """The summary as `lx ls --json` prints it; non-finite metrics are still numbers (`journal.jsonable`)."""
        return {**vars(self), "duration": self.duration}


@dataclass(frozen=True)
class Why:
    """Why a run is as it is.

    Attributes:
        summary: of the run.
        cause: why it did not succeed, a key of CAUSES; None: it did, or has not ended.
        facts: what there is to say, a line each.
        last_lines: of its output.
        steps: commands that may help, the likeliest first.
    """

    summary: Summary
    cause: str | None
    facts: list[str]
    last_lines: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def summarize(run: RunDir, supervised: Callable[[str], bool]) -> Summary:
    """Read a run's directory.

    Args:
        run: the run.
        supervised: tells of a sweep, by its id, whether its dispatcher lives.

    Raises:
        StorageError: the directory is broken, or of a newer format.
    """
    return summary_of(run, run.events(), read_logged(run), supervised)


def summary_of(run: RunDir, events: Sequence[Record], logged: Logged, supervised: Callable[[str], bool]) -> Summary:
    """The same from events and records that are read already.

    Raises:
        StorageError: the directory is broken, or of a newer format.
    """
    identity, notes = run.identity, run.notes
    last: Record = events[-1] if events else {"state": QUEUED}
    status, reason = seen_state(last, identity.get("sweep"), supervised)
    began: Record = next((event for event in reversed(events) if event.get("state") == "RUNNING"), {})
    if status in ENDED and began.get("attempt", 1) != last.get("attempt", 1):
        began = {}  # it has ended before it was started once more
    process = began.get("process")
    tags = {**(run.config.get("tags") or {}), **logged.tags, **notes["tags"]}
    summary = Summary(
        id=run.id,
        sweep=identity.get("sweep"),
        experiment=str(identity.get("experiment")),
        status=status,
        reason=reason,
        dir=str(run.path),
        params=flat_params(run.config) | logged.params,
        metrics={name: metric.last for name, metric in logged.metrics.items()},
        tags={name: value for name, value in tags.items() if value is not None},
        varied=identity.get("varied") or {},
        config_name=identity.get("config_name"),
        fingerprint=identity.get("fingerprint"),
        attempt=last.get("attempt", 1),
        created=identity.get("created"),
        started=began.get("time"),
        ended=last.get("time") if status in ENDED and last.get("state") in ENDED else None,
        exit_code=last.get("exit_code"),
        objective=(run.config["metric"], run.config["mode"]) if run.config.get("metric") else None,
        best={
            name: {"min": metric.min, "max": metric.max, "step": metric.step} for name, metric in logged.metrics.items()
        },
        engine=identity.get("engine"),
        user=identity.get("user"),
        host=identity.get("host"),
        note=notes["note"],
        archived=notes["archived"],
        node=str(process["host"]) if isinstance(process, dict) and process.get("host") else None,
        gpus=[str(gpu) for gpu in began.get("gpus") or ()],
        wants=_wants(run.config, events),
        progress=logged.progress,
    )
    _check(summary)
    return summary


def _wants(config: Mapping[str, Any], events: Iterable[Record]) -> dict[str, Any]:
    """What a run needs to start, and how urgent it is."""
    now = dict(config)
    for event in events:
        if isinstance(changes := event.get("changes"), dict):
            now |= changes
    resources = now.get("resources")
    wanted = {name: value for name, value in resources.items() if value} if isinstance(resources, dict) else {}
    return wanted | ({"priority": now["priority"]} if now.get("priority") else {})


def _check(summary: Summary) -> None:
    """Refuse what others would stumble over: values of another type, or nested deeper than JSON is written."""
    kinds: tuple[tuple[Sequence[str], Any], ...] = ((_TEXTS, str), (_NUMBERS, (int, float)), (_COUNTS, int))
    for names, kind in kinds:
        for name in names:
            value = getattr(summary, name)
            if value is not None and not isinstance(value, kind):
                raise StorageError(f"its {name} is {value!r}")
    if not isinstance(summary.varied, dict):
        raise StorageError(f"its varied is {summary.varied!r}")
    if any(abs(getattr(summary, name) or 0) >= 2**63 for name in _COUNTS):
        raise StorageError(f"its attempt is {summary.attempt}, its exit_code {summary.exit_code}")
    jsonlib.dumps((summary.params, summary.tags, summary.varied))


def status_of(run: RunDir) -> tuple[str, str | None]:
    """The state of a run and the reason, without reading what it logged.

    Raises:
        StorageError: the directory is gone, broken, or of a newer format.
    """
    root = Root(run.path.parent.parent)
    return seen_state(run.last_event, run.identity.get("sweep"), lambda sweep: root.sweep(sweep).supervised)


def read_all(root: Root, runs: Iterable[RunDir]) -> list[Summary]:
    """Read many runs of one root; one that is broken is shown as such and does not hide the others.

    Raises:
        StorageError: a run directory is of a newer format.
    """
    supervised = cache(lambda sweep: root.sweep(sweep).supervised)
    return [_read_or_broken(run, supervised) for run in runs]


def _read_or_broken(run: RunDir, supervised: Callable[[str], bool]) -> Summary:
    try:
        return summarize(run, supervised)
    except NewerFormatError:
        raise
    except (StorageError, *ODD) as error:
        return broken(run, error)


def broken(run: RunDir, error: Exception) -> Summary:
    """What stands for a run whose directory cannot be read.

    Args:
        run: which.
        error: a `StorageError`, or one of ODD.
    """
    why = error.message if isinstance(error, StorageError) else f"{type(error).__name__}: {error}"
    experiment, folder = run.path.parent.name, str(run.path)
    return Summary(id=run.id, experiment=experiment, status=LOST, reason=f"broken: {why}", dir=folder)


def latest_metrics(run: RunDir) -> dict[str, Any]:
    """The metrics of the last record of the run's first writer, with the step, read from its last 4 KiB."""
    for record in reversed(journal.tail(run.records_file(), 4096)):
        if isinstance(metrics := record.get("metrics"), dict):
            return ({"step": record["step"]} if record.get("step") is not None else {}) | metrics
    return {}


def flat_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a config by dotted names: {"hp": {"lr": 0.1}} -> {"hp.lr": 0.1}; lists stay lists."""
    return {} if config.get("hp") is None else flatten(config["hp"], "hp")


def seen_state(last: Record, sweep: str | None, supervised: Callable[[str], bool]) -> tuple[str, str | None]:
    """The last state that was written down, corrected by what can be seen of the processes.

    Args:
        last: the last event.
        sweep: the id of the run's sweep.
        supervised: tells of a sweep, by its id, whether its dispatcher lives.
    """
    state, reason = str(last.get("state")), last.get("reason")
    if state in ENDED:
        return state, reason
    if sweep and supervised(sweep):
        return state, reason
    if state == QUEUED:
        return state, f"nothing is at work on it: lx resume {sweep}" if sweep else reason
    lives = alive(last.get("process"))
    if lives is False:
        return (
            LOST,
            f"it and its dispatcher are gone, and its end is not noted down: lx resume {sweep}"
            if sweep
            else "it was killed",
        )
    if sweep:  # a process of this machine, or of another one, or a job of a cluster
        unsure = "" if lives else ", and whether it still runs is not known here"
        return state, f"its dispatcher is gone{unsure}: lx resume {sweep} looks after it"
    return state, reason
