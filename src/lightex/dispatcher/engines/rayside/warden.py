"""A process beside each of Ray's workers that outlives it: ends commands whose worker was killed, and what commands
leave behind. Ray runs it as text (`python -c`), where there may be no LightEx.

Lines of its input: "+ KEY MARK..." a command begins whose processes hold these entries in their environments (JSON);
"g KEY GROUP" it leads this process group; "- KEY" it has ended. At the end of its input the worker is gone.
"""

from __future__ import annotations

import glob
import json
import os
import select
import signal
import sys
from collections.abc import Collection

_PAUSE = 0.3  # seconds that ends are gathered before it looks for what they have left behind


def main() -> None:
    """Serve one worker to its end."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    marks: dict[str, frozenset[bytes]] = {}
    groups: dict[str, int] = {}
    ended: set[frozenset[bytes]] = set()
    left = b""
    while True:
        if not select.select([0], [], [], _PAUSE if ended else None)[0]:
            end_all(ended)
            ended.clear()
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            word, key, *more = json.loads(line)
            if word == "+":
                marks[key] = frozenset(os.fsencode(each) for each in more)
            elif word == "g":
                groups[key] = more[0]
            elif key in marks:
                groups.pop(key, None)
                ended.add(marks.pop(key))
    for group in groups.values():
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:  # it has ended
            continue
    end_all(ended | set(marks.values()))


def end_all(wanted: Collection[frozenset[bytes]]) -> None:
    """Kill the processes of this user that hold one of these sets of entries in their environments."""
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                held = set(file.read().split(b"\0"))
            if any(mark <= held for mark in wanted):
                os.kill(int(path.split("/")[2]), signal.SIGKILL)
        except OSError:  # another user's, or gone
            continue


if __name__ == "__main__":
    main()
    sys.stdout.flush()
