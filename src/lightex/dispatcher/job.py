"""What a dispatcher is given to run: one run, ready to start."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core.rundir import RunDir
from lightex.core.taxonomy import Container, Resources, Storage


@dataclass(frozen=True)
class Job:
    """One attempt at one run.

    Attributes:
        run: its directory.
        command: the arguments; no shell is involved.
        env: environment variables beside those that the engine's processes have anyway.
        cwd: working directory.
        project: the folder of its config, which holds the code.
        storage: its named folders, and how code and runs reach other nodes.
        container: what it runs in, on engines that run containers.
        options: what its engine is told in words of its own.
        inherit: variables of this process's environment that it gets wherever it runs; `NAME*` stands for several.
        resources: what it needs while it runs.
        timeout: seconds until it is ended; None: never.
        stall: seconds without output or records until it is ended; None: never.
        grace: seconds between SIGTERM and SIGKILL.
        retries: how many times it is run again, per cause of its end.
        retried: how many times it was, per cause.
        backoff: seconds before the first retry; doubled for each further one.
        priority: what is higher starts first.
        after: directories of the runs that must have succeeded before.
        handle: that its engine has given it, where one is noted down.
        attempt: 1 for the first, counted up by each resume.
        code: which snapshot of the code it runs, see `code.*.tar.gz` in its directory; None: none was taken.
    """

    run: RunDir
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    resources: Resources
    project: Path | None = None
    storage: Storage = field(default=Storage())
    container: Container | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    inherit: tuple[str, ...] = ()
    timeout: float | None = None
    stall: float | None = None
    grace: float = 10.0
    retries: Mapping[str, int] = field(default_factory=dict)
    retried: Mapping[str, int] = field(default_factory=dict)
    backoff: float = 10.0
    priority: int = 0
    after: tuple[Path, ...] = ()
    handle: str | None = None
    attempt: int = 1
    code: str | None = None

    @property
    def name(self) -> str:
        """What engines call it: the same for the same attempt, no other run's, and short enough for a host name."""
        mark = hashlib.blake2b(os.fsencode(self.run.path), digest_size=4).hexdigest()
        words = re.sub(r"[^a-z0-9-]+", "-", self.run.short_id.lower()).strip("-")[:30]
        return f"lx-{words}-{self.attempt}-{mark}"
