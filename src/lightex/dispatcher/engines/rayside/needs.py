"""What a job needs in Ray's words, and whether the nodes of a cluster can ever give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightex.core.taxonomy import Resources
from lightex.core.units import format_size, parse_size
from lightex.dispatcher.engines.given import node_labels
from lightex.dispatcher.engines.rayside.options import Options

Node = Mapping[str, Any]
"""A living node: "name", "total" and "labels", as `broker` tells it."""


def needs_of(resources: Resources, read: Options) -> dict[str, float]:
    """What one node of a job is to have, by Ray's names."""
    needs = {
        "CPU": resources.cpus,
        "GPU": float(resources.gpu_count),
        "memory": float(parse_size(resources.memory or 0)),
    }
    if read.accelerator_type:
        needs[f"accelerator_type:{read.accelerator_type}"] = 0.001  # as Ray's own option asks for it
    return {name: amount for name, amount in {**needs, **read.resources}.items() if amount}


def lacks(resources: Resources, read: Options, nodes: Sequence[Node]) -> str | None:
    """Why these nodes can never give it, or None if they can."""
    needs, labels = needs_of(resources, read), node_labels(resources)
    labelled = [node for node in nodes if all(node["labels"].get(name) == value for name, value in labels.items())]
    if labels and not labelled:
        return f"no node is labelled {', '.join(resources.node_labels)}"
    for name, amount in needs.items():
        most = max((float(node["total"].get(name, 0.0)) for node in labelled), default=0.0)
        if most < amount:
            return f"no node has {_words(name, amount)}; {_most(name, most)}"
    able = sum(all(node["total"].get(name, 0.0) >= amount for name, amount in needs.items()) for node in labelled)
    if not able:
        return f"no node has all of {', '.join(_words(name, amount) for name, amount in needs.items())}"
    if resources.nodes > 1 and read.placement == "STRICT_SPREAD" and able < resources.nodes:
        return f"it is to have {resources.nodes} nodes of its own, and {able} of the cluster can have it"
    return None


def described(total: Mapping[str, float]) -> str:
    """What a node has, in words."""
    parts = [_words(name, amount) for name, amount in sorted(total.items()) if not _is_of_ray(name)]
    return ", ".join(parts) or "no resources"


def _is_of_ray(name: str) -> bool:
    return name.startswith(("node:", "accelerator_type:")) or name == "object_store_memory"


def _words(name: str, amount: float) -> str:
    if name == "memory":
        return f"{format_size(int(amount))} of memory"
    if name.startswith("accelerator_type:"):
        return f"an accelerator of type {name.partition(':')[2]}"
    known = {"CPU": ("cpu", "cpus"), "GPU": ("GPU", "GPUs")}.get(name, (f"'{name}'", f"'{name}'"))
    return f"{amount:g} {known[0] if amount == 1 else known[1]}"


def _most(name: str, most: float) -> str:
    return f"the most that one has is {_words(name, most)}" if most else "none has any"
