"""What `lx show RUN` prints: all that is known of one run."""

from __future__ import annotations

from typing import Any

import click

from lightex.cli.output import COLOURS, paint, print_json, print_table
from lightex.core.logged import read_logged
from lightex.core.naming import show
from lightex.core.root import Root
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary, summarize
from lightex.core.units import format_duration, format_size
from lightex.mulogger.delivery import Progress, chosen, progress


def show_run(run: RunDir, as_json: bool) -> None:
    """Print a run.

    Raises:
        StorageError: its directory is broken, or of a newer format.
    """
    root = Root(run.path.parent.parent)
    summary = summarize(run, lambda sweep: root.sweep(sweep).supervised)
    logged = read_logged(run)
    lags = [progress(run, name) for name in chosen(run)]
    if as_json:
        metrics = {
            name: {part: getattr(metric, part) for part in ("last", "step", "min", "max")}
            for name, metric in logged.metrics.items()
        }
        more = {"metrics": metrics, "artifacts": logged.artifacts, "loggers": [vars(lag) for lag in lags]}
        print_json({**summary.as_json(), **more, "config": run.config, "command": run.identity.get("command")})
        return
    _head(run, summary)
    _pairs("params", summary.params)
    _pairs("tags", summary.tags)
    if logged.metrics:
        click.echo(paint("metrics", bold=True))
        rows = [
            [f"  {name}", show(m.last), "" if m.step is None else show(m.step), show(m.min), show(m.max)]
            for name, m in logged.metrics.items()
        ]
        print_table(["", "last", "at step", "min", "max"], rows, right=(1, 2, 3, 4))
    if logged.artifacts:
        click.echo(paint("files", bold=True))
        for name in dict.fromkeys(logged.artifacts):
            path = run.path / name
            click.echo(f"  {path}  {format_size(path.stat().st_size) if path.is_file() else 'missing'}")
    _loggers(lags)


def _head(run: RunDir, summary: Summary) -> None:
    took = f" in {format_duration(summary.duration)}" if summary.duration else ""
    reason = f": {summary.reason}" if summary.reason else ""
    state = paint(summary.status, COLOURS.get(summary.status))
    attempt = f", attempt {summary.attempt}" if summary.attempt > 1 else ""
    click.echo(f"{paint(summary.short_id, bold=True)}  {summary.experiment}  {state}{took}{reason}{attempt}")
    click.echo(f"  {run.path}")
    click.echo(f"  {' '.join(map(str, run.identity.get('command') or []))}")


def _pairs(title: str, values: dict[str, Any]) -> None:
    if values:
        click.echo(paint(title, bold=True))
        width = max(map(len, values))
        for name, value in values.items():
            click.echo(f"  {name.ljust(width)}  {show(value)}")


def _loggers(lags: list[Progress]) -> None:
    if lags:
        click.echo(paint("loggers", bold=True))
    for lag in lags:
        click.echo(f"  {lag}" + (f"  {_where(lag.state)}" if lag.state else ""))
        for notice in lag.notices:
            click.echo(f"    {notice}")


def _where(state: dict[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in state.items() if isinstance(value, str) and key != "file")
