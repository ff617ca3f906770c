"""Asking for the name of a file; reading or writing it is the opener's."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input

from dcvtui.tui.form_fields import FormField, text_input
from dcvtui.tui.panel import KeyLine, Panel, Words


class PathDialog(ModalScreen[str | None]):
    """Dismisses the name of a file, or `None`."""

    DEFAULT_CSS = """
    PathDialog { align: center middle; background: $background 70%; }
    """

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

    def on_mount(self) -> None:
        """Type the name at once."""
        self.set_focus(self.query_one(Input))

    def action_take(self) -> None:
        """Take what was typed, if anything."""
        self.dismiss(self.query_one(Input).value.strip() or None)

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
