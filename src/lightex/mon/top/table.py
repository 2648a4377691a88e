"""The table: sections of lines, a cursor that stays on its run, and only lines that changed are drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from lightex.mon.top.columns import line, widths
from lightex.mon.top.sections import Row, Section
from lightex.mon.top.words import TONES

_MARGIN = "  "
_PLAIN, _TITLE, _DIM = Style(), Style(bold=True), Style(dim=True)


@dataclass(frozen=True)
class _Line:
    """A line: what is drawn of it, the row that it is, the section that it belongs to."""

    parts: tuple[tuple[str, Style], ...]
    section: int
    row: Row | None = None


class Table(ScrollView, can_focus=True):
    """Sections of lines."""

    DEFAULT_CSS = """
    Table { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """
    BINDINGS = [
        Binding("down,j", "move(1)", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("pagedown,ctrl+d", "page(1)", show=False),
        Binding("pageup,ctrl+u", "page(-1)", show=False),
        Binding("home,g", "edge(0)", show=False),
        Binding("end,G", "edge(-1)", show=False),
        Binding("tab", "section(1)", show=False),
        Binding("shift+tab", "section(-1)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sections: Sequence[Section] = ()
        self._lines: list[_Line] = []
        self._titles: list[int] = []  # the line of each section's heading
        self._cursor = ""
        self._wide: dict[str, list[int]] = {}  # section -> what its columns had the last time

    @property
    def chosen(self) -> Row | None:
        """The row that the cursor is on."""
        place = self._place()
        return None if place is None else self._lines[place].row

    def forget(self) -> None:
        """Let the columns find their widths anew: something else is shown now."""
        self._wide.clear()

    def show(self, sections: Sequence[Section]) -> None:
        """Show sections; the cursor stays on its run, or where that was if it is gone."""
        old, place = self._lines, self._place()
        self._sections = sections
        self._lines, self._titles = [], []
        for number, section in enumerate(sections):
            self._add(number, section)
        self._cursor = self._kept(old, place)
        self.virtual_size = Size(self.size.width, len(self._lines))
        self._follow()
        if len(old) != len(self._lines):
            self.refresh()
            return
        for number, (before, now) in enumerate(zip(old, self._lines, strict=True)):
            if before.parts != now.parts:
                self.refresh_line(number)
        self.refresh_line(round(self.scroll_y))  # the heading that stays on top

    def _add(self, number: int, section: Section) -> None:
        width = max(20, self.size.width - len(_MARGIN) - 1)  # the scrollbar's column
        rows = [row.cells for row in section.rows]
        found = widths(section.columns, rows, width, self._wide.get(section.name, ()))
        if rows:
            self._wide[section.name] = found
        self._titles.append(len(self._lines))
        name = f"{section.name} {section.total:,}"
        head = "".join(text for text, _ in line(section.columns, [c.title for c in section.columns], found))
        self._lines.append(_Line(((name, _TITLE), (_beside(name, _MARGIN + head), _DIM)), number))
        for row in section.rows:
            cells = line(section.columns, row.cells, found)
            parts = tuple((text, _tone(text) if column.state else _PLAIN) for text, column in cells)
            self._lines.append(_Line(parts, number, row))
        if section.note:
            self._lines.append(_Line(((_MARGIN + section.note, _DIM),), number))
        self._lines.append(_Line((), number))

    def _kept(self, old: Sequence[_Line], place: int | None) -> str:
        rows = [each.row for each in self._lines if each.row]
        if not rows:
            return ""
        if any(row.key == self._cursor for row in rows):
            return self._cursor
        if place is None:  # the first look: what runs is what one came for
            return next((row for row in rows if row.run), rows[0]).key
        before = sum(1 for each in old[:place] if each.row)
        return rows[min(before, len(rows) - 1)].key

    def _place(self) -> int | None:
        """The line of the cursor."""
        return next((n for n, each in enumerate(self._lines) if each.row and each.row.key == self._cursor), None)

    # ------------------------------------------------------------------ moving

    def action_move(self, by: int) -> None:
        """Go to the next row, or the one before."""
        rows = [n for n, each in enumerate(self._lines) if each.row]
        place = self._place()
        if place is not None:
            self._go(rows[min(len(rows) - 1, max(0, rows.index(place) + by))])

    def action_page(self, by: int) -> None:
        """Go on by a page."""
        self.action_move(by * max(1, self.size.height - 2))

    def action_edge(self, which: int) -> None:
        """Go to the first row, or the last."""
        rows = [n for n, each in enumerate(self._lines) if each.row]
        if rows:
            self._go(rows[which])

    def action_section(self, by: int) -> None:
        """Go to the first row of the next section, or of the one before."""
        firsts: dict[int, int] = {}
        for number, each in enumerate(self._lines):
            if each.row:
                firsts.setdefault(each.section, number)
        place = self._place()
        if place is None:
            return
        order = list(firsts)
        self._go(firsts[order[(order.index(self._lines[place].section) + by) % len(order)]])

    def _go(self, place: int) -> None:
        row, before = self._lines[place].row, self._place()
        if row is None:
            return
        self._cursor = row.key
        if before is not None:
            self.refresh_line(before)
        self.refresh_line(place)
        self._follow()

    def _follow(self) -> None:
        """Have the cursor in view, below the heading that stays on top."""
        place, height = self._place(), self.size.height
        if place is None or height < 2:
            return
        top = round(self.scroll_y)
        first = next((n for n, each in enumerate(self._lines) if each.row), 0)
        if place <= first:
            top = 0
        elif place <= top:
            top = place - 1
        else:
            below = place + 1 < len(self._lines) and not self._lines[place + 1].row  # a note belongs to the last row
            top = max(top, place + below - height + 1)
        self.scroll_to(y=max(0, min(top, len(self._lines) - height)), animate=False, force=True)

    def on_resize(self, _event: events.Resize) -> None:
        """Lay out anew."""
        self.forget()
        self.show(self._sections)
        self.refresh()

    # ------------------------------------------------------------------ drawing

    def render_line(self, y: int) -> Strip:
        """A line of what is in view."""
        number, width = y + round(self.scroll_y), self.size.width
        if number >= len(self._lines):
            return Strip.blank(width, _PLAIN)
        shown = self._lines[number]
        if y == 0 and number and number not in self._titles:
            shown = self._lines[self._titles[shown.section]]
        if shown.row is None:
            return Strip([Segment(text, style) for text, style in shown.parts]).adjust_cell_length(width, _PLAIN)
        here = shown.row.key == self._cursor
        style = Style(reverse=True) if here else _PLAIN
        segments = [Segment("> " if here else _MARGIN, style)]
        segments += [Segment(text, style if here else tone) for text, tone in shown.parts]
        return Strip(segments).adjust_cell_length(width, style)


def _beside(name: str, head: str) -> str:
    """The headings that the name of a section, which stands where the first is, leaves to be seen."""
    cut = len(name) + 1
    while cut < len(head) and head[cut - 1] != " ":  # half a word says nothing
        cut += 1
    return " " * (cut - len(name)) + head[cut:]


def _tone(text: str) -> Style:
    colour = TONES.get(text.strip())
    return Style(color=colour) if colour else _PLAIN
