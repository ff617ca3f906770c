"""What dialogs that ask for one line have in common."""

from textual.screen import ModalScreen
from textual.widgets import Input


class LineDialog(ModalScreen[str | None]):
    """Dismisses what was typed into its one field, or None; made and given its keys by those below."""

    DEFAULT_CSS = """
    LineDialog { align: center middle; background: $background 70%; }
    """

    def on_mount(self) -> None:
        """Type at once."""
        self.set_focus(self.query_one(Input))

    def action_take(self) -> None:
        """Take what was typed, if anything."""
        self.dismiss(self.query_one(Input).value.strip() or None)

    def action_cancel(self) -> None:
        """Take nothing."""
        self.dismiss(None)
