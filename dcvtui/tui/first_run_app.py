"""The screen that opens where no broker is configured yet: the form of `first_run`, alone.

A program of its own and not a screen of the console, because a console has a
broker from its first moment on. The command line opens it, and then the console
on what was saved.
"""

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size

from dcvtui.broker_check import BrokerCheck, BrokerEntry
from dcvtui.terminal import from_environment
from dcvtui.tui.first_run import DemoChosen, FirstRunForm, FirstRunOutcome
from dcvtui.tui.ordered_keys import OrderedKeysApp
from dcvtui.tui.size_screen import SizeScreen, is_too_small
from dcvtui.tui.themes import DARK, LIGHT

__all__ = ["DemoChosen", "FirstRunApp", "FirstRunOutcome", "run"]

Outcome = FirstRunOutcome | DemoChosen


class FirstRunApp(OrderedKeysApp[Outcome], inherit_bindings=False):
    """Asks for the first broker; its return value is None when the operator leaves."""

    TITLE = "dcvtui"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        # Before a text field takes it for copying.
        Binding("ctrl+c", "leave", "leave", id="any.interrupt-console", show=False, priority=True),
    ]

    def __init__(
        self, check: BrokerCheck, entry: BrokerEntry, *, theme: str | None = None, ascii_only: bool = False
    ) -> None:
        """The screen.

        Args:
            check: Tests and saves what is typed.
            entry: What the fields hold at first.
            theme: Name of a theme; None for the dark one of our own.
            ascii_only: Signs in ASCII.
        """
        super().__init__()
        self._form = FirstRunForm(check.steps, check.save, entry)
        self._theme_name, self._ascii_only = theme or DARK.name, ascii_only
        self.animation_level = "none"

    def on_mount(self) -> None:
        """Show the form; what its test needs is loaded while somebody types."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = self._theme_name
        self.set_class(self._ascii_only, "-ascii")
        self.push_screen(self._form, self.exit)
        self._mind(self.size)
        self.call_after_refresh(self.run_worker, _load_client, thread=True)

    def on_resize(self, event: events.Resize) -> None:
        """Say which size is needed where there is too little room."""
        self._mind(event.size)

    def _mind(self, size: Size) -> None:
        # Over the form only: the first size comes before there is one.
        if is_too_small(size) and self.screen is self._form:
            self.push_screen(SizeScreen())

    def _fatal_error(self) -> None:
        """End with the report of a bug; Textual's own shows the variables, links with tokens among them."""
        self.panic(Text(traceback.format_exc()))

    def action_leave(self) -> None:
        """Leave without a broker."""
        self.exit(None)


def _load_client() -> None:
    importlib.import_module("dcvtui.client")


def run(
    profiles: Path, entry: BrokerEntry, *, theme: str | None = None, ascii_only: bool | None = None
) -> Outcome | None:
    """Ask for the first broker until there is one that works or the operator leaves.

    Args:
        profiles: The profile file to save in.
        entry: What the fields hold at first.
        theme: Name of a theme; None for the dark one of our own.
        ascii_only: Signs in ASCII; None decides by the terminal.
    """
    if ascii_only is None:
        ascii_only = not from_environment(os.environ, getattr(sys.__stdout__, "encoding", None)).is_utf8
    return FirstRunApp(BrokerCheck(profiles), entry, theme=theme, ascii_only=ascii_only).run()
