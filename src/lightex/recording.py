"""Writing a plan down: a sweep, and a directory for each of its runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightex.core.liveness import host, user
from lightex.core.root import Root, SweepDir, run_id
from lightex.core.rundir import QUEUED, RunDir
from lightex.dispatcher.job import Job
from lightex.experiment import Plan, Planned, dependencies
from lightex.jobs import load_engine, make_job
from lightex.namedconf.layers import sources
from lightex.namedconf.search import Search
from lightex.storage import snapshot
from lightex.supervision import Work

_MOST_BASES = 20  # of a sweep that is put together: beyond these their sources are taken to be as these ones'


def record(
    plan: Plan, root: Root, command_line: Sequence[str], tell: Callable[[str], None] = lambda _: None
) -> tuple[SweepDir, Work]:
    """Write a plan down as a sweep of queued runs, all of it or nothing; a search's runs come later.

    Args:
        plan: what.
        root: where.
        command_line: recorded with it.
        tell: is given lines of what its engine does first to get ready (see `Engine.stage` and `Engine.prepare`).

    Raises:
        ConfigError: what a run depends on does not exist.
        LightexError: the engine cannot get ready; nothing is written.
        StorageError: the folder cannot be written; what was written is removed.
    """
    earlier = dependencies(plan, root)
    engine = load_engine(plan.engine)
    engine.stage([item.config.storage for item in plan.experiments], plan.project, tell)
    engine.prepare([item.config for item in plan.experiments], plan.project, tell)
    sweep = root.new_sweep(about(plan, command_line))
    names = {item.config.name for item in plan.experiments}
    jobs: list[Job] = []
    try:
        sweep.claim()
        if plan.search:
            return sweep, Work()
        code = snapshot.take(plan.project, sweep.path)
        shared, created = identity_of_all(sweep, code), float(sweep.about["created"])
        width = max(3, len(str(len(plan.experiments) - 1)))
        ids = [run_id(created, f"{sweep.id}-{index:0{width}d}") for index in range(len(plan.experiments))]
        places = [f"{item.config.name}/{name}" for item, name in zip(plan.experiments, ids, strict=True)]
        for index, (item, place) in enumerate(zip(plan.experiments, places, strict=True)):
            wanted = item.config.depends_on
            after = [place for place in places if place.partition("/")[0] in wanted] if wanted else []
            after += [f"{run.path.parent.name}/{run.id}" for name in wanted for run in earlier.get(name, ())]
            jobs.append(add_run(root.path / place, item, code, {"index": index, "after": after} | shared))
    except BaseException:  # Ctrl-C too: half a sweep is worse than none
        for job in jobs:
            shutil.rmtree(job.run.path, ignore_errors=True)
        shutil.rmtree(sweep.path, ignore_errors=True)
        for folder in (*(root.path / name for name in names), sweep.path.parent, root.path):
            with suppress(OSError):  # others have runs there
                folder.rmdir()
        raise
    return sweep, Work(jobs)


def about(plan: Plan, command_line: Sequence[str]) -> dict[str, Any]:
    """What sweep.json says of a plan."""
    return {
        "config_name": plan.name,
        "config_reference": plan.expansion.reference,
        "engine": plan.engine,
        "overrides": list(plan.overrides),
        "command_line": list(command_line),
        "project": str(plan.project),
        "experiments": sorted({item.config.name for item in plan.experiments}),
        "total": plan.search.trials if plan.search else len(plan.experiments),
        "search": _method(plan.search) if plan.search else None,
        "sources": _sources(plan),
        "host": host(),
        "user": user(),
        "created": time.time(),
    }


def _sources(plan: Plan) -> dict[str, str]:
    """Where each value comes from that the sweep does not vary, as far as it is the same for all of its bases."""
    bases = [base for base, _ in plan.expansion.points.parts[:_MOST_BASES]]
    told = [sources(base, plan.expansion.source) for base in bases]
    same = {path: source for path, source in told[0].items() if all(each.get(path) == source for each in told)}
    # A default of ours stands in a file that means nothing to the project.
    return {path: source.kind if source.where.startswith("/") else str(source) for path, source in same.items()}


def _method(search: Search) -> dict[str, Any]:
    space = {path: drawn.text for path, drawn in search.space.items()}
    kept = ("trials", "sampler", "sampler_options", "pruner", "pruner_options", "seed")
    return {"space": space} | {name: getattr(search, name) for name in kept}


def identity_of_all(sweep: SweepDir, code: snapshot.Snapshot) -> dict[str, Any]:
    """What run.json says alike in all runs of a sweep."""
    told = sweep.about
    names = ("config_name", "config_reference", "engine", "created", "user", "host")
    return {"sweep": sweep.id, "git": code.commit, "project": told["project"]} | {name: told[name] for name in names}


def add_run(path: Path, item: Planned, code: snapshot.Snapshot, more: Mapping[str, Any]) -> Job:
    """Make the directory of one run, which is queued then.

    Args:
        path: where.
        item: the experiment.
        code: what it runs.
        more: of its identity: what it shares with others, its index, and the runs it comes after.

    Raises:
        StorageError: the folder cannot be written.
    """
    identity: dict[str, Any] = {
        "id": path.name,
        "experiment": item.config.name,
        "fingerprint": item.fingerprint,
        "command": item.command,
        "env": item.env,
        "cwd": str(item.cwd),
        "varied": item.varied,
        **more,
    }
    event = {"time": more["created"], "state": QUEUED, "attempt": 1}
    run = RunDir.create(path, identity, item.tree, event, lambda run: code.link_into(run.path))
    return make_job(run, 1, code.digest, new=True)
