"""The lines above the table: what there is, and what this machine has to share out."""

from __future__ import annotations

import time

from rich.text import Text

from lightex.core.liveness import host
from lightex.core.machine import Machine
from lightex.core.rundir import CANCELLED, FAILED, LOST, QUEUED, RUNNING, SUBMITTED, SUCCEEDED
from lightex.mon.state import Node
from lightex.mon.top.watch import Sight
from lightex.mon.top.words import TONES, bar, end, middle, size

_LEAST = 8  # columns of the folder's name
_ORDER = (RUNNING, SUBMITTED, QUEUED, SUCCEEDED, FAILED, LOST, CANCELLED)


def header(where: str, sight: Sight, width: int) -> Text:
    """All of them.

    Args:
        where: the folder of runs, or what of it is asked for.
        sight: what there is to see.
        width: columns that there are.
    """
    text = _counts(where, sight, width)
    text.append("\n")
    text.append(end(_machine(sight.machine, width) + _nodes(sight.picture.nodes), width))
    only = [f"sweep {sight.wish.sweep}"] * bool(sight.wish.sweep) + [f"'{sight.wish.word}'"] * bool(sight.wish.word)
    if only:
        text.append(f"\nonly {' and '.join(only)}; esc shows all again", "bold")
    return text


def _counts(where: str, sight: Sight, width: int) -> Text:
    text, clock = Text(no_wrap=True), time.strftime("%H:%M:%S", time.localtime(sight.picture.at))
    counts = [(state, sight.picture.counts[state]) for state in _ORDER if sight.picture.counts.get(state)]
    words = [f"{count:,} {state.lower()}" for state, count in counts]
    room = width - len(clock) - _LEAST - 2
    if sum(map(len, words)) + 2 * len(words) > room:  # shorter words, the same ones
        words = [f"{count:,} {state.lower()[:4]}" for state, count in counts]
    said = sum(len(word) + 2 for word in words) + len(clock)
    text.append(middle(where, max(_LEAST, width - said - 3)), "bold")
    for word, (state, _) in zip(words, counts, strict=True):
        text.append("  ")
        text.append(word, TONES.get(state, ""))
    text.truncate(width - len(clock) - 2)
    text.append(" " * (width - text.cell_len - len(clock)))
    text.append(clock, "dim")
    return text


def _machine(machine: Machine, width: int) -> str:
    name = middle(host(), 16)
    long = 10 if width >= 110 else 5
    cpus = f"{machine.cpus_leased:g}/{machine.cpus:g} leased"
    said = [f"{name}:  cpus {bar(_share(machine.cpus_leased, machine.cpus), long)} {cpus}"]
    memory = f"{size(machine.memory_leased)}/{size(machine.memory)} leased"
    said.append(f"memory {bar(_share(machine.memory_leased, machine.memory), long)} {memory}")
    if machine.devices:
        leased = sum(1 for device in machine.devices if device.runs)
        loads = [f"{device.use * 100:.0f}%" for device in machine.devices if device.use is not None]
        said.append(f"GPUs {leased}/{len(machine.devices)} leased" + (f" (busy {' '.join(loads)})" if loads else ""))
    else:
        said.append("no GPU")
    return "   ".join(said)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _nodes(nodes: list[Node]) -> str:
    others = [node for node in nodes if node.name != host() and node.runs[0].node]
    return "".join(f"   {node.name}: {len(node.runs)} run{'s' * (len(node.runs) != 1)}" for node in others)
