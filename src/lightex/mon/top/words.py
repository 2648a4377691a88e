"""How things are said in few columns: texts that fit, bars, sizes, metrics."""

from __future__ import annotations

import os
from functools import cache

from rich.cells import cell_len, set_cell_size

from lightex.core.escapes import plain
from lightex.core.naming import in_line, show
from lightex.core.rundir import CANCELLED, FAILED, LOST, RUNNING, SUCCEEDED
from lightex.core.summary import Summary
from lightex.core.units import format_size
from lightex.mon.progress import Progress

TONES = {SUCCEEDED: "green", FAILED: "red", LOST: "red", CANCELLED: "yellow", RUNNING: "cyan"}
"""The colour of a state, of the terminal's palette, and never its only sign. No blue: it is dark on black."""


@cache
def unicode() -> bool:
    """Whether the terminal shows more than ASCII, as far as the locale tells; tmux draws by it as well."""
    said = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    return "utf" in said.lower()


def frame() -> str:
    """A border, as CSS names it."""
    return "round" if unicode() else "ascii"


def end(text: str, width: int) -> str:
    """Text cut in its end to so many columns."""
    if cell_len(text) <= width:
        return text
    mark = _mark()
    return set_cell_size(text, max(0, width - len(mark))).rstrip() + mark if width > len(mark) else mark[:width]


def middle(text: str, width: int) -> str:
    """Text cut in its middle to so many columns: names differ at their ends."""
    if cell_len(text) <= width:
        return text
    mark = _mark()
    room = width - len(mark)
    if room < 2:
        return end(text, width)
    tail = room // 2
    last = text[-tail:]
    while cell_len(last) > tail:
        last = last[1:]
    return set_cell_size(text, room - cell_len(last)) + mark + last


def _mark() -> str:
    return "…" if unicode() else ".."


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar."""
    full = min(width, max(0, round(share * width)))
    return "█" * full + "░" * (width - full) if unicode() else "#" * full + "-" * (width - full)


def far(progress: Progress | None, width: int) -> str:
    """How far a run is, with a bar of so many columns where the end is known."""
    if progress is None:
        return "-"
    if progress.share is None or not progress.total:
        return show(progress.done)
    number = f"{progress.share * 100:3.0f}%" if width < 12 else f"{progress.done:g}/{progress.total:g}"
    return f"{bar(progress.share, width)} {number}"


def size(number: float) -> str:
    """Bytes in few columns: 311M, 1.5G."""
    text, _, unit = format_size(number).partition(" ")
    return f"{text if float(text) < 10 else round(float(text))}{unit.removesuffix('iB')}"


def metrics(run: Summary) -> str:
    """The last values of a run's metrics, its objective first."""
    return in_line(run.metrics, run.objective and run.objective[0])


def needs(run: Summary) -> str:
    """What a run needs to start, and how urgent it is."""
    wants, said = run.wants, []
    for name, word in (("cpus", "cpu"), ("gpus", "gpu"), ("nodes", "nodes")):
        if isinstance(value := wants.get(name), (int, float)) and (name != "nodes" or value > 1):
            said.append(f"{value:g} {word}")
    if isinstance(memory := wants.get("memory"), (int, float)):
        said.append(size(memory))
    if wants.get("priority"):
        said.append(f"priority {wants['priority']}")
    return plain(", ".join(said))
