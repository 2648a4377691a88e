"""A sink in a package of its own, as a plugin author would write it: JSON lines in a folder."""

import json
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Where to; files `fail` and `hang` there make it do so."""

    folder: str = "json"


class JsonSink:
    Options = Options
    alone = False
    direct = False
    environment = ()

    def __init__(self, source, options):
        self.source, self.folder, self.state = source, Path(options.folder), {}

    def open(self):
        self._trouble()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{self.source.id}.jsonl"
        self.path.touch()
        with self.path.open("r+b") as file:
            file.truncate(self.state.setdefault("size", 0))
        if not self.state["size"]:
            self._append([{"params": dict(self.source.params)}])
        return False

    def write(self, records):
        self._trouble()
        self._append(records)

    def close(self, status, reason):
        if status:
            self._append([{"status": status, "reason": reason}])

    def _append(self, records):
        with self.path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            self.state["size"] = file.tell()

    def _trouble(self):
        while (self.folder / "hang").exists():
            time.sleep(0.05)
        if (self.folder / "fail").exists():
            raise ConnectionError("the backend is down")
