"""The log of a run: followed, searched, scrolled, however long it is."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.geometry import Size
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from lightex.core.escapes import plain, without_escapes
from lightex.core.rundir import RunDir
from lightex.core.summary import Summary
from lightex.core.units import format_size
from lightex.mon.top.aside import aside
from lightex.mon.top.logfile import Line, LogFile, Part
from lightex.mon.top.words import end

_LOOK = 0.25  # seconds between two looks at the file
_PLAIN = Style()
_NOTHING = Part(0, 0, (), 0)


def coloured(text: str) -> Text:
    """A line with the colours that its escape sequences ask for, and without any other effect of them."""
    made = Text.from_ansi(text) if "\x1b" in text else Text(text)
    made.expand_tabs(8)
    if not made.plain.isprintable():
        made.plain = plain(made.plain)  # as long as before, so that the colours stay where they are
    made.end = ""
    return made


def bare(text: str) -> str:
    """The same without colours."""
    return plain(without_escapes(text).expandtabs(8))


class LogView(ScrollView, can_focus=True, inherit_bindings=False):
    """Lines, wrapped to what fits."""

    DEFAULT_CSS = "LogView { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }"

    def __init__(self, moved: Callable[[], None]) -> None:
        """`moved` is called when another place is shown."""
        super().__init__()
        self.part = _NOTHING
        self.word = ""
        self.following = True
        self.match = -1  # the byte at which what was found stands
        self._rows: list[tuple[int, int, int]] = []  # line, from, to
        self._moved = moved

    @property
    def top(self) -> int:
        """The byte of the first line in view."""
        return self._byte(round(self.scroll_y))

    @property
    def last(self) -> int:
        """The byte after the last line in view."""
        return self._byte(round(self.scroll_y) + self.size.height)

    def _byte(self, row: int) -> int:
        if not 0 <= row < len(self._rows):
            return self.part.stop if row > 0 else self.part.start
        return self.part.lines[self._rows[row][0]].at

    def show(self, part: Part, at: int | None = None) -> None:
        """Show a part of the log.

        Args:
            part: which.
            at: the byte whose line is to be in the middle; None: the end where it is followed, else what is in view.
        """
        top = self.top
        self.part = part
        lines = part.lines if self.size.width else ()  # it is not laid out yet
        self._rows = [row for number, each in enumerate(lines) for row in self._wrapped(number, each)]
        self.virtual_size = Size(self.size.width, len(self._rows))
        if at is not None:
            wanted = self._row(at) - self.size.height // 2
        elif self.following:
            wanted = len(self._rows)
        else:
            wanted = self._row(top)
        self.scroll_to(y=max(0, min(wanted, len(self._rows) - self.size.height)), animate=False, force=True)
        self.refresh()

    def _row(self, byte: int) -> int:
        """The first row of the line in which a byte is, of the rows that there are."""
        number = bisect_right(self.part.lines, byte, key=lambda line: line.at) - 1
        return bisect_left(self._rows, (max(0, number), 0, 0))

    def _wrapped(self, number: int, line: Line) -> list[tuple[int, int, int]]:
        text, width = bare(line.text), max(1, self.size.width - 1)  # the scrollbar's column
        if len(text) <= width and (text.isascii() or cell_len(text) <= width):
            return [(number, 0, len(text))]
        if text.isascii():
            return [(number, begin, min(len(text), begin + width)) for begin in range(0, len(text), width)]
        rows, begin = [], 0
        for piece in chop_cells(text, width):
            rows.append((number, begin, begin + len(piece)))
            begin += len(piece)
        return rows

    def render_line(self, y: int) -> Strip:
        """A row of what is in view."""
        place, width = y + round(self.scroll_y), self.size.width
        if place >= len(self._rows):
            return Strip.blank(width, _PLAIN)
        number, begin, stop = self._rows[place]
        text = coloured(self.part.lines[number].text)
        if self.word:
            text.highlight_regex(re.compile(re.escape(self.word), re.IGNORECASE), Style(reverse=True, bold=True))
        made = text[begin:stop].render(self.app.console)
        segments = [Segment(each.text, each.style or _PLAIN) for each in made if each.text != "\n"]
        return Strip(segments).adjust_cell_length(width, _PLAIN)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """As any view does; and tell it."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._moved()

    def on_resize(self, _event: events.Resize) -> None:
        """Wrap anew."""
        self.show(self.part)


