"""The report that torchrun writes below the output of workers that failed: it says who failed, and not why.

Its words are those of torch/distributed/elastic/multiprocessing (api.py, errors/__init__.py) of PyTorch 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_BEGINS = re.compile(r"failed \(exitcode: -?\d+\) local_rank: \d+ \(pid: \d+\) of binary: ")
_ITS_OWN = re.compile(r"torch[./]distributed[./]elastic")
_ROOT_CAUSE = re.compile(r"Root Cause.*?\n *rank +: (\d+) .*?\n *exitcode +: (-?\d+) ", re.DOTALL)
_RANK = re.compile(r"\[rank\d+\]: ?")  # what PyTorch's excepthook begins each line of a traceback with, from 2.2 on


@dataclass(frozen=True)
class Report:
    """What it tells.

    Attributes:
        before: what the workers wrote, without torchrun's own lines.
        of_root: the lines of that which are known as those of the worker that failed first; all, where none are.
        rank: of that worker; None: it does not say.
        exit_code: its own, or minus the number of the signal that killed it.
    """

    before: list[str]
    of_root: list[str]
    rank: int | None = None
    exit_code: int | None = None


def report(lines: Sequence[str]) -> Report | None:
    """The report at the end of an output; None: it ends otherwise."""
    begin = next((number for number in reversed(range(len(lines))) if _BEGINS.search(lines[number])), None)
    if begin is None or not lines[-1].startswith("===="):  # none, or something else came after it
        return None
    before = [line for line in lines[:begin] if not _ITS_OWN.search(line)]
    root = _ROOT_CAUSE.search("\n".join(lines[begin:]))
    own = [line for line in before if root and line.startswith(f"[rank{root[1]}]:")] or before
    of_root = [_RANK.sub("", line, count=1) for line in own]
    return Report(before, of_root, int(root[1]), int(root[2])) if root else Report(before, of_root)
