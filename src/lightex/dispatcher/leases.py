"""The leases of one dispatcher: taken in its jobs' order, and in fairness to those of all others on the machine.

Who may start: a job that fits, unless it would take away what somebody who came before it (of a higher priority, or of
the same one but earlier) could start with now, or has waited for so long that others must stop overtaking it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lightex.core.errors import StorageError
from lightex.core.liveness import user
from lightex.core.rundir import short
from lightex.dispatcher.board import Board
from lightex.dispatcher.book import Book, Entry, Page, own_mark
from lightex.dispatcher.capacity import Capacity
from lightex.dispatcher.job import Job

PATIENCE = 30.0
"""Seconds that a job lets smaller ones overtake it; then what it needs is kept free for it."""

_SURE = 2.0  # seconds between two looks whether the book still says what is held: it may have been removed
_NAMED = 3  # holders that are told by name


class Leases:
    """What a dispatcher holds and wishes for, entered in the machine's book.

    Args:
        capacity: what there is to share out.
        book: where all dispatchers of the machine meet.
        patience: see PATIENCE.
        owner: "PID:BORN" of the dispatcher; its leases are freed when it and its jobs are dead. Default: this process.
    """

    def __init__(
        self, capacity: Capacity, book: Book | None = None, patience: float = PATIENCE, owner: str | None = None
    ) -> None:
        self.capacity, self.book, self.patience = capacity, book or Book(), patience
        self.owner, self.user = owner or own_mark(), user()
        self.held: dict[str, Entry] = {}
        self.contended = False
        self._wish: Entry | None = None
        self._sure_until = 0.0
        self._late_since: float | None = None  # when what the book does not say yet came about

    def lease(self, heads: Sequence[Job]) -> Job | None:
        """Take what one of some jobs needs, the first that may start; None: none may, and the first one now waits."""
        wishes = [self._entry(job) for job in heads]
        with self.book.open() as page:
            page.bury(self.owner)
            if self._wish and self._wish.run == wishes[0].run:
                wishes[0].since = self._wish.since
            self._wish = None
            self._enter(page)
            before = sorted(page.waiters, key=_rank)
            self.contended = bool(before)
            for job, wish in zip(heads, wishes, strict=True):
                if (gpus := self._may_start(page, before, wish)) is not None:
                    wish.gpus = gpus
                    self.held[wish.run] = wish
                    self._enter(page)
                    return job
                if wish is wishes[0]:
                    self._wish = wish
                    before = sorted([*before, wish], key=_rank)
            self._enter(page)
        return None

    def hold(self, job: Job, gpus: Iterable[str], process: str | None) -> None:
        """Note what a job holds that was started before, also where it is more than there is."""
        entry = self._entry(job)
        entry.gpus, entry.job = dict.fromkeys(gpus, entry.gpu_memory), process
        self.held[entry.run] = entry
        self._late()

    def started(self, job: Job, process: str) -> None:
        """Note that a job which got its lease runs as a process, "PID:BORN": the lease lasts as long as that, whatever
        becomes of us."""
        self.held[str(job.run.path)].job = process
        self._late()

    def release(self, job: Job) -> None:
        """Give back what a job held."""
        if self.held.pop(str(job.run.path), None):
            self._late()

    def gpus(self, job: Job) -> tuple[str, ...]:
        """The GPUs that a job was given."""
        entry = self.held.get(str(job.run.path))
        return tuple(entry.gpus) if entry else ()

    def wait_no_more(self) -> None:
        """Nothing is left that waits."""
        if self._wish:
            self._wish = None
            self._late()

    @property
    def late(self) -> bool:
        """Whether there is something that the book does not say yet."""
        return self._late_since is not None

    def flush(self, after: float = 0.0) -> None:
        """Enter in the book what it does not say yet, if that is so for so many seconds: the next lease does it too."""
        now = time.monotonic()
        if self._late_since is not None:
            if now - self._late_since >= after:
                with self.book.open() as page:
                    self._enter(page)
        elif self.held and now >= self._sure_until:
            self._sure_until = now + _SURE
            with suppress(StorageError, OSError):  # nothing is lost but what was lost before: it is tried again
                if not self.held.keys() <= {entry.run for entry in self.book.read().leases}:
                    with self.book.open() as page:
                        self._enter(page)

    def waits_for(self, job: Job) -> str | None:
        """What is not free of what a job needs, and who holds it, in words; None where all is."""
        return explain(self.capacity, self.book.read(), self._entry(job), self.owner)

    def _enter(self, page: Page) -> None:
        """Make the book say what we hold and wish: it may have been removed, or a former dispatcher have written it."""
        page.leases = [e for e in page.leases if e.owner != self.owner and e.run not in self.held]
        page.leases += self.held.values()
        page.waiters = [entry for entry in page.waiters if entry.owner != self.owner]
        if self._wish:
            self._wish.seen = time.monotonic()
            page.waiters.append(self._wish)
        self._late_since = None

    def _late(self) -> None:
        self._late_since = self._late_since or time.monotonic()

    def _may_start(self, page: Page, before: Sequence[Entry], wish: Entry) -> dict[str, int | None] | None:
        """The GPUs that a job gets if it may start now; None: it may not."""
        board = Board(self.capacity, page.leases)
        gpus = board.fits(wish)
        if gpus is None:
            return None
        kept = False
        for other in before:
            if other.run == wish.run or _rank(other) > _rank(wish):
                continue
            if board.fits(other) is not None or time.monotonic() - other.since > self.patience:
                board.take(other)
                kept = True
        return board.fits(wish) if kept else gpus

    def _entry(self, job: Job) -> Entry:
        return Entry.wish(job.resources, str(job.run.path), self.user, self.owner, job.priority)


def explain(capacity: Capacity, page: Page, wish: Entry, owner: str | None = None) -> str | None:
    """What is not free of a wish, and who holds it, in words; None where all is.

    Args:
        capacity: what there is.
        page: who holds what.
        wish: what is wished for.
        owner: the dispatcher whose own leases are "this sweep".
    """
    board = Board(capacity, page.leases)
    short_of = board.short_of(wish)
    if not short_of:
        ahead = [other for other in page.waiters if other.run != wish.run and _rank(other) < _rank(wish)]
        return f"its turn, after {_who(ahead, owner)}" if ahead and owner else None
    kind = "gpus" if "GPU" in short_of else "memory" if short_of.startswith("memory") else "cpus"
    holders = [entry for entry in page.leases if getattr(entry, kind)]
    by = f" by {_who(holders, owner)}" if holders else ""
    strangers = [f"; process {pids[0]} on GPU {name} is not lx's" for name, pids in board.strangers.items()]
    return f"{short_of[:-1]}{by}{''.join(strangers[:_NAMED])})"


def _rank(entry: Entry) -> tuple[int, float]:
    return -entry.priority, entry.since


def _who(entries: Sequence[Entry], owner: str | None) -> str:
    others = [entry for entry in entries if entry.owner != owner or owner is None]
    names = ["this sweep"] if len(others) < len(entries) else []
    names += [f"{short(Path(entry.run).name)} of {entry.user}" for entry in others[:_NAMED]]
    names += [f"{len(others) - _NAMED} more"] if len(others) > _NAMED else []
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
