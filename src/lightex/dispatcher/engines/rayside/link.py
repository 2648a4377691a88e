"""A supervisor's connection to the broker of a Ray, which it starts where none lives."""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightex.core.cache import cache_folder
from lightex.core.errors import StorageError, UnreachableError
from lightex.core.root import claimed, locked
from lightex.dispatcher.engines.rayside.place import LOCAL, reach

_START = 90.0  # seconds that a broker may take to connect, or to start a Ray
_ANSWER = 120.0  # seconds that an answer may take: to connect to a cluster that is about to start takes Ray a minute
_AGAIN = 0.02  # seconds between two looks for its address
_ENDS = 20.0  # seconds that it may take to end
_CHUNK = 1 << 20
_STARTED: list[subprocess.Popen[bytes]] = []  # brokers that this process has started, to be reaped


class BrokenError(UnreachableError):
    """The broker is gone."""


class Link:
    """A connection. `news` and `used` are what the broker has told since they were taken."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.folder = _folder(place)
        self.news: dict[str, dict[str, Any]] = {}
        self.used: dict[str, dict[str, Any]] = {}
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._number = 0
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    @property
    def lives(self) -> bool:
        """Whether there is a broker."""
        return locked(self.folder / "lock")

    def open(self) -> dict[str, Any]:
        """Connect, starting a broker where none lives; returns its facts: the version of Ray, and the nodes.

        Raises:
            UnreachableError: it cannot reach, or not start, its Ray.
            StorageError: the cache folder cannot be written.
        """
        if self.place != LOCAL:
            reach(self.place)
        deadline = time.monotonic() + _START
        while True:
            try:
                self._connect(deadline)
                facts: dict[str, Any] = self.ask("facts")
            except BrokenError as error:  # it was about to end
                if time.monotonic() > deadline:
                    raise UnreachableError(f"the Ray at {self.place} does not come up", *error.details) from error
                time.sleep(_AGAIN)
            except UnreachableError:
                self.close()
                raise
            else:
                return facts

    def ask(self, do: str, **more: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            BrokenError: the broker is gone, or does not answer.
            UnreachableError: it says why it cannot.
        """
        number, until = self.tell(do, **more), time.monotonic() + _ANSWER
        while number not in self._answers:
            if (left := until - time.monotonic()) <= 0:
                self._break(TimeoutError(f"no answer for {_ANSWER:.0f} s"))
            self.listen(left)
        answer = self._answers.pop(number)
        if "error" in answer:
            advice = (
                [] if self.place == LOCAL else ["a cluster that wants a token: RAY_AUTH_TOKEN, or ~/.ray/auth_token"]
            )
            words = f"the Ray at {self.place}: {answer['error']}"
            raise UnreachableError(words, *advice, f"its log: {self.folder / 'log'}")
        return answer["answer"]

    def tell(self, do: str, **more: Any) -> int:
        """Ask without waiting; returns the number of the question.

        Raises:
            BrokenError: the broker is gone.
        """
        if self._socket is None:
            raise BrokenError(f"there is no connection to the Ray at {self.place}")
        self._number += 1
        try:
            self._socket.sendall(json.dumps({"id": self._number, "do": do, **more}).encode() + b"\n")
        except OSError as error:
            self._break(error)
        return self._number

    def leave(self) -> None:
        """Say good-bye, and wait until the broker has ended where nobody else needs it."""
        if self._socket is None:
            return
        with suppress(BrokenError):
            self.tell("leave")
            deadline = time.monotonic() + _ENDS
            while time.monotonic() < deadline:  # it closes the connection when it has gone, or others need it
                self.listen(deadline - time.monotonic())
        self.close()
        _reap()

    def close(self) -> None:
        """Disconnect without a word: the broker stays for a while, for who comes next."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer = b""
        self._answers.clear()

    def kept(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The ends that a broker which has ended has left of these."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / "ends.json").read_text())
            return {name: found[name] for name in names if name in found}
        return {}

    def _connect(self, deadline: float) -> None:
        while True:
            with suppress(OSError):
                address = (self.folder / "address").read_text()
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(address)
                except OSError:
                    connection.close()
                    raise
                self._socket = connection
                return
            self._start()
            if time.monotonic() > deadline:
                raise UnreachableError(f"the broker of {self.place} does not start", *self._last_words())
            time.sleep(_AGAIN)

    def _start(self) -> None:
        """Start a broker, if none lives; the lock goes over to it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = claimed(self.folder / "lock", 0o600)
            if lock is None:
                return
            try:
                if self._started and self._started.poll() not in (None, 0):
                    code = self._started.returncode
                    self._started = None
                    raise UnreachableError(
                        f"the process that speaks to the Ray at {self.place} has ended with code {code}",
                        *self._last_words(),
                    )
                (self.folder / "address").unlink(missing_ok=True)
                _reap()
                self._started = _start(self.folder, self.place, lock)
                _STARTED.append(self._started)
            finally:
                os.close(lock)
        except OSError as error:
            raise StorageError(
                f"cannot write {self.folder}: {error.strerror}", "choose a folder for caches with LX_CACHE"
            ) from error

    def _last_words(self) -> list[str]:
        with suppress(OSError):
            lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
            return [*lines[-1:], f"all of it: {self.folder / 'log'}"]
        return []

    def listen(self, wait: float) -> None:
        """Take in what is told within some seconds, until something is.

        Raises:
            BrokenError: the broker is gone.
        """
        if self._socket is None:
            raise BrokenError(f"there is no connection to the Ray at {self.place}")
        if not select.select([self._socket], [], [], max(0.0, wait))[0]:
            return
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            self._break(error)
        if not data:
            self._break(None)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "news" in message:
                self.news |= message["news"]
            elif "used" in message:
                self.used |= message["used"]
            else:
                self._answers[message["id"]] = message

    def _break(self, error: OSError | None) -> None:
        self.close()
        raise BrokenError(
            f"the process that speaks to the Ray at {self.place} has gone", *self._last_words()
        ) from error

    def answered(self) -> dict[int, str | None]:
        """The questions that nobody waits for and that were answered, with what went wrong; each is told once."""
        found, self._answers = self._answers, {}
        return {number: answer.get("error") for number, answer in found.items()}


def _reap() -> None:
    _STARTED[:] = [process for process in _STARTED if process.poll() is None]


def _folder(place: str) -> Path:
    """The folder of a broker: another interpreter has one of its own, since Ray wants the same Python everywhere."""
    mark = hashlib.sha256(repr((sys.prefix, place)).encode()).hexdigest()[:12]
    return cache_folder() / "ray" / mark


def _start(folder: Path, place: str, lock: int) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LX_RUN", "COVERAGE"))}
    with (folder / "log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "lightex.dispatcher.engines.rayside.broker", str(folder), place, str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,  # not the project's: it may hold a ray.py
            start_new_session=True,
            pass_fds=(lock,),
            env=kept,
        )
