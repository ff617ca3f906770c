"""Choosing the columns of a list and their order, tags of servers among them."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget

from dcvtui.api.text import visible
from dcvtui.tui.panel import KeyLine, Panel
from dcvtui.tui.row_paint import padded


class CheckList(Widget, can_focus=True):
    """Lines that are taken or not, and can be moved."""

    DEFAULT_CSS = """
    CheckList { height: 12; }
    """

    # Here and not on the screen: the panel between them scrolls with the same keys.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "toggle_column", "take", id="columns.toggle-column"),
        Binding("J", "shift(1)", "down", id="columns.shift-down", tooltip="Move the column to the right"),
        Binding("K", "shift(-1)", "up", id="columns.shift-up", tooltip="Move the column to the left"),
        Binding("down,j", "move(1)", "next", show=False, id="columns.next-column"),
        Binding("up,k", "move(-1)", "before", show=False, id="columns.previous-column"),
        Binding("pagedown", "move(10)", "page down", show=False, id="columns.page-down"),
        Binding("pageup", "move(-10)", "page up", show=False, id="columns.page-up"),
    ]

    def __init__(self, names: Sequence[str], taken: Sequence[str]) -> None:
        """A list.

        Args:
            names: all there are.
            taken: those that are taken, in their order; they come first.
        """
        super().__init__()
        known = [name for name in taken if name in names]
        self._names = [*known, *(name for name in names if name not in known)]
        self._taken = set(known)
        self._line = 0
        self._top = 0

    @property
    def taken(self) -> list[str]:
        """What is taken, in the order it stands in."""
        return [name for name in self._names if name in self._taken]

    def get_content_height(self, *_: object) -> int:
        """As many lines as there are, within what the style allows."""
        return len(self._names)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line."""
        line, width, base = self._top + y, self.size.width, self.rich_style
        if line >= len(self._names):
            return Strip.blank(width, base)
        name, is_here = self._names[line], line == self._line
        cursor = (">" if self.app.has_class("-ascii") else "▸") if is_here else " "
        box = "[x]" if name in self._taken else "[ ]"
        style = base + Style(bold=True) if is_here else base
        return Strip([Segment(padded(f"{cursor} {box} {visible(name)}", width), style)])

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.move(lines)

    def action_shift(self, lines: int) -> None:
        """Move the column."""
        self.shift(lines)

    def action_toggle_column(self) -> None:
        """Take the column, or leave it."""
        self.toggle_line()

    def move(self, lines: int) -> None:
        """Move the cursor."""
        self._line = max(0, min(self._line + lines, len(self._names) - 1))
        self._top = max(self._line - self.size.height + 1, min(self._top, self._line))
        self.refresh()

    def toggle_line(self) -> None:
        """Take the line under the cursor, or not."""
        self._taken ^= {self._names[self._line]}
        self.refresh()

    def shift(self, lines: int) -> None:
        """Move the line under the cursor, and the cursor with it."""
        target = self._line + lines
        if 0 <= target < len(self._names):
            names = self._names
            names[self._line], names[target] = names[target], names[self._line]
            self.move(lines)

    def on_click(self, event: events.Click) -> None:
        """Take what is clicked."""
        if (line := self._top + event.y) < len(self._names):
            self._line = line
            self.toggle_line()


class ColumnsDialog(ModalScreen[list[str] | None]):
    """Dismisses the columns in their order, an empty list for the usual ones, None for no change."""

    DEFAULT_CSS = """
    ColumnsDialog { align: center middle; background: $background 70%; }
    ColumnsDialog CheckList { height: auto; max-height: 60vh; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "show", id="columns.show-columns", key_display="enter"),
        Binding("r", "usual", "usual", id="columns.reset-columns"),
        Binding("escape", "cancel", "cancel", id="columns.cancel-choice", key_display="esc"),
    ]

    def __init__(self, title: str, names: Sequence[str], shown: Sequence[str]) -> None:
        """A dialog.

        Args:
            title: Whose columns.
            names: All columns there are.
            shown: Those shown now.
        """
        super().__init__()
        self._title = title
        self._list = CheckList(names, shown)

    def compose(self) -> ComposeResult:
        """The columns, those shown first."""
        yield Panel(
            self._title,
            self._list,
            foot=KeyLine(
                "columns.show-columns", "columns.toggle-column", "columns.shift-up", "columns.shift-down",
                "columns.reset-columns", "columns.cancel-choice",
            ),
        )  # fmt: skip

    def on_mount(self) -> None:
        """Keys go to the list."""
        self.set_focus(self._list)

    def action_take(self) -> None:
        """Show what is taken."""
        self.dismiss(self._list.taken)

    def action_usual(self) -> None:
        """Show the usual columns again."""
        self.dismiss([])

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
