"""The first screen: everything in one table."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input, Static

from lightex.mon.top.acting import RunScreen
from lightex.mon.top.header import header
from lightex.mon.top.sections import Row, sections
from lightex.mon.top.table import Table
from lightex.mon.top.told import Told
from lightex.mon.top.watch import Sight
from lightex.mon.top.words import end

_KEYS = "enter detail  l log  s stop  r retry  w why  c clone  / filter  ? keys  q quit"


class Overview(RunScreen):
    """Header, table, what was told, keys."""

    DEFAULT_CSS = """
    Overview > #header { height: auto; min-height: 2; margin-bottom: 1; }
    Overview > #keys { height: 1; }
    Overview > Input { height: 1; border: none !important; padding: 0; display: none; }
    """
    BINDINGS = [
        Binding("enter", "open", show=False),
        Binding("slash", "filter", show=False),
        Binding("escape", "clear", show=False),
        Binding("q", "app.quit", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sight: Sight | None = None

    def compose(self) -> ComposeResult:
        """All of it."""
        yield Static("reading the runs ...", id="header", markup=False)
        yield Table()
        yield Told()
        yield Input(placeholder="a word of what is shown: id, experiment, lr=0.1, state, reason, node")
        yield Static(_KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """The keys are for the table."""
        self.query_one(Table).focus()
        self._draw()

    def chosen(self) -> Row | None:
        """The row of the cursor."""
        return self.query_one(Table).chosen

    def reading(self, done: int, total: int) -> None:
        """Tell how far a long reading is."""
        for each in self.query("#header").results(Static):
            each.update(f"reading the runs: {done:,} of {total:,}")

    def show(self, sight: Sight) -> None:
        """Show what a look has found."""
        if self._sight is None or self._sight.wish != sight.wish:
            for table in self.query(Table):
                table.forget()
        self._sight = sight
        self._draw()

    def on_resize(self, _event: events.Resize) -> None:
        """Lay out anew."""
        self._draw()

    def _draw(self) -> None:
        if self._sight is None or not self.query(Table):  # a look may be faster than the screen is made
            return
        width = self.size.width
        where = self.top.given.named or f"{self.top.given.root.path}"
        self.query_one("#header", Static).update(header(where, self._sight, width))
        self.query_one(Table).show(sections(self._sight.picture, width, self._sight.wish.word))
        self.query_one("#keys", Static).update(end(_KEYS, width))

    # ------------------------------------------------------------------ what is shown

    def action_open(self) -> None:
        """A run closely, or the runs of a sweep alone."""
        row = self.chosen()
        if row and row.run:
            self.top.open(row.run)
        elif row and row.sweep:
            self.top.only(sweep=row.sweep.id)

    def action_filter(self) -> None:
        """Ask for a word."""
        field = self.query_one(Input)
        field.value, field.display = self.top.wish.word, True
        self.set_focus(field)  # at once: the next key is for it

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what the word so far finds."""
        if event.input.display:
            self.top.only(word=event.value.strip())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table."""
        self.top.only(word=event.value.strip())  # quick fingers: what changed last may not have been told yet
        self._close_field()

    def action_clear(self) -> None:
        """Take away what is in the way: the field, a message, the filters."""
        if self.query_one(Input).display:
            self.top.only(word="")
            self._close_field()
        elif self.top.saying:
            self.top.tell(None)
        else:
            self.top.only(word="", sweep="")

    def _close_field(self) -> None:
        self.query_one(Input).display = False
        self.set_focus(self.query_one(Table))
