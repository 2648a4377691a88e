"""Curves drawn as text for a terminal, by plotille, or as PNG, SVG and PDF files, by matplotlib."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightex.core.errors import LightexError, needing
from lightex.core.units import format_duration
from lightex.qviz.curves import Curve

FILES = (".png", ".svg", ".pdf")
"""Endings of files that `to_file` writes."""

_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
MOST = 20
"""Curves that a terminal shows: more are a block."""

_LABEL = 40  # letters of a label in a file
_AROUND = 20  # columns that plotille draws beside the curves: the scale of y, the arrow of x

# Okabe and Ito's colours that colour-blind people tell apart (https://jfly.uni-koeln.de/color/), without black.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
_TERMINAL = (33, 214, 36, 166, 176, 117, 227)  # the same, of the terminal's 256
_MARKERS = "abcdefghijklmnopqrstuvwxyz"


def to_text(curves: Sequence[Curve], metric: str, axis: str, log: bool, width: int, height: int, colour: bool) -> str:
    """A drawing in braille dots, with a legend.

    Args:
        curves: at least one with a point.
        metric: its name.
        axis: "step", "time", "wall" or the name of a metric.
        log: whether y is logarithmic; points that are not positive are left out.
        width: columns in all.
        height: lines of the drawing.
        colour: whether curves are told apart by colour; else by letters.

    Raises:
        LightexError: plotille is missing, or no point is positive and y is logarithmic.
    """
    _check(curves, metric, log)
    with needing("drawing in the terminal needs", "'lightex[plot]'"):
        import plotille

    figure = plotille.Figure()
    begin, unit, figure.x_label = _clock(curves) if axis == "wall" else (0.0, 1.0, axis)
    figure.y_label = f"log10 {metric}" if log else metric
    figure.width, figure.height = max(20, width - _AROUND - len(figure.x_label)), height
    figure.color_mode, figure.with_colors = "byte", colour
    for kind in (float, int):
        figure.register_label_formatter(kind, _tick)
    for number, curve in enumerate(curves):
        points = [
            ((x - begin) / unit, math.log10(y) if log else y)
            for x, y in zip(curve.x, curve.y, strict=True)
            if not log or y > 0
        ]
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        letter = None if colour or len(curves) == 1 else _MARKERS[number % len(_MARKERS)]
        figure.plot(
            xs,
            ys,
            lc=_TERMINAL[number % len(_TERMINAL)] if colour else None,
            label=_cut(curve.label, width - 6),
            marker=letter,
        )
    drawn: str = figure.show(legend=True)
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _clock(curves: Sequence[Curve]) -> tuple[float, float, str]:
    """From when times are counted, in which unit (seconds), and how that is called."""
    times = [x for curve in curves for x in (curve.x[0], curve.x[-1])]
    begin, span = min(times), max(times) - min(times)
    unit, name = next(((unit, name) for unit, name in _UNITS if span >= 2 * unit), _UNITS[-1])
    return begin, unit, f"{name} since {time.strftime('%m-%d %H:%M', time.localtime(begin))}"


def _check(curves: Sequence[Curve], metric: str, log: bool) -> None:
    if log and not any(y > 0 for curve in curves for y in curve.y):
        raise LightexError(f"'{metric}' has no positive value to draw with a logarithmic axis")


def _tick(value: float, chars: int, delta: float, left: bool = False) -> str:  # noqa: ARG001  plotille's signature
    text = f"{value:.4g}" if abs(value) > 1e-9 else "0"
    return text.ljust(chars) if left else text.rjust(chars)


def to_file(path: Path, curves: Sequence[Curve], metric: str, axis: str, log: bool) -> None:
    """Write a PNG, an SVG or a PDF.

    Raises:
        LightexError: matplotlib is missing, or no point is positive and y is logarithmic.
        OSError: the file cannot be written.
    """
    _check(curves, metric, log)
    with needing("drawing to a file needs", "'lightex[plot]'"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    legend = len(curves) <= MOST
    figure = Figure(figsize=(10 if legend else 8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for number, curve in enumerate(curves):
        style = ("-", "--", ":", "-.")[number // len(_COLOURS) % 4]
        name = _cut(curve.label, _LABEL).replace("$", r"\$")  # no mathematics in names
        axes.plot(curve.x, curve.y, label=name, color=_COLOURS[number % len(_COLOURS)], linestyle=style, linewidth=1.5)
    axes.set(xlabel=axis.replace("$", r"\$"), ylabel=metric.replace("$", r"\$"), yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    if axis == "time":
        axes.xaxis.set_major_formatter(lambda value, _: ("-" if value < 0 else "") + format_duration(abs(value)))
    elif axis == "wall":
        axes.xaxis.set_major_formatter(lambda value, _: time.strftime("%m-%d %H:%M", time.localtime(value)))
        axes.tick_params(axis="x", rotation=30)
    if legend:
        figure.legend(fontsize="small", loc="outside right upper", frameon=False)
    figure.savefig(path, format=path.suffix[1:].lower(), dpi=150)
