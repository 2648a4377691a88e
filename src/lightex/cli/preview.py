"""What a plan says of itself before it runs."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING

from lightex.cli.output import cut
from lightex.core.root import Root
from lightex.core.taxonomy import Resources
from lightex.core.units import format_size, parse_size
from lightex.dispatcher.board import Board
from lightex.dispatcher.book import Entry
from lightex.jobs import load_engine

if TYPE_CHECKING:
    from lightex.experiment import Plan


def preview(plan: Plan, root: Root, before: Collection[str], width: int) -> list[str]:
    """The lines of `lx plan`: how many, what varies, what each is, what has succeeded before, where it goes."""
    search = plan.search
    total = search.trials if search else len(plan.experiments)
    first = plan.experiments[0]
    axes = plan.expansion.axes
    sizes = plan.expansion.points.formula
    lines = [f"{plan.name}: {total} experiment{'s' * (total != 1)}" + (f" = {sizes}" if sizes else "")]
    if search:
        lines[0] += f", {search.formula}"
        drawn = [f"{path}  {each.text}    {search.source.where}" for path, each in search.space.items()]
        lines += [_row("searches", text, width) for text in drawn]
        lines.append(_row("wants", f"the {first.config.mode} of {first.config.metric}", width))
    for axis in axes:
        room = max(width, 40) - len(axis.source.where) - 18
        values = cut(f"{', '.join(axis.paths)}  {axis.describe()}", room)
        lines.append(_row("varies", f"{values}    {axis.source.where}", width))
    lines.append(_row("each", f"{shlex.join(first.command)}", width))
    lines.append(_row("needs", needs(first.config.resources), width))
    if before:
        lines.append(
            _row("before", f"{len(before)} of {total} succeeded earlier with this config"
                 " (lx run --needed leaves them out)", width)
        )  # fmt: skip
    lines.append(_row("engine", f"{plan.engine}: {at_once(plan)}", width))
    experiments = ", ".join(f"{root.path.name}/{name}/" for name in sorted({i.config.name for i in plan.experiments}))
    lines.append(_row("will write", f"{experiments}  {total} run{'s' * (total != 1)}", width))
    return lines


def needs(resources: Resources) -> str:
    """What an experiment needs, in words."""
    parts = [f"{resources.cpus:g} cpu"]
    if resources.memory:
        parts.append(format_size(parse_size(resources.memory)))
    if resources.gpu_count:
        share = f"{format_size(parse_size(resources.gpu_memory))} of " if resources.gpu_memory else ""
        parts.append(f"{share}{resources.gpu_count} GPU")
    return ", ".join(parts)


def at_once(plan: Plan) -> str:
    """How many run at once and what bounds it."""
    capacity = load_engine(plan.engine).capacity()
    if capacity is None:
        return "as many at once as it has room for"
    board, count = Board(capacity, ()), 0
    for item in plan.experiments * (plan.search.trials if plan.search else 1):
        wish = Entry.wish(item.config.resources)
        if short_of := board.short_of(wish):
            scarce = short_of.partition(" (")[0].removeprefix("a ")
            return f"{count} at once on this machine ({scarce} is the limit)"
        board.take(wish)
        count += 1
    return "all at once on this machine" if count > 1 else "on this machine"


def _row(name: str, text: str, width: int) -> str:
    return cut(f"  {name:<10}  {text}", max(width, 40))
