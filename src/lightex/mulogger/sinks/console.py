"""The terminal: metrics as lines, fed inside the training process."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lightex.core.journal import Record, number
from lightex.mulogger.sink import Sink


@dataclass(frozen=True)
class ConsoleOptions:
    """Options of the console.

    Attributes:
        every: seconds between two lines of metrics at the least.
    """

    every: float = 1.0


class ConsoleSink(Sink):
    """Prints to standard error."""

    name: ClassVar[str] = "console"
    Options: ClassVar[type] = ConsoleOptions
    options: ConsoleOptions
    direct: ClassVar[bool] = True
    _last = 0.0

    def open(self) -> bool:
        """Say where the records go."""
        print(f"run {self.source.short_id}: {self.source.dir}", file=sys.stderr)
        return False

    def write(self, records: Sequence[Record]) -> None:
        """Print metrics (not more often than chosen), and all else in one line each."""
        for record in records:
            if "metrics" in record:
                if time.monotonic() - self._last < self.options.every:
                    continue
                self._last = time.monotonic()
                step = f"step {record['step']}  " if record.get("step") is not None else ""
                print(
                    step + "  ".join(f"{name}={number(value):.4g}" for name, value in record["metrics"].items()),
                    file=sys.stderr,
                )
            for kind in ("params", "tags"):
                if kind in record:
                    print(f"{kind}  " + "  ".join(f"{k}={v}" for k, v in record[kind].items()), file=sys.stderr)

    def close(self, status: str | None, reason: str | None) -> None:
        """Print how it ended."""
        print(f"run {self.source.short_id}: {status}{f', {reason}' if reason else ''}", file=sys.stderr)
