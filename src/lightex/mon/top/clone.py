"""A form that starts a run with the config of another one, changed."""

from __future__ import annotations

import shlex
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from lightex.core import jsonlib
from lightex.core.errors import ConfigError, LightexError
from lightex.core.escapes import plain
from lightex.core.root import Root
from lightex.core.summary import Summary
from lightex.mon import actions
from lightex.mon.top.aside import aside
from lightex.mon.top.told import bad
from lightex.mon.top.words import frame, middle

_NAME = 24  # columns of a name


def written(value: Any) -> str:
    """A value as an override writes it."""
    return value if isinstance(value, str) else jsonlib.dumps(value).decode()


class CloneForm(ModalScreen[str | None]):
    """Answers with what came of it; None: nothing was started."""

    BINDINGS = [
        Binding("escape", "leave", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]
    DEFAULT_CSS = f"""
    CloneForm {{ align: center middle; }}
    CloneForm > #form {{ width: 90%; max-width: 100; height: auto; max-height: 90%; border: {frame()} ansi_default;
                        padding: 0 1; background: ansi_default; }}
    CloneForm #fields {{ height: auto; max-height: 12; scrollbar-size-vertical: 1; }}
    CloneForm Horizontal {{ height: 1; }}
    CloneForm .name {{ width: 26; height: 1; }}
    CloneForm Input {{ width: 1fr; height: 1; border: none !important; padding: 0; }}
    CloneForm Input:focus {{ text-style: reverse; }}
    CloneForm #said {{ height: auto; max-height: 8; margin-top: 1; }}
    """

    def __init__(self, root: Root, run: Summary) -> None:
        super().__init__()
        self._root, self._run = root, run
        params = {name: value for name, value in run.params.items() if name.startswith("hp.")}
        first = [name for name in run.varied if name in params]
        self._params = {name: written(params[name]) for name in (*first, *(n for n in params if n not in first))}
        self._busy = False

    def compose(self) -> ComposeResult:
        """A line for each parameter, those that vary first; and one for anything else."""
        with VerticalScroll(id="form", can_focus=False):
            title = f"Clone {self._run.short_id}  {self._run.experiment}"
            yield Static(Text(plain(title), "bold"))
            with VerticalScroll(id="fields", can_focus=False):
                for number, (name, value) in enumerate(self._params.items()):
                    with Horizontal():
                        yield Static(middle(plain(name), _NAME), classes="name", markup=False)
                        yield Input(value, id=f"field{number}", select_on_focus=False)
            with Horizontal():
                yield Static("anything else", classes="name", markup=False)
                yield Input(placeholder="resources.memory=2GiB hp.seed=1,2", id="more")
            yield Static("enter starts it   up and down move   esc leaves", id="said", markup=False)

    def on_mount(self) -> None:
        """Begin with the first parameter."""
        self.query(Input).first().focus()

    def action_leave(self) -> None:
        """Start nothing."""
        self.dismiss(None)

    def on_input_submitted(self) -> None:
        """Start it."""
        if not self._busy:
            self._busy = True
            self.run_worker(self._start())

    def overrides(self) -> list[str]:
        """What was changed.

        Raises:
            ConfigError: a quotation mark is left open.
        """
        fields = [self.query_one(f"#field{number}", Input).value for number in range(len(self._params))]
        changed = [
            actions.override(name, self._run.params[name], now)
            for (name, before), now in zip(self._params.items(), fields, strict=True)
            if now != before
        ]
        try:
            return changed + shlex.split(self.query_one("#more", Input).value)
        except ValueError as error:
            raise ConfigError(f"anything else: {error}", "write KEY=VALUE, e.g. hp.note='two words'") from None

    async def _start(self) -> None:
        said = self.query_one("#said", Static)
        said.update("starting ...")
        try:
            overrides = self.overrides()
            told = await aside(lambda: actions.clone(self._root, self._run, overrides))
        except LightexError as error:
            said.update(bad(error).text())
        else:
            self.dismiss(told)
        finally:
            self._busy = False
