"""Jobs on their way to Slurm: those that ask for the same go as one array, in as few calls as its limits allow."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lightex.core.errors import ConfigError
from lightex.core.rundir import FAILED
from lightex.dispatcher.engine import JobState
from lightex.dispatcher.engines.batch import look, notes, request, script
from lightex.dispatcher.engines.batch.commands import AwayError, RefusedError, ask
from lightex.dispatcher.engines.batch.look import Place
from lightex.dispatcher.engines.batch.request import Request
from lightex.dispatcher.job import Job

_AGAIN = (1.0, 30.0)  # seconds between two tries to submit what was not taken: the first, and the longest
_LIMITS = ("SubmitJob", "MaxJobCount", "job submit limit")  # words of limits on how many jobs there are


@dataclass
class Series:
    """Jobs that ask for the same, under one name and with numbers of their own; they may make several arrays.

    Attributes:
        name: of the Slurm jobs.
        request: what they ask for.
        free: the next number.
        waiting: those that were not submitted yet, in their order.
    """

    name: str
    request: Request
    free: int = 0
    waiting: list[tuple[int, Job]] = field(default_factory=list)


class Submissions:
    """Gives jobs their names and numbers, and hands them to Slurm. One thread may add while another one sends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held while Slurm is asked
        self._series: list[Series] = []
        self._again, self._pause = 0.0, _AGAIN[0]
        self.words: str | None = None
        """Why what waits was not taken yet."""
        self._uncertain = False  # whether Slurm may have taken what waits: its answer was lost

    def add(self, job: Job, array_size: int) -> Place:
        """Take in a job; returns the place that it will have. Numbers of an array are less than `array_size`.

        Raises:
            LaunchError: its script cannot be written.
        """
        asked = request.of_job(job)
        with self._lock:
            series = next((each for each in self._series if each.request == asked and each.free < array_size), None)
            if series is None:
                sweep = job.run.short_id.partition("-")[0]
                series = Series(f"lx-{sweep}-{secrets.token_hex(3)}", asked)
                self._series.append(series)
            number, series.free = series.free, series.free + 1
        place = f"{series.name}/{number}"
        script.write(job, place)
        with self._lock:
            series.waiting.append((number, job))
        return place

    def take_back(self, place: Place) -> bool:
        """Take out a job that was not submitted; whether it was there."""
        with self._lock:
            for series in self._series:
                for each in series.waiting:
                    if f"{series.name}/{each[0]}" == place:
                        series.waiting.remove(each)
                        return True
        return False

    @property
    def waiting(self) -> set[Place]:
        """The places of what was not submitted yet."""
        with self._lock:
            return {f"{series.name}/{number}" for series in self._series for number, _ in series.waiting}

    @property
    def due(self) -> bool:
        """Whether there is anything to submit now."""
        with self._lock:
            return time.monotonic() >= self._again and any(series.waiting for series in self._series)

    def send(self) -> dict[Place, JobState]:
        """Submit what waits; returns the ends of those that Slurm will never take.

        A controller that is away, and a limit on how many jobs there may be, are waited for.
        """
        failed: dict[Place, JobState] = {}
        try:
            self.settle()
            self.words = None
            with self._lock:
                waiting = [each for each in self._series if each.waiting]
            for series in waiting:
                failed |= self._send(series)
        except AwayError as error:
            self.words = error.message
        if self.words:
            self._again, self._pause = time.monotonic() + self._pause, min(2 * self._pause, _AGAIN[1])
        else:
            self._again, self._pause = 0.0, _AGAIN[0]
        return failed

    def _send(self, series: Series) -> dict[Place, JobState]:
        failed: dict[Place, JobState] = {}
        many = len(series.waiting)
        while series.waiting:
            with self._lock:
                part = _consecutive(series.waiting[:many])
            refused = self._sbatch(series, part)
            if refused and is_limit(refused):
                if len(part) == 1:
                    self.words = f"Slurm takes no more jobs of yours for now: {refused}"
                    break
                many = len(part) // 2
                continue
            if refused:
                state = JobState(FAILED, "launch", f"Slurm does not take it: {refused}")
                failed |= {f"{series.name}/{number}": state for number, _ in part}
            with self._lock:
                del series.waiting[: len(part)]
        return failed

    def _sbatch(self, series: Series, part: Sequence[tuple[int, Job]]) -> str | None:
        """Submit an array; returns why Slurm refuses it, or None."""
        asked = series.request
        text, array = script.of_array(series.name, asked.flags, asked.throttle, part)
        self._uncertain = True
        try:
            # Options of the command line count more than SBATCH_ variables of the user's, those of a script less.
            ask("sbatch", "--parsable", f"--job-name={series.name}", f"--array={array}", *asked.flags, given=text)
        except (RefusedError, ConfigError) as error:
            self._uncertain = False
            return error.message
        self._uncertain = False
        return None

    def settle(self) -> None:
        """Where the answer to a submission was lost, see what Slurm has taken of it.

        Raises:
            AwayError: the controller does not answer.
        """
        if not self._uncertain:
            return
        with self._lock:
            waiting = {f"{each.name}/{number}": job for each in self._series for number, job in each.waiting}
        known = look.now(sorted({place.rpartition("/")[0] for place in waiting})) if waiting else {}
        for place, job in waiting.items():
            if place in known or notes.read(job.run, job.attempt, place):
                self.take_back(place)
        self._uncertain = False


def is_limit(words: str) -> bool:
    """Whether Slurm speaks of a limit on how many jobs there are, so that others may be taken later."""
    return any(limit in words for limit in _LIMITS)


def _consecutive(jobs: Sequence[tuple[int, Job]]) -> Sequence[tuple[int, Job]]:
    """The first of some jobs whose numbers follow one another; others were taken back from between them."""
    first = jobs[0][0]
    return [each for place, each in enumerate(jobs) if each[0] == first + place]