class LogScreen(Screen[None]):
    """The output of one run."""

    DEFAULT_CSS = """
    LogScreen > #log-title { height: 1; text-style: bold; }
    LogScreen > #log-state { height: 1; }
    LogScreen > Input { height: 1; border: none !important; padding: 0; display: none; }
    """
    BINDINGS = [
        Binding("down,j", "by(1)", show=False),
        Binding("up,k", "by(-1)", show=False),
        Binding("pagedown,space,ctrl+d", "page(1)", show=False),
        Binding("pageup,ctrl+u", "page(-1)", show=False),
        Binding("home,g", "begin", show=False),
        Binding("end,G", "finish", show=False),
        Binding("f", "follow", show=False),
        Binding("slash", "search", show=False),
        Binding("n", "next(True)", show=False),
        Binding("N", "next(False)", show=False),
        Binding("escape,q", "leave", show=False),
    ]

    def __init__(self, run: Summary) -> None:
        super().__init__()
        self._run, self._file = run, LogFile(RunDir(run.dir).output_file)
        self._busy, self._searching, self._said, self._state = False, False, "", ""
        self._view = LogView(self._moved)

    def compose(self) -> ComposeResult:
        """A title, the log, a line that says where one is."""
        yield Static(
            end(f"{self._run.short_id}  {self._run.experiment}  output.log", 200), id="log-title", markup=False
        )
        yield self._view
        yield Input(placeholder="a word; enter finds it upwards")
        yield Static(id="log-state", markup=False)

    def on_mount(self) -> None:
        """Begin at the end."""
        self._view.focus()
        self.run_worker(self._keep_looking(), exclusive=True)

    async def _keep_looking(self) -> None:
        self._view.show(await aside(self._file.tail))
        while True:
            self._tell()
            await asyncio.sleep(_LOOK)
            part = self._view.part
            if self._busy or not part.at_end:
                continue
            more = await aside(lambda part=part: self._file.after(part))  # type: ignore[misc]
            if more is not part and self._view.part is part:
                self._view.show(more)

    def _moved(self) -> None:
        """Read on where the view has come near an end of what was read."""
        view = self._view
        row, height = round(view.scroll_y), view.size.height
        if row < height and view.part.start > 0:
            self._load(lambda: self._file.before(view.part))
        elif row + 2 * height > view.virtual_size.height and not view.part.at_end:
            self._load(lambda: self._file.after(view.part))
        self._tell()

    def _load(self, read: Callable[[], Part], at: int | None = None) -> None:
        if not self._busy:
            self._busy = True
            self.run_worker(self._loaded(read, at))

    async def _loaded(self, read: Callable[[], Part], at: int | None) -> None:
        try:
            self._view.show(await aside(read), at)
        finally:
            self._busy = False
        self._tell()

    def _tell(self) -> None:
        if not self.is_mounted:
            return
        view = self._view
        if self._searching:
            said = "searching ... esc ends it"
        elif not view.part.whole:
            said = "nothing was printed yet" if not self._run.ended else "nothing was printed"
        else:
            percent = 100 * min(view.last, view.part.whole) // view.part.whole
            state = ("end" if self._run.ended else "following") if self._view.following else f"at {percent} %"
            said = f"{state} of {format_size(view.part.whole)}"
        keys = "f follow  / search  n N next  g G ends  q back"
        text = f"{said}   {self._said}".rstrip() if self._said else said
        text = end(f"{text}   {keys}", self.size.width)
        if text != self._state:
            self._state = text
            for each in self.query("#log-state").results(Static):
                each.update(text)

    # ------------------------------------------------------------------ moving

    def action_by(self, rows: int) -> None:
        """Scroll."""
        self._view.following, self._said = False, ""
        self._view.scroll_to(y=self._view.scroll_y + rows, animate=False, force=True)
        self._tell()

    def action_page(self, by: int) -> None:
        """Scroll by a page."""
        self.action_by(by * max(1, self._view.size.height - 1))

    def action_begin(self) -> None:
        """Go to the beginning."""
        self._view.following = False
        self._load(self._file.head, 0)

    def action_finish(self) -> None:
        """Go to the end, and follow it."""
        self._view.following = True
        self._load(self._file.tail)

    def action_follow(self) -> None:
        """Follow what is written, or stay."""
        if self._view.following:
            self._view.following = False
            self._tell()
        else:
            self.action_finish()

    def action_leave(self) -> None:
        """Leave the field, or give up a search; else go back."""
        if self.query_one(Input).display:
            self._close_field()
        elif self._searching:
            self._searching = False
        else:
            self.dismiss()

    # ------------------------------------------------------------------ searching

    def action_search(self) -> None:
        """Ask for a word."""
        field = self.query_one(Input)
        field.value, field.display = "", True
        self.set_focus(field)  # at once: the next key is for it

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Find it, from the end of what is in view upwards."""
        self._close_field()
        self._view.word, self._view.match = event.value, -1
        self._view.refresh()
        if event.value:
            self.action_next(True)

    def _close_field(self) -> None:
        self.query_one(Input).display = False
        self.set_focus(self._view)

    def action_next(self, up: bool) -> None:
        """Find the word again."""
        if not self._view.word or self._searching:
            return
        self._view.following, self._searching, self._said = False, True, ""
        self._tell()
        self.run_worker(self._find(up))

    async def _find(self, up: bool) -> None:
        view, word = self._view, self._view.word
        start = (view.last if up else view.top) if view.match < 0 else view.match + (0 if up else 1)
        try:
            found = await aside(lambda: self._file.find(word, start, up, lambda: not self._searching))
            given_up = not self._searching
        finally:
            self._searching = False
        if found is not None:
            view.match = found
            if not view.part.start <= found < view.part.stop:
                view.show(await aside(lambda: self._file.around(found)), found)
            else:
                view.show(view.part, found)
        elif not given_up:
            self._said = f"'{word}' is not {'above' if up else 'below'}: {'N' if up else 'n'} looks the other way"
        self._tell()
