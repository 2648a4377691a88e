"""`lx ls`."""

from __future__ import annotations

import time
from typing import Any

import click

from lightex.cli.output import age, print_json, print_table
from lightex.core.naming import label, short_names, show
from lightex.core.root import Root
from lightex.core.rundir import QUEUED, RunDir
from lightex.core.summary import Summary
from lightex.core.summary import read_all as read_summaries

_SHOWN = 20


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.option(
    "--status", "-s", "statuses", multiple=True, help="Only runs of this state, e.g. failed; may be repeated."
)
@click.option("--all", "-a", "everything", is_flag=True, help=f"All runs, not only the latest {_SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="All runs as a JSON array.")
@click.pass_obj
def command(
    root: str | None, which: tuple[str, ...], statuses: tuple[str, ...], everything: bool, as_json: bool
) -> None:
    """List runs, the latest last."""
    folder = Root.locate(root)
    runs = [run for prefix in which for run in folder.find(prefix)] if which else list(folder.runs())
    wanted = {status.upper() for status in statuses}
    cut = len(runs) - _SHOWN if not (which or wanted or everything or as_json) else 0
    found = [one for one in read_summaries(folder, runs[max(0, cut) :]) if not wanted or one.status in wanted]
    if as_json:
        print_json([summary.as_json() | {"loggers": _lags(summary)} for summary in found])
        return
    if not found:
        click.echo(f"no runs in {folder.path}" + (" match" if runs else " yet. Start some with: lx run NAME"))
        return
    if cut > 0:
        click.echo(f"{cut} earlier runs are not shown (lx ls --all)")
    now = time.time()
    first = {s.sweep: s.id for s in reversed(found) if s.status == QUEUED and not s.reason}
    waits = {run: folder.sweep(str(sweep)).waits_for for sweep, run in first.items()}
    rows = [[s.short_id, s.experiment, s.status, _when(s, now), _about(s, waits.get(s.id))] for s in found]
    print_table(["run", "experiment", "state", "when", ""], rows)


def _when(summary: Summary, now: float) -> str:
    since = summary.ended or summary.started or summary.created
    return age(now - since) if since else "-"


def _about(summary: Summary, waits: str | None) -> str:
    if waits:
        return f"{label(summary.varied)}  waits for {waits}".strip()
    lags = "".join(
        f"  {lag['sink']} behind" + (f": {lag['error']}" if lag["error"] else "")
        for lag in _lags(summary)
        if lag["behind"] or lag["error"]
    )
    if summary.status not in ("SUCCEEDED", "RUNNING") and summary.reason:
        return f"{label(summary.varied)}  {summary.reason}{lags}".strip()
    names = short_names(summary.metrics)
    metrics = "  ".join(f"{names[name]} {show(value)}" for name, value in list(summary.metrics.items())[:4])
    return f"{label(summary.varied)}  {metrics}{lags}".strip()


def _lags(summary: Summary) -> list[dict[str, Any]]:
    """How far the run's loggers have got."""
    run = RunDir(summary.dir)
    if not run.sinks.is_dir():
        return []
    from lightex.mulogger.delivery import chosen, progress

    return [vars(progress(run, name)) for name in chosen(run)]
