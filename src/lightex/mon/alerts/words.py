"""What is said of a finding: a title, what it is, the last lines, the commands that help, where to look."""

from __future__ import annotations

from collections.abc import Sequence

from lightex.core.naming import in_line, label
from lightex.core.rundir import RUNNING, RunDir
from lightex.core.summary import Summary
from lightex.mon.alerts.signs import Sign
from lightex.mon.alerts.sweeps import Finished

_WIDTH = 300  # characters of a line of output


def of_run(run: Summary, signs: Sequence[Sign], done: Sequence[str], lines: int, address: str) -> tuple[str, str]:
    """Title and body for a run.

    Args:
        run: the run.
        signs: what was seen in it, one at least.
        done: what was done about it.
        lines: how many of its last lines are said, where it did not end well.
        address: of `lx ui`; empty: not known.
    """
    about = f"{run.experiment} {label(run.varied)}".strip()
    words = " + ".join(dict.fromkeys(sign.word for sign in signs))
    body = list(dict.fromkeys(sign.text for sign in signs if sign.text))
    body += done
    body += [said] if (said := in_line(run.metrics, run.objective and run.objective[0])) else []
    if lines and any(sign.kind in ("failure", "warning") for sign in signs):
        last = RunDir(run.dir).last_output()[-lines:]
        body += [f"| {line[:_WIDTH]}" for line in last]
    commands = ["why", "logs", *(["stop"] if run.status == RUNNING and not done else [])]
    body.append(" · ".join(f"lx {command} {run.short_id}" for command in commands))
    body += [f"{address}/run/{run.id}"] if address else []
    return f"{words}  {run.short_id}  {about}", "\n".join(body)


def of_sweep(sweep: Finished, best: str, address: str) -> tuple[str, str, str]:
    """Title, body and kind for a sweep that has ended."""
    commands = [f"lx compare {sweep.id}"] + ([] if sweep.well else [f"lx resume {sweep.id}"])
    body = [each for each in (best, " · ".join(commands), f"{address}/sweep/{sweep.id}" if address else "") if each]
    kind = "success" if sweep.well else "warning"
    return f"FINISHED  sweep {sweep.id}  {sweep.name}: {sweep.words}", "\n".join(body), kind
