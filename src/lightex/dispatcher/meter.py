"""What runs use while they run: sampled by their dispatcher, written into each run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lightex.core.errors import StorageError
from lightex.core.rundir import RUNNING
from lightex.dispatcher.engine import Engine, Usage
from lightex.dispatcher.gpus import gpu_loads
from lightex.dispatcher.running import Running

_LEAST, _MOST = 1.0, 10.0  # seconds between two samples of a run
_LOOKS = 60  # samples within a run's age: it is looked at less often the longer it runs
_RATES = ("read", "written", "received", "sent")


@dataclass
class _Seen:
    """The last sample of a run."""

    due: float
    at: float = 0.0
    usage: Usage | None = None


class Meter:
    """Samples the runs of one queue."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: dict[str, _Seen] = {}

    def look(self, running: Mapping[str, Running]) -> None:
        """Sample those runs whose time it is. What cannot be written is left out: nothing depends on it."""
        now = time.monotonic()
        for handle in self._seen.keys() - running.keys():
            del self._seen[handle]
        due = []
        for handle, entry in running.items():
            if entry.state == RUNNING:
                seen = self._seen.setdefault(handle, _Seen(now + _LEAST))
                if now >= seen.due:
                    seen.due = now + min(_MOST, max(_LEAST, (now - entry.since) / _LOOKS))
                    due.append(handle)
        if not due:
            return
        used = self._engine.usage(due)
        loads = gpu_loads() if any(running[handle].gpus for handle in used) else {}
        for handle, usage in used.items():
            entry, seen = running[handle], self._seen[handle]
            at = now if usage.at is None else usage.at
            record = _record(usage, seen, at)
            gpus = {name: loads[name] for name in entry.gpus if name in loads}
            seen.usage, seen.at = usage, at
            with suppress(StorageError):
                entry.job.run.append_usage(record | ({"gpus": gpus} if gpus else {}))


def _record(usage: Usage, before: _Seen, now: float) -> dict[str, Any]:
    """A sample as it is written: cores, bytes, and bytes a second since the last one."""
    record: dict[str, Any] = {"time": round(time.time(), 3)}
    if usage.memory is not None:
        record["memory"] = usage.memory
    if usage.cores is not None:
        record["cpu"] = round(usage.cores, 3)
    last, passed = before.usage, now - before.at
    if last is None:
        return record
    if usage.cpu_seconds is not None and last.cpu_seconds is not None:
        record["cpu"] = round(max(0.0, usage.cpu_seconds - last.cpu_seconds) / passed, 3)
    for name in _RATES:
        new, old = getattr(usage, name), getattr(last, name)
        if new is not None and old is not None:
            record[name] = round(max(0, new - old) / passed)
    return record
