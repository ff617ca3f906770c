"""Choosing one of a few things by name."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dcvtui.tui.panel import KeyLine, Panel


class ChoiceDialog(ModalScreen[str | None]):
    """Dismisses the id of what was chosen; None if nothing was.

    Args:
        title: the question.
        choices: ids, and how they are called.
        chosen: the one to begin with.
    """

    DEFAULT_CSS = """
    ChoiceDialog { align: center middle; background: $background 70%; }
    ChoiceDialog OptionList {
        height: auto; max-height: 60vh; padding: 0; border: none; background: $surface;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "choose", id="choice.choose-item", key_display="enter", priority=True),
        Binding("j", "step(1)", "Next", show=False, id="choice.next-item"),
        Binding("k", "step(-1)", "Previous", show=False, id="choice.previous-item"),
        Binding("escape", "cancel", "cancel", id="choice.cancel-choice", key_display="esc"),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], chosen: str = "") -> None:
        super().__init__()
        self._title, self._choices = title, list(choices)
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        """The choices, one a line."""
        yield Panel(
            self._title,
            OptionList(*(Option(Content(name), one) for one, name in self._choices), compact=True),
            foot=KeyLine("choice.choose-item", "choice.cancel-choice"),
        )

    def on_mount(self) -> None:
        """Begin with the one that is likely meant."""
        ids = [one for one, _ in self._choices]
        options = self.query_one(OptionList)
        options.highlighted = ids.index(self._chosen) if self._chosen in ids else 0
        options.focus()

    @on(OptionList.OptionSelected)
    def take_clicked(self, event: OptionList.OptionSelected) -> None:
        """The mouse chooses what it clicks."""
        self.dismiss(event.option_id)

    def action_step(self, steps: int) -> None:
        """Move in the list."""
        options = self.query_one(OptionList)
        if steps > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_choose(self) -> None:
        """Take the one under the cursor."""
        place = self.query_one(OptionList).highlighted
        self.dismiss(None if place is None else self._choices[place][0])

    def action_cancel(self) -> None:
        """Choose nothing."""
        self.dismiss(None)
