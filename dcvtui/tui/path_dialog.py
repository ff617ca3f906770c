"""Asking for the name of a file; reading or writing it is the opener's."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from dcvtui.tui.form_fields import FormField, text_input
from dcvtui.tui.line_dialog import LineDialog
from dcvtui.tui.panel import KeyLine, Panel, Words


class PathDialog(LineDialog):
    """Dismisses the name of a file, or `None`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "take it", id="path.take-path", key_display="enter", priority=True),
        Binding("escape", "cancel", "cancel", id="path.cancel-path", key_display="esc"),
    ]

    def __init__(self, title: str, suggested: str = "", note: str = "") -> None:
        """A dialog.

        Args:
            title: What the file is for.
            suggested: A name to begin with.
            note: What is to be known of the file.
        """
        super().__init__()
        self._title, self._suggested, self._note = title, suggested, note

    def compose(self) -> ComposeResult:
        """One field."""
        yield Panel(
            self._title,
            FormField("File", text_input(self._suggested, "~/name"), id="path"),
            Words(self._note, classes="-muted", optional=True),
            foot=KeyLine("path.take-path", "path.cancel-path"),
        )
