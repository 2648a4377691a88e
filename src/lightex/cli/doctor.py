"""`lx doctor`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightex.cli.output import paint, print_json
from lightex.core import plugins
from lightex.core.errors import LightexError
from lightex.core.root import Root
from lightex.core.units import format_size

if TYPE_CHECKING:
    from lightex.core.taxonomy import Experiment
    from lightex.dispatcher.engine import Engine


@click.command()
@click.option("--engine", "-e", help="Look at this engine in full.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@click.pass_obj
def command(root: str | None, /, engine: str | None, as_json: bool) -> int:
    """Check that this machine is ready: Python, the folder of runs, resources, engines, configs.

    \b
    lx doctor                all engines in short, those that configs name in full
    lx doctor -e docker      one engine in full: what it runs on, rights, images, mounts, GPUs
    """
    configs, experiments, project = _configs()
    engines = _engines(engine, experiments, project)
    findings = [_python(), _runs(Root.locate(root)), *_resources(), *engines, _git(), configs]
    if as_json:
        print_json([{"what": what, "ok": ok, "found": found} for what, ok, found in findings])
    else:
        for what, ok, found in findings:
            mark = {True: paint("ok  ", "green"), False: paint("FAIL", "red"), None: paint("-   ", dim=True)}[ok]
            click.echo(f"{mark}  {what:<9}  {found}")
    return 1 if any(ok is False for _, ok, _ in findings) else 0


Finding = tuple[str, bool | None, str]


def _python() -> Finding:
    found = shutil.which("python")
    note = "" if found else "; there is no 'python' on PATH, write python3 in commands"
    return "python", True, f"{sys.version.split()[0]} at {sys.executable}{note}"


def _runs(root: Root) -> Finding:
    folder = next(path for path in (root.path, *root.path.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return "runs", False, f"cannot write {root.path}: {error.strerror}; choose another with --root or LX_ROOT"
    free = format_size(shutil.disk_usage(folder).free)
    return "runs", True, f"{root.path}, {sum(1 for _ in root.runs())} runs, {free} free"


def _resources() -> list[Finding]:
    from lightex.dispatcher.capacity import this_machine

    capacity = this_machine()
    gpus = ", ".join(f"{gpu.name} ({format_size(gpu.memory)})" for gpu in capacity.gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    bounded = f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None else ""
    return [
        ("machine", True, f"{capacity.cpus:g} cpus, {format_size(capacity.memory)} of memory"),
        ("gpus", True if gpus else None, (gpus or "none found by NVML") + bounded),
    ]


def _engines(asked: str | None, experiments: list[Experiment[Any]], project: Path) -> list[Finding]:
    """What engines there are. One that is asked for, or that a config names, is looked at in full."""
    wanted = {asked} if asked else {experiment.engine for experiment in experiments}
    found: list[Finding] = []
    if asked:
        plugins.find(plugins.ENGINES, asked)
    for name in plugins.names(plugins.ENGINES):
        try:
            engine: Engine = plugins.load(plugins.ENGINES, name)()
        except LightexError as error:
            found.append((name, False if name in wanted else None, "; ".join((error.message, *error.details))))
            continue
        if name not in wanted:
            found.append((name, None, f"engine, not named by a config here (lx doctor -e {name} looks at it)"))
            continue
        own = [each for each in experiments if name in (each.engine, asked)]
        found += [(name, each.ok, f"{each.what}: {each.words}") for each in engine.examine(own, project)]
    return found


def _git() -> Finding:
    path = shutil.which("git")
    return "git", True if path else None, path or "not installed: code is recorded without commits"


def _configs() -> tuple[Finding, list[Experiment[Any]], Path]:
    """What configs there are here; the experiments of them, and their folder."""
    from lightex.cli.options import load_registry
    from lightex.core.taxonomy import Experiment

    try:
        registry = load_registry()
        configs = registry.names()
    except LightexError as error:
        return ("configs", False, error.message), [], Path.cwd()
    if not configs:
        return ("configs", None, "no lxconfig file here or above; lx init writes one"), [], registry.folder
    words = f"{', '.join(each.name for each in configs)} in {registry.folder}"
    bases = [each.base for each in configs if each.kind != "part"]
    return ("configs", True, words), [base for base in bases if isinstance(base, Experiment)], registry.folder
