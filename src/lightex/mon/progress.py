"""How far a run is: by its own word, by a bar in its output, by its steps and a parameter that names their number."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from lightex.core.journal import number
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary

# tqdm's "  42%|####      | 42/100 [00:10<00:14,  4.19it/s]"; the same of rich and keras as far as they look alike.
_BAR = re.compile(r"(?:(\d+)%\|[^|]*\|\s*)?\b(\d+)/(\d+)\b(?:\s*\[(?:[\d:]+)<([\d:]+|\?))?")
_TOTALS = re.compile(r"(?:^|[._])(?:num_|max_|total_|n_)?(epochs?|steps?|iters|iterations)$")
_OUTPUT = 600  # bytes of output that are looked at


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: in whatever unit it counts.
        total: None: not known.
        left: seconds; None: not known.
        source: "said", "bar" or "steps".
    """

    done: float
    total: float | None
    left: float | None
    source: str

    @property
    def share(self) -> float | None:
        """0 to 1; None: not known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


def progress_of(summary: Summary, now: float | None = None) -> Progress | None:
    """How far a run that runs is; None: there is no telling.

    Args:
        summary: the run.
        now: UTC seconds since the epoch; default: the clock.
    """
    moment = time.time() if now is None else now
    if told := summary.progress:
        done, total = _finite(told["done"]) or 0.0, _finite(told["total"])
        gained, passed = done - float(told["first"] or 0), float(told["time"] or 0) - float(told["since"] or 0)
        left = None
        if total and gained > 0 and passed > 0:
            left = max(0.0, (total - done) * passed / gained - (moment - float(told["time"] or moment)))
        return Progress(done, total, left, "said")
    return of_output(RunDir(summary.dir).last_output(_OUTPUT)) or _of_steps(summary, moment)


def _finite(value: object) -> float | None:
    """A number as records have it, also as text; None where it is none, or has no end."""
    found = number(value)
    return found if found is not None and isfinite(found) else None


def of_output(lines: Sequence[str]) -> Progress | None:
    """The last progress bar in the last lines of an output."""
    for line in reversed(lines):
        for match in reversed(list(_BAR.finditer(line))):
            if match[1] or match[4]:  # "3/10" alone may be a date, or a path
                done, total = int(match[2]), int(match[3])
                if done < total:  # a full one is of something that is over
                    return Progress(done, total, _seconds(match[4]), "bar")
    return None


def _seconds(text: str | None) -> float | None:
    """1:02:03 or 00:14 as seconds; "?" is not known."""
    if not text or text == "?":
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return float(seconds)


def _of_steps(summary: Summary, now: float) -> Progress | None:
    """From the steps that were logged, where exactly one parameter tells how many there will be."""
    steps = [best["step"] for best in summary.best.values() if best.get("step") is not None]
    totals = {
        value
        for name, value in summary.params.items()
        if _TOTALS.search(name) and isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    }
    if not steps or len(totals) != 1:
        return None
    done, total = max(step for step in steps if step is not None) + 1, float(totals.pop())  # steps begin at 0
    if done > total:
        return None
    # Of an attempt that went on from a checkpoint it is not known with which step it began.
    passed = now - summary.started if summary.started and summary.attempt == 1 else None
    return Progress(done, total, passed * (total - done) / done if passed and done > 0 else None, "steps")
