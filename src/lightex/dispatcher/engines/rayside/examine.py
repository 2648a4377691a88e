"""What `lx doctor` says of a Ray: whether it answers, versions, nodes, and whether they have what is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from lightex.core.errors import LightexError
from lightex.core.taxonomy import Experiment
from lightex.dispatcher.engine import Finding
from lightex.dispatcher.engines.rayside import needs, options
from lightex.dispatcher.engines.rayside.link import Link
from lightex.dispatcher.engines.rayside.place import LOCAL, is_jobs_api, place_of


def examine(experiments: Sequence[Experiment[Any]]) -> Iterator[Finding]:
    """Look at each Ray that is meant, and at what experiments want of it."""
    own = f"Ray {version('ray')}, Python {sys.version.split()[0]}"
    yield Finding("package", True, own)
    wanted: dict[str, list[tuple[Experiment[Any], options.Options]]] = {}
    try:
        for each in experiments:
            read = options.read(each.engine_options.get("ray", {}))
            wanted.setdefault(place_of(read), []).append((each, read))
        for place in wanted or {place_of(options.Options()): []}:
            yield from _ray(place, wanted.get(place, []))
    except LightexError as error:
        yield Finding("options", False, "; ".join((error.message, *error.details)))


def _ray(place: str, wanted: Sequence[tuple[Experiment[Any], options.Options]]) -> Iterator[Finding]:
    link = Link(place)
    try:
        facts = link.open()
    except LightexError as error:
        yield Finding("ray", False, "; ".join((error.message, *error.details)))
        return
    link.leave()
    if is_jobs_api(place):
        same = "" if facts["ray"] == version("ray") else f"; here it is {version('ray')}, which should be the same"
        yield Finding("ray", True if not same else None, f"Ray {facts['ray']} answers at {place} (Jobs API){same}")
        yield Finding("nodes", None, "what they have is not told over this API; what none has is waited for")
        return
    what = "a Ray of lx's own starts and ends here" if place == LOCAL else f"Ray {facts['ray']} answers at {place}"
    yield Finding("ray", True, what)
    for node in facts["nodes"]:
        labels = ", ".join(
            f"{name}={value}" for name, value in node["labels"].items() if not name.startswith("ray.io/")
        )
        yield Finding("node", True, f"{node['name']}: {needs.described(node['total'])}{'; ' if labels else ''}{labels}")
    for each, read in wanted:
        if lacks := needs.lacks(each.resources, read, facts["nodes"]):
            words = "is waited for: the cluster can grow" if read.autoscales else "it cannot run"
            yield Finding(each.name, None if read.autoscales else False, f"{lacks}: {words}")
