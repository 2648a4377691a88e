"""One run closely."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Static

from lightex.core.escapes import plain
from lightex.core.naming import show
from lightex.core.rundir import RUNNING
from lightex.core.summary import Summary
from lightex.core.units import format_age, format_duration
from lightex.mon.top.acting import RunScreen
from lightex.mon.top.log import coloured
from lightex.mon.top.sections import Row
from lightex.mon.top.told import Told
from lightex.mon.top.watch import Close, Sight
from lightex.mon.top.words import TONES, bar, end, needs, size

_SOURCES = {"said": "by its own word", "bar": "by the bar in its output", "steps": "by its steps"}
_LINES = 12  # of output


class Detail(RunScreen):
    """A run: what varies, metrics, how far it is, what it uses, why it ended, what it printed last."""

    DEFAULT_CSS = """
    Detail > VerticalScroll { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    Detail > #keys { height: 1; }
    """
    BINDINGS = [
        Binding("escape,q,enter", "leave", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
    ]

    def __init__(self, run: Summary) -> None:
        super().__init__()
        self.run = run
        self._shown: Text | None = None

    def chosen(self) -> Row:
        """The run."""
        return Row(self.run.id, (), run=self.run)

    def compose(self) -> ComposeResult:
        """What is known of it, what was told, the keys."""
        with VerticalScroll():
            yield Static(_text(Close(self.run, None, {}, []), 0.0, 80), id="about")
        yield Told()
        yield Static(end("esc back  l log  w why  s stop  K kill  r retry  c clone  p pause  ? keys", 200), id="keys")

    def show(self, sight: Sight) -> None:
        """Show what a look has found of it."""
        if sight.close is None or sight.close.run.id != self.run.id:
            return
        self.run = sight.close.run
        text = _text(sight.close, sight.picture.at, max(20, self.size.width - 1))
        if text != self._shown:
            self._shown = text
            for each in self.query("#about").results(Static):
                each.update(text)

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss()

    def action_scroll(self, by: int) -> None:
        """Move what does not fit."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)


def _text(close: Close, now: float, width: int) -> Text:
    run = close.run
    text = Text.assemble(
        (f"{run.short_id}  {plain(run.experiment)}  ", "bold"), (run.status, TONES.get(run.status, ""))
    )
    text.append(f"  {_times(run, now)}\n")
    if run.reason:
        text.append(f"{plain(run.reason)}\n")
    where = [f"attempt {run.attempt}", run.engine, run.node, f"GPU {', '.join(run.gpus)}" if run.gpus else None]
    where += [f"needs {wants}" if (wants := needs(run)) else None, f"sweep {run.sweep}" if run.sweep else None]
    text.append(plain("  ".join(each for each in where if each)) + "\n", "dim")
    if run.note:
        text.append(f"# {plain(run.note)}\n")
    if run.status == RUNNING:
        _progress(text, close)
    _params(text, run, width)
    _metrics(text, run, width)
    if close.lines:
        text.append("\nlast lines of its output (l shows all)\n", "dim")
        for line in close.lines[-_LINES:]:
            text.append_text(coloured(line)).append("\n")
    return text


def _times(run: Summary, now: float) -> str:
    if run.ended and now:
        took = f" after {format_duration(run.duration)}" if run.duration is not None else ""
        return f"{format_age(now - run.ended)}{took}"
    return f"for {format_duration(now - run.started)}" if run.started and now and run.status == RUNNING else ""


def _progress(text: Text, close: Close) -> None:
    progress, usage = close.progress, close.usage
    text.append("\nprogress  ", "dim")
    if progress is None:
        text.append("not told: run.progress(done, total) tells it\n")
    else:
        done = show(progress.done) + (f"/{show(progress.total)}" if progress.total else "")
        left = f"  left {format_duration(progress.left)}" if progress.left is not None else ""
        drawn = f"{bar(progress.share, 20)} " if progress.share is not None else ""
        text.append(f"{drawn}{done}{left}  ({_SOURCES[progress.source]})\n")
    said = []
    if usage.get("cpu") is not None:
        said.append(f"cpu {usage['cpu'] * 100:.0f}%")
    if usage.get("memory") is not None:
        said.append(f"memory {size(usage['memory'])}")
    for name in ("read", "written", "received", "sent"):
        if usage.get(name):
            said.append(f"{name} {size(usage[name])}/s")
    for gpu, load in (usage.get("gpus") or {}).items():
        use = f" {load['use'] * 100:.0f}%" if load.get("use") is not None else ""
        memory = f" {size(load['memory'])}" if load.get("memory") is not None else ""
        said.append(f"GPU {plain(gpu)}{use}{memory}")
    text.append("usage     ", "dim")
    text.append("  ".join(said) + "\n" if said else "no sample lately\n")


def _params(text: Text, run: Summary, width: int) -> None:
    if run.varied:
        text.append("\nparameters that vary\n", "dim")
        for name, value in run.varied.items():
            text.append(f"  {plain(f'{name}  {show(value)}')}\n")
    rest = [f"{name.removeprefix('hp.')}={show(value)}" for name, value in run.params.items() if name not in run.varied]
    if rest:
        text.append("\nother parameters\n" if run.varied else "\nparameters\n", "dim")
        text.append(f"  {end(plain('  '.join(rest)), 3 * width)}\n")


def _metrics(text: Text, run: Summary, width: int) -> None:
    if not run.metrics:
        return
    names = list(run.metrics)
    wide = min(40, max(map(len, names)))
    text.append(f"\n{'metric':<{wide + 2}}{'last':>11}{'least':>11}{'greatest':>11}{'step':>9}\n", "dim")
    for name in names:
        best = run.best.get(name) or {}
        cells = [run.metrics[name], best.get("min"), best.get("max")]
        shown = "".join(f"{show(cell):>11}" for cell in cells)
        step = "" if best.get("step") is None else f"{best['step']:g}"
        text.append(end(f"{plain(name)[:wide]:<{wide + 2}}{shown}{step:>9}", width) + "\n")
