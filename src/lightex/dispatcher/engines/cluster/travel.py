"""What nodes do not see by themselves goes there and comes back by s3: code, runs, and named folders."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightex.core.cache import cache_folder
from lightex.core.errors import ConfigError, FullDiskError, StorageError
from lightex.core.taxonomy import Storage, Store
from lightex.core.units import parse_size
from lightex.dispatcher.engines.cluster.manifest import Travel
from lightex.dispatcher.engines.cluster.volumes import ALIVE, copied_by
from lightex.dispatcher.engines.containers.call import DIRS
from lightex.dispatcher.job import Job
from lightex.storage import mirror, store, worktree
from lightex.storage.bucket import Bucket
from lightex.storage.mirror import Mirror
from lightex.storage.refusals import AwayError, in_words
from lightex.storage.store import Place

_EVERY = 2.0  # seconds between two looks for what runs have written
_NAMED = 5  # files that are not sent, of which the names are told
_AT_ONCE = 4  # runs that are brought back at once


class Luggage:
    """What a supervisor sends to nodes: each tree of code once."""

    def __init__(self) -> None:
        self._trees: dict[tuple[Path, str | None], worktree.Packed] = {}
        self._sent: set[str] = set()
        self._lock = threading.Lock()

    def pack(
        self, project: Path, remote: Place, most: str | int, tell: Callable[[str], None], code: str | None = None
    ) -> worktree.Packed:
        """The code of a project, in its store, as it is when it is first asked for with this snapshot of it (`code`).

        Raises:
            ConfigError: it is larger than `most`.
            StorageError: it cannot be sent.
        """
        with self._lock:
            if (project, code) not in self._trees:
                self._trees[project, code] = worktree.pack(project, cache_folder() / "trees", parse_size(most))
            packed = self._trees[project, code]
            if packed.digest not in self._sent:
                tell(f"sending the code to {remote.url}{_without(packed.left_out)}")
                worktree.send(Bucket.of(remote), packed)
                self._sent.add(packed.digest)
        return packed

    def check(self, project: Path, remote: Place, storage: Storage, tell: Callable[[str], None]) -> None:
        """Send the code, and look whether it has the named folders that are within it.

        Raises:
            ConfigError: git ignores one of them, so that it stays here.
            StorageError: see `pack`.
        """
        packed = self.pack(project, remote, storage.code_limit, tell)
        for name, place in store.folders(storage, project).items():
            if place.kind != "path" or not Path(place.folder).is_relative_to(packed.base):
                continue
            inside = Path(place.folder).relative_to(packed.base).as_posix()
            with tarfile.open(packed.file) as tree:
                if inside != "." and not any(each.startswith(f"{inside}/") for each in tree.getnames()):
                    raise ConfigError(
                        f"storage.dirs.{name}: {place.folder} is no part of the code that is copied to nodes",
                        f'git ignores it, or it is empty. Bring it to a store, and name that: "s3://BUCKET/{name}"',
                    )

    def travel(self, job: Job, tell: Callable[[str], None]) -> Travel:
        """What is to be brought for a job, and back. Its code is in the store then.

        Raises:
            LightexError: see `pack`.
        """
        project = job.project or job.cwd
        copied = copied_by(job.storage, project)
        staged = {name: each for name, each in store.folders(job.storage, project).items() if each.kind == "s3"}
        task: dict[str, Any] = {
            "run": str(job.run.path),
            "attempt": job.attempt,
            "nodes": job.resources.nodes,
            "alive": ALIVE,
            "dirs": [
                {"name": name, "path": f"{DIRS}/{name}", "write": place.store.write, **_inside(place)}
                for name, place in staged.items()
            ],
        }
        returns = bool(copied) or any(place.store.write for place in staged.values())
        if copied is None:
            return Travel(task, None, returns, None, _credentials())
        packed = self.pack(project, copied, job.storage.code_limit, tell, job.code)
        if not job.cwd.is_relative_to(packed.base):
            raise ConfigError(f"cwd: {job.cwd} is not within the code that is copied, {packed.base}")
        task |= {
            "remote": _inside(copied),
            "name": _name(job.run.path, job.attempt),
            "code": packed.digest,
            "project": str(packed.base),
            "upstream": [{"name": mirror.name_of(path), "path": str(path)} for path in job.after],
        }
        return Travel(task, packed.base, returns, {"url": copied.url, "endpoint": copied.endpoint}, _credentials())


def send_run(job: Job, remote: Place) -> None:
    """Put a run's directory into its store, and those of the runs that it depends on.

    Raises:
        StorageError: it cannot be sent.
    """
    bucket = Bucket.of(remote)
    if job.attempt > 1:  # an attempt whose node was lost may have left more there than has come back
        Mirror(bucket, _name(job.run.path, job.attempt - 1)).pull(job.run.path, mirror.users)
    own = Mirror(bucket, _name(job.run.path, job.attempt))
    own.push(job.run.path, mirror.users if job.attempt == 1 else mirror.everyones, whole=True)
    for path in job.after:
        Mirror(bucket, mirror.name_of(path)).push(path, mirror.everyones, whole=True)


def _name(run: Path, attempt: int) -> str:
    """The name of an attempt's directory in a store.

    A node that is called lost may go on: what it writes then comes into nobody's way.
    """
    return f"{mirror.name_of(run)}-{attempt}"


def _credentials() -> dict[str, str]:
    """The variables by which a pod reaches stores as we do, wherever we have that from."""
    import boto3

    with in_words("s3://", None):
        session = boto3.Session()
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
    given = {
        "AWS_ACCESS_KEY_ID": frozen.access_key if frozen else None,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key if frozen else None,
        "AWS_SESSION_TOKEN": frozen.token if frozen else None,
        "AWS_REGION": session.region_name,
    }
    return {name: value for name, value in given.items() if value}


def _inside(place: Place) -> dict[str, Any]:
    return {"url": place.url, "endpoint": place.endpoint_inside}


@dataclass
class _Coming:
    """A run whose directory comes back while it runs."""

    bucket: Bucket
    mirror: Mirror
    run: Path
    attempt: int
    nodes: int
    ended: bool = False
    complete: bool = True  # whether its nodes say that they have brought everything
    back: bool = False
    error: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pull(self) -> None:
        """Bring what is new; after the end, all of it."""
        with self.lock:
            ended = self.ended
            if self.back:
                return
            try:
                self.mirror.pull(self.run, mirror.users)
                missing = self.mirror.missing(self.run, self.nodes, self.attempt) if ended and self.complete else []
                if missing:  # once more, anew: what was left out is brought by another pull
                    self.mirror.pull(self.run, mirror.users)
                    missing = self.mirror.missing(self.run, self.nodes, self.attempt)
                self.error = f"not all of it came back: {'; '.join(missing[:3])}" if missing else None
                self.back = ended
            except (AwayError, FullDiskError) as error:  # it may be otherwise the next time
                self.error = error.message
            except (OSError, ValueError) as error:
                self.error = f"{type(error).__name__}: {error}"
            except StorageError as error:
                self.error = error.message
                self.back = ended

    def remove(self) -> None:
        """Take it away from the store, with the attempts before it."""
        for attempt in range(1, self.attempt + 1):
            Mirror(self.bucket, _name(self.run, attempt)).remove()


class Returns:
    """Brings back what runs write on nodes, in threads of its own."""

    def __init__(self) -> None:
        self._coming: dict[str, _Coming] = {}
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="returns")
        threading.Thread(target=self._go_round, name="returns", daemon=True).start()

    def expect(self, handle: str, remote: Mapping[str, Any], run: Path, attempt: int, nodes: int) -> None:
        """A run's directory is to come back from now on."""
        if handle not in self._coming:
            place = store.find(Store(str(remote["url"]), endpoint=remote.get("endpoint")), run, "storage.remote")
            bucket = Bucket.of(place)
            self._coming[handle] = _Coming(bucket, Mirror(bucket, _name(run, attempt)), run, attempt, nodes)

    def is_expected(self, handle: str) -> bool:
        """Whether a job's run is still to come back."""
        return handle in self._coming

    def is_back(self, handle: str, complete: bool) -> tuple[bool, str | None]:
        """Whether a job that has ended may be called so: all of its run is here; and what is wrong, if something is.

        Args:
            handle: of the job.
            complete: whether its nodes say that they have brought everything; else what is there will do.
        """
        coming = self._coming.get(handle)
        if coming is None:
            return True, None
        if not coming.ended:
            coming.ended, coming.complete = True, complete
            self._pool.submit(coming.pull)
        return coming.back, coming.error

    def forget(self, handle: str) -> None:
        """A job's end has been noted down: what is here whole needs not be in the store any more."""
        coming = self._coming.pop(handle, None)
        if coming and coming.back and coming.complete and not coming.error:
            self._pool.submit(coming.remove)

    def close(self) -> None:
        """Wait until what is going on has been done."""
        self._ended.set()
        self._pool.shutdown(wait=True)

    def _go_round(self) -> None:
        while not self._ended.wait(_EVERY):
            with suppress(RuntimeError):  # closed in this moment
                waiting = [self._pool.submit(each.pull) for each in list(self._coming.values()) if not each.back]
                for each in waiting:
                    each.exception()


def _without(names: Sequence[str]) -> str:
    """What is not sent, in words: a run that misses a file is told so here."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f", without {', '.join(names[:_NAMED])}{more} (secrets, or links out of it)" if names else ""
