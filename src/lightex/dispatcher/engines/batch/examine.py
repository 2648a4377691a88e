"""Whether Slurm would take some experiments, and what `lx doctor` says of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.taxonomy import Experiment
from lightex.dispatcher.engine import Finding
from lightex.dispatcher.engines.batch import commands, look, options, request
from lightex.dispatcher.engines.batch.commands import RefusedError, ask
from lightex.dispatcher.engines.batch.submission import is_limit


def shapes(experiments: Iterable[Experiment[Any]]) -> Iterable[Experiment[Any]]:
    """Some experiments less those that ask for the same as one before."""
    return {request.of_experiment(each).asked: each for each in experiments}.values()


def refusal(experiment: Experiment[Any]) -> str | None:
    """Why Slurm would not take an experiment, in its own words, or None; nothing is submitted.

    That there are too many jobs now is no reason: that passes.

    Raises:
        AwayError: the controller does not answer.
    """
    try:
        ask("sbatch", "--test-only", *request.of_experiment(experiment).flags, given="#!/bin/bash\n")
    except RefusedError as error:
        words = error.message.removeprefix("allocation failure: ")
        return None if is_limit(words) else words
    return None


def advice(experiment: Experiment[Any]) -> list[str]:
    """What helps where Slurm would not take an experiment."""
    read = options.read(experiment.engine_options.get("slurm", {}))
    asked = " ".join(request.of_experiment(experiment).asked)
    where = f" --partition={read.partition}" if read.partition else ""
    return [f"asked: sbatch {asked}", f"what there is: sinfo{where} -o '%P %l %D %c %m %G %f'"]


def examine(experiments: Sequence[Experiment[Any]]) -> Iterator[Finding]:
    """Look at the commands, the controller, the partitions, and whether it would take what experiments want."""
    try:
        commands.check()
        facts = look.facts()
        look.now(["lx-doctor"])  # that its answer is one that we can read
        rows = ask("sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G").splitlines()
    except LightexError as error:
        yield Finding("slurm", False, "; ".join((error.message, *error.details)))
        return
    yield Finding("slurm", True, f"{facts.version}, cluster {facts.cluster}; arrays of up to {facts.array_size - 1}")
    kept = "ends are kept by it" if facts.accounting else "none: ends are known by each run's own notes"
    yield Finding("accounting", facts.accounting or None, kept)
    for row in rows:
        name, up, limit, nodes, cpus, memory, gpus = (*row.split("|"), *[""] * 7)[:7]
        has = f"{nodes} nodes of {cpus} CPUs and {memory} MiB" + (f", {gpus}" if gpus not in ("", "(null)") else "")
        yield Finding(f"partition {name}", up == "up", f"{up}, {has}; time limit {limit}")
    for each in shapes(experiments):
        try:
            refused = refusal(each)
        except LightexError as error:
            refused = error.message
        wants = " ".join(request.of_experiment(each).asked)
        words = f"Slurm would not take it: {refused} ({wants})" if refused else f"Slurm would take it: {wants}"
        yield Finding(each.name, not refused, words)
