"""What commands say of the loggers of runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lightex.core.rundir import RunDir


def settle(runs: Sequence[RunDir], seconds: float, sweep: str) -> None:
    """At the end of a sweep: wait for its loggers, not longer than that, and say what they lack or cannot hold."""
    if not any(run.sinks.is_dir() for run in runs):
        return
    from lightex.mulogger.delivery import chosen, progress
    from lightex.mulogger.sync import wait

    left = wait(runs, seconds)
    for name in sorted({lag.sink for _, lag in left}):
        lags = [lag for _, lag in left if lag.sink == name]
        error = next((lag.error for lag in lags if lag.error), "the feeder goes on in the background")
        click.echo(f"{name} does not have all of {len(lags)} run{'s' * (len(lags) != 1)} yet: {error}")
    if left:
        click.echo(f"nothing is lost, it is all in the runs. Next: lx sync {sweep}")
    notices = dict.fromkeys(text for run in runs for name in chosen(run) for text in progress(run, name).notices)
    for text in list(notices)[:5]:
        click.echo(f"  {text}")
    if len(notices) > 5:
        click.echo(f"  and {len(notices) - 5} more such notices: lx show RUN")
