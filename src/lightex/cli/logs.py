"""`lx logs`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from lightex.cli.output import paint, print_json
from lightex.core.root import Root
from lightex.core.rundir import ENDED, RunDir
from lightex.core.summary import read_all

_LOOK = 0.1  # seconds between two looks at a file that is followed
_BLOCK = 1 << 16  # bytes that are read at once in search of the last lines


@click.command()
@click.argument("which", nargs=-1, metavar="[RUN|SWEEP]...")
@click.option("--follow", "-f", is_flag=True, help="Go on until the runs have ended.")
@click.option("--lines", "-n", type=click.IntRange(min=0), help="Only the last N lines of each.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array: id and output of each.")
@click.pass_obj
def command(root: str | None, /, which: tuple[str, ...], follow: bool, lines: int | None, as_json: bool) -> None:
    """Print what runs (default: the latest) wrote to their output."""
    folder = Root.locate(root)
    runs = [run for prefix in which for run in folder.find(prefix)] or folder.latest()
    if as_json:
        if follow:
            raise click.UsageError("--json prints what is there now; it does not go with --follow")
        print_json([{"id": run.id, "output": _text(run, lines)} for run in runs])
        return
    tails = [Tail(run, named=len(runs) > 1) for run in runs]
    for tail in tails:
        tail.show(lines)
    while follow and tails:
        time.sleep(_LOOK)
        # Asked before the output is read: what an ended run wrote is then all there.
        ended = {s.id for s in read_all(folder, [tail.run for tail in tails]) if s.status in ENDED}
        for tail in tails:
            tail.show()
        tails = [tail for tail in tails if tail.run.id not in ended]


class Tail:
    """The output of one run, from where it was last read."""

    def __init__(self, run: RunDir, named: bool) -> None:
        self.run, self.named = run, named
        self.offset = 0

    def show(self, last: int | None = None) -> None:
        """Print what is new; of the first reading, only the last lines if so many are asked for."""
        if last is not None:
            self.offset = _last_lines(self.run.output_file, last)
        data = _read(self.run.output_file, self.offset)
        whole = data if not self.named or not data else data[: data.rfind(b"\n") + 1] or (data if last else b"")
        self.offset += len(whole)
        if not self.named:
            sys.stdout.buffer.write(whole)
        for line in whole.splitlines() if self.named else ():
            mark = paint(f"{self.run.short_id} | ", dim=True)
            sys.stdout.buffer.write(mark.encode() + line + b"\n")
        sys.stdout.buffer.flush()


def _text(run: RunDir, last: int | None) -> str:
    start = 0 if last is None else _last_lines(run.output_file, last)
    return _read(run.output_file, start).decode(errors="replace")


def _last_lines(path: Path, lines: int) -> int:
    """The offset at which the last lines of a file begin."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        begin = end = file.seek(0, os.SEEK_END)
        while begin and lines:
            begin, to = max(0, begin - _BLOCK), begin
            file.seek(begin)
            block = file.read(to - begin)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                lines -= begin + at + 1 < end  # the last one's own end begins no other
                if not lines:
                    return begin + at + 1
        return begin


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""
