"""What stands over the table: a question, why a run is as it is, the keys."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from lightex.core.errors import LightexError
from lightex.core.escapes import plain
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary, Why
from lightex.mon.top.aside import aside
from lightex.mon.top.log import coloured
from lightex.mon.top.watch import Given
from lightex.mon.top.words import frame

_BOX = """
    {name} {{ align: center middle; }}
    {name} > .box {{ width: 90%; max-width: 100; height: auto; max-height: 90%; border: {frame} ansi_default;
                     padding: 0 1; background: ansi_default; overflow-x: hidden; scrollbar-size-vertical: 1; }}
"""

KEYS = (
    ("arrows, j k", "move; page up and down, g and G, tab to the next section"),
    ("enter", "a run closely; of a sweep, its runs alone"),
    ("l", "its log, followed: / search, n N next, f follow or stay, q back"),
    ("w", "why it is as it is, and what helps"),
    ("s", "stop it, or a whole sweep: each run gets its grace"),
    ("K", "kill it at once"),
    ("r", "retry it; of a sweep, what failed"),
    ("c", "clone it with other parameters"),
    ("p", "pause its sweep, or let it go on"),
    ("+ -", "start a waiting run sooner, or later"),
    ("/", "only what shows a word; esc shows all again"),
    ("esc", "back; takes a message away"),
    ("?", "these keys"),
    ("q", "quit: what runs goes on"),
)


class Box(ModalScreen[bool]):
    """A text in a frame, which any of the keys that leave takes away."""

    BINDINGS = [
        Binding("escape,q,enter", "leave", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
    ]
    DEFAULT_CSS = _BOX.format(name="Box", frame=frame())

    def text(self) -> Text:
        """What is in it at first."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The frame."""
        with VerticalScroll(classes="box"):
            yield Static(self.text(), classes="text")

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(False)

    def action_scroll(self, by: int) -> None:
        """Move what does not fit."""
        self.query_one(".box").scroll_relative(y=by, animate=False)


class Question(Box):
    """Asks; True: yes."""

    BINDINGS = [Binding("y,enter", "agree", show=False), Binding("n", "leave", show=False)]

    def __init__(self, question: str, detail: str) -> None:
        super().__init__()
        self._question, self._detail = question, detail

    def text(self) -> Text:
        """The question, what it means, how to answer."""
        return Text.assemble((f"{plain(self._question)}\n", "bold"), f"{plain(self._detail)}\n\n", "y yes   n no")

    def action_agree(self) -> None:
        """Say yes."""
        self.dismiss(True)


class Keys(Box):
    """The keys."""

    def text(self) -> Text:
        """One a line."""
        text = Text("Keys\n", "bold")
        for key, words in KEYS:
            text.append(f"{key:<12}", "bold")
            text.append(f"{words}\n")
        return text


class WhyBox(Box):
    """Why a run is as it is."""

    def __init__(self, given: Given, run: Summary) -> None:
        super().__init__()
        self._given, self._run = given, run

    def text(self) -> Text:
        """What is known at once."""
        text = Text(f"{self._run.short_id}  {plain(self._run.experiment)}  {self._run.status}\n", "bold")
        if self._run.reason:
            text.append(f"{plain(self._run.reason)}\n")
        return text

    def on_mount(self) -> None:
        """Ask for the rest."""
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        try:
            found: Why = await aside(lambda: self._given.why(RunDir(self._run.dir)))
        except LightexError as error:
            text = self.text()
            text.append("\n  ".join(map(plain, (error.message, *error.details))))
        else:
            text = self._explained(found)
        self.query_one(".text", Static).update(text)

    def _explained(self, found: Why) -> Text:
        text = self.text()
        for fact in found.facts:
            text.append(f"{plain(fact)}\n")
        if found.last_lines:
            text.append("\nlast lines\n", "dim")
            for each in found.last_lines[-10:]:
                text.append_text(coloured(each)).append("\n")
        if found.steps:
            text.append("\ntry\n", "dim")
            for step in found.steps:
                text.append(f"  {plain(step)}\n")
        return text
