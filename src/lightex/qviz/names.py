"""What a name in a filter, a table or a chart means: a field of every run, a parameter, a metric, a tag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lightex.core.errors import NotFoundError, did_you_mean
from lightex.core.index import Index

FIELDS = {
    "id": "text", "experiment": "text", "sweep": "text", "status": "state", "reason": "text", "config": "text",
    "engine": "text", "user": "text", "host": "text", "note": "text", "archived": "number", "attempt": "number",
    "exit_code": "number", "created": "time", "started": "time", "ended": "time", "duration": "duration",
}  # fmt: skip
"""What every run has, and of what type it is."""

_ALIASES = {"run": "id", "state": "status", "name": "experiment", "config_name": "config", "time": "duration"}
_COLUMNS = {"config": "config_name"}
_PREFIXES = {
    "params": "params", "param": "params", "metrics": "metrics", "metric": "metrics", "tags": "tags", "tag": "tags",
}  # fmt: skip
_PARTS = ("last", "min", "max", "step")


@dataclass(frozen=True)
class Name:
    """A name that is understood.

    Attributes:
        kind: "field", "params", "metrics" or "tags".
        name: as the run has it.
        part: of a metric: "last", "min", "max", or "step" (of its last value).
        type: "text", "number", "state", "time" (UTC seconds), "duration" (seconds), or "any".
    """

    kind: str
    name: str
    part: str = "last"
    type: str = "any"

    @property
    def text(self) -> str:
        """As one writes it in a filter, in the shortest form that is sure."""
        prefix = {"field": "", "params": "" if self.name.startswith("hp.") else "params."}.get(
            self.kind, f"{self.kind}."
        )
        return f"{prefix}{self.name}" + (f".{self.part}" if self.part != "last" else "")

    @property
    def written(self) -> str:
        """The same, in backticks where it holds what means something in a filter."""
        return f"`{self.text}`" if re.search(r"[^\w.\-/]", self.text) else self.text


class Names:
    """All names of an index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        return self._index.names()

    def all(self) -> list[Name]:
        """Everything that can be named, fields first."""
        found = [Name("field", name, type=kind) for name, kind in FIELDS.items()]
        return found + [Name(kind, name) for kind, names in self._known.items() for name in names]

    def find(self, given: str) -> Name:
        """What a name means: as it is, with its kind before it (`tags.team`), or its last parts (`lr` for `hp.lr`).

        Raises:
            NotFoundError: nothing has that name, or several have.
        """
        exact = self._exact(given)
        whole, _, part = given.rpartition(".")
        if part in _PARTS and not exact:
            exact = [Name("metrics", found.name, part) for found in self._exact(whole) if found.kind == "metrics"]
        ends = exact or [
            Name(kind, name) for kind, names in self._known.items() for name in names if name.endswith(f".{given}")
        ]
        if part in _PARTS and whole and not ends:
            ends = [Name("metrics", name, part) for name in self._known["metrics"] if name.endswith(f".{whole}")]
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise NotFoundError(f"'{given}' may be {_either(name.text for name in ends)}", "write one of these")
        known = [name.text for name in self.all()]
        near = [*known, *(name.partition(".")[2] for name in known), *(name.rpartition(".")[2] for name in known)]
        raise NotFoundError(
            f"no run has '{given}'.{did_you_mean(given, near)}",
            *self._what_there_is(),
        )

    def _exact(self, given: str) -> list[Name]:
        """What has that very name; several: a parameter and a metric are called alike."""
        field = _ALIASES.get(given, given)
        prefix, _, rest = given.partition(".")
        kind = _PREFIXES.get(prefix)
        if kind and rest in self._known[kind]:
            return [Name(kind, rest)]
        named = [Name(kind, given) for kind, names in self._known.items() if given in names]
        # A parameter that is called `time` is not the field of that name: the field has a name of its own.
        if field in FIELDS and (field == given or not named):
            return [Name("field", field, type=FIELDS[field])]
        return named

    def _what_there_is(self) -> list[str]:
        lines = []
        for kind, names in self._known.items():
            if names:
                lines.append(f"{kind}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}")
        return [*lines, f"of every run: {', '.join(FIELDS)}"]

    def column(self, name: Name) -> str:
        """The column of the index's `runs` that holds it."""
        if name.kind == "field":
            return _COLUMNS.get(name.name, name.name)
        return self._index.column(name.kind, name.name, name.part)


def _either(names: Iterable[str]) -> str:
    found: Sequence[str] = list(names)
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
