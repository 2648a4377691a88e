"""The errors a user can mend. They carry data; only the command line prints them and exits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class LightexError(Exception):
    """A mistake that a user can mend: what was given, what is valid, what to do next.

    Args:
        message: one line, without a full stop where it ends in a value.
        details: further lines, shown indented below the message.
    """

    exit_code = 2

    def __init__(self, message: str, *details: str) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return "\n  ".join((self.message, *self.details))


class ConfigError(LightexError):
    """A config, an override or a config file that is not valid."""


class StorageError(LightexError):
    """A folder or file that cannot be read or written, or a run directory that is not understood."""


class FileMissingError(StorageError):
    """A file of a run directory that is not there."""


class FullDiskError(StorageError):
    """There is no room for what is to be written: it may be waited for."""


class NewerFormatError(StorageError):
    """A run directory that a newer LightEx wrote."""


class UnreachableError(LightexError):
    """What is needed does not answer for now: it may be waited for."""


class NotFoundError(LightexError):
    """A run, a sweep, a config or a plugin that does not exist."""


@contextmanager
def needing(what: str, packages: str) -> Iterator[None]:
    """Around the import of a package that not everybody has.

    Args:
        what: needs it, with the verb: "the UI needs".
        packages: what pip is to install, as a shell takes it: "'lightex[ui]'".

    Raises:
        NotFoundError: it is not installed; tells the pip install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name == "lightex":
            raise
        raise NotFoundError(
            f"{what} the package '{name}', which is not installed", f"pip install {packages}"
        ) from error


def one_line(error: BaseException) -> str:
    """What an error says, whoever raised it, in one line of 300 characters at most."""
    said = error.message if isinstance(error, LightexError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:300]


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest valid word, or nothing when none is near."""
    near = difflib.get_close_matches(given, list(valid), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
