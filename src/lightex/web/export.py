"""One HTML file with a table and charts that needs nothing beside it: no server, no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from lightex.core import jsonlib
from lightex.core.naming import show
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.qviz.curves import axis_of
from lightex.qviz.names import Name
from lightex.qviz.pages.charts import curve
from lightex.qviz.pages.view import differing
from lightex.qviz.pages.words import icon, tone
from lightex.qviz.runs import value_of
from lightex.qviz.series import Histories

_STATIC = Path(__file__).parent / "static"
_POINTS = 1000  # of a curve
_METRICS = 60
_MODULES = ("format.js", "color.js", "scale.js", "series.js", "plot.js", "chart.js", "standalone.js")
"""In the order in which they need each other."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'sha256-{digest}'">
<title>{title}</title><style>{style}</style></head>
<body><header class="head"><span class="brand">LightEx</span> <span class="muted">{title}</span></header><main><div id="page"></div></main>
<script type="application/json" id="data">{data}</script>
<script type="module">{script}</script></body></html>
"""  # noqa: E501


def chart_page(
    runs: Sequence[Summary],
    metrics: Sequence[str],
    axis: str = "step",
    log: bool = False,
    weight: float = 0.0,
    title: str = "",
    columns: Sequence[Name] | None = None,
) -> str:
    """The page.

    Args:
        runs: which.
        metrics: whose curves; the first 60.
        axis: what they are drawn against: "step", "time", "wall" or the name of a metric.
        log: whether y is logarithmic.
        weight: of the smoothing, 0 (none) to below 1.
        title: what it is about; default: how many runs.
        columns: of the table; default: the parameters that differ, and the metrics.
    """
    if columns is None:
        columns = [Name("params", name) for name in differing(runs)] + [Name("metrics", name) for name in metrics]
    rows = [
        {"id": run.id, "label": run.short_id, "experiment": run.experiment,
         "state": [tone(run.status), icon(run.status), run.status.lower()],
         "cells": [show(value_of(run, name)) for name in columns]}
        for run in runs
    ]  # fmt: skip
    data = {
        "runs": rows,
        "columns": [name.name if name.kind != "field" else name.text for name in columns],
        "curves": _curves(runs, metrics[:_METRICS], axis),
        "axis": axis,
        "log": log,
        "smoothing": weight,
    }
    # No text in it can end the script element that it stands in.
    text = jsonlib.dumps(data, str, jsonlib.OPT_SERIALIZE_NUMPY).decode().replace("<", "\\u003c")
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (_STATIC / "style.css").read_text(encoding="utf-8")
    return _PAGE.format(
        digest=digest, title=escape(title or f"{len(runs)} runs"), style=style, data=text, script=script
    )


def _curves(runs: Sequence[Summary], metrics: Sequence[str], axis: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    for run in runs:
        try:
            histories = Histories(RunDir(run.dir), {*metrics, axis}).update()
        except OSError:  # it was removed meanwhile
            continue
        for name in metrics:
            if name in run.metrics:
                series = histories.get(name)
                one = curve(axis_of(series, axis, histories.get), series.value, _POINTS)
                found[name].append({"id": run.id, "label": run.short_id, **one})
    return found


def _script() -> str:
    """Our modules as one: each in a block of its own, what it exports in one object."""
    parts = ["const $all = {};"]
    for name in _MODULES:
        text = (_STATIC / name).read_text(encoding="utf-8")
        text = re.sub(r'^import (\{[^}]*\}) from "[^"]+";$', _imported, text, flags=re.MULTILINE)
        text = re.sub(r'^export (\{[^}]*\}) from "[^"]+";$', "", text, flags=re.MULTILINE)
        exported = re.findall(r"^export (?:async )?(?:function\*?|class|const|let) (\w+)", text, flags=re.MULTILINE)
        text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
        parts.append(f"{{\n{text}\nObject.assign($all, {{ {', '.join(exported)} }});\n}}")
    return "\n".join(parts).replace("</script", "<\\/script")


def _imported(match: re.Match[str]) -> str:
    return f"const {match[1].replace(' as ', ': ')} = $all;"
