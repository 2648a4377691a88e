"""A process beside each of Ray's workers that outlives it: ends commands whose worker was killed, and what commands
leave behind. Ray runs it as text (`python -c`), where there may be no LightEx.

Lines of its input: "+ KEY MARK..." a command begins whose processes hold these entries in their environments (JSON);
"g KEY GROUP" it leads this process group; "- KEY" it has ended. At the end of its input the worker is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

_PAUSE = 0.3  # seconds that ends are gathered before it looks for what they have left behind


class Warden:
    """What is known of the commands of one worker."""

    def __init__(self) -> None:
        self.marks: dict[str, frozenset[bytes]] = {}
        self.groups: dict[str, int] = {}
        self.ended: set[frozenset[bytes]] = set()

    def hear(self, word: str, key: str, *more: Any) -> None:
        """Take in a line."""
        if word == "+":
            self.marks[key] = frozenset(os.fsencode(each) for each in more)
        elif word == "g":
            self.groups[key] = more[0]
        elif key in self.marks:
            self.groups.pop(key, None)
            self.ended.add(self.marks.pop(key))

    def tidy(self) -> None:
        """End what ended commands have left behind."""
        end_all(self.ended)
        self.ended.clear()

    def end(self) -> None:
        """End all: the worker is gone."""
        for group in self.groups.values():
            with suppress(OSError):  # it has ended
                os.killpg(group, signal.SIGKILL)
        end_all(self.ended | set(self.marks.values()))


def main() -> None:
    """Serve one worker to its end."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    warden, left = Warden(), b""
    while True:
        if not select.select([0], [], [], _PAUSE if warden.ended else None)[0]:
            warden.tidy()
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            warden.hear(*json.loads(line))
    warden.end()


def end_all(wanted: Collection[frozenset[bytes]]) -> None:
    """Kill the processes of this user that hold one of these sets of entries in their environments."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            held = set((entry / "environ").read_bytes().split(b"\0"))
            if any(mark <= held for mark in wanted):
                os.kill(int(entry.name), signal.SIGKILL)


if __name__ == "__main__":
    main()
