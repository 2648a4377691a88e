"""Jobs in the words that nodes understand, which have no LightEx."""

from __future__ import annotations

import os
from typing import Any

from lightex.core.units import parse_size
from lightex.dispatcher.engines.containers.call import inherited
from lightex.dispatcher.engines.given import node_labels
from lightex.dispatcher.engines.rayside import needs
from lightex.dispatcher.engines.rayside.options import Options
from lightex.dispatcher.engines.rayside.place import LOCAL
from lightex.dispatcher.job import Job
from lightex.storage import snapshot, worktree


def order_of(job: Job, read: Options, place: str) -> dict[str, Any]:
    """What a node is told of a job.

    Raises:
        LightexError: its code cannot be packed.
        OSError: the same.
    """
    whole = place == LOCAL  # the commands of this machine have the environment of who asked for them, as processes have
    code = "own" if "working_dir" in read.runtime_env else read.code
    archive, inner = (None, "") if code in ("own", "shared") or (place == LOCAL and code is None) else _packed(job)
    return {
        "name": job.name,
        "run": str(job.run.path),
        "attempt": job.attempt,
        "command": list(job.command),
        "env": {**{name: os.environ[name] for name in inherited(job.inherit, job.env)}, **job.env},
        "base": dict(os.environ) if whole else None,
        "cwd": str(job.cwd),
        "code": code,
        "archive": archive,
        "inner": inner,
        "grace": job.grace,
        "cpus": job.resources.cpus,
        "gpus": job.resources.gpu_count,
        "nodes": job.resources.nodes,
        "needs": needs.needs_of(job.resources, read),
        "labels": node_labels(job.resources),
        "placement": read.placement,
        "runtime_env": dict(read.runtime_env),
    }


def _packed(job: Job) -> tuple[str, str]:
    """The archive of the working tree, made once a sweep and code; and where in it the command works."""
    project = job.project or job.cwd
    sweep = job.run.path.parent.parent / ".sweeps" / str(job.run.identity.get("sweep"))
    folder = sweep if sweep.is_dir() else job.run.path
    named = folder / f"tree.{job.code}.tar.gz"
    top = snapshot.git(project, "rev-parse", "--show-toplevel")
    base = os.fsdecode(top.removesuffix(b"\n")) if top else project
    if job.code is None or not named.exists():
        packed = worktree.pack(project, folder, parse_size(job.storage.code_limit))
        named = packed.file.rename(named) if job.code else packed.file
    inner = os.path.relpath(job.cwd, base)
    return str(named), "" if inner.startswith("..") else inner
