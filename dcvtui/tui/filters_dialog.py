"""The filters saved by name: use one, save the present one, forget one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dcvtui.api.text import visible
from dcvtui.tui.form_fields import FormField, text_input
from dcvtui.tui.line_dialog import LineDialog
from dcvtui.tui.panel import KeyLine, Panel, Words


@dataclass(frozen=True, slots=True)
class NamedChoice:
    """What is to be done with something saved by name."""

    what: Literal["use", "save", "forget"]
    name: str


class NameDialog(LineDialog):
    """Dismisses a name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "save", id="name.take-name", key_display="enter", priority=True),
        Binding("escape", "cancel", "cancel", id="name.cancel-name", key_display="esc"),
    ]

    def __init__(self, title: str, what: str, suggested: str = "") -> None:
        """A dialog.

        Args:
            title: The question.
            what: What gets the name.
            suggested: A name to begin with.
        """
        super().__init__()
        self._title, self._what, self._suggested = title, what, suggested

    def compose(self) -> ComposeResult:
        """One field, and what gets the name."""
        yield Panel(
            self._title,
            FormField("Name", text_input(self._suggested), id="name"),
            Words(self._what, classes="-muted", optional=True),
            foot=KeyLine("name.take-name", "name.cancel-name"),
        )


class SavedDialog(ModalScreen[NamedChoice | None]):
    """Things saved by name, filters and templates alike; dismisses what is to be done with one."""

    DEFAULT_CSS = """
    SavedDialog { align: center middle; background: $background 70%; }
    SavedDialog OptionList {
        height: auto; max-height: 50vh; padding: 0; border: none; background: $surface;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "use", "use", id="saved.use-saved", key_display="enter", priority=True),
        Binding("s", "save", "save the present one", id="saved.save-present"),
        Binding("D", "forget", "forget", id="saved.forget-saved"),
        Binding("j", "step(1)", "next", show=False, id="saved.next-saved"),
        Binding("k", "step(-1)", "before", show=False, id="saved.previous-saved"),
        Binding("escape", "cancel", "close", id="saved.cancel-choice", key_display="esc"),
    ]

    def __init__(self, title: str, saved: Mapping[str, str], present: str) -> None:
        """A dialog.

        Args:
            title: What is saved here.
            saved: What there is, by name, each with a line that says what it is.
            present: The present one in words; "" where there is nothing to save.
        """
        super().__init__()
        self._title, self._saved, self._present = title, saved, present

    def compose(self) -> ComposeResult:
        """What there is, and what the present one is."""
        wide = max((len(name) for name in self._saved), default=0) + 2
        yield Panel(
            self._title,
            OptionList(
                *(
                    Option(Content(f"{visible(name):<{wide}}{visible(text)}"), name)
                    for name, text in self._saved.items()
                ),
                compact=True,
            ),
            Words(self._nothing, optional=True),
            Words(
                f"The present one: {self._present}" if self._present else "", classes="-muted", optional=True
            ),
            foot=KeyLine(
                "saved.use-saved", "saved.save-present", "saved.forget-saved", "saved.cancel-choice"
            ),
        )

    @property
    def _nothing(self) -> str:
        if self._saved:
            return ""
        return "Nothing is saved yet." + (
            "" if self._present else " Filter with `/` first, then save it here."
        )

    def on_mount(self) -> None:
        """Begin with the first."""
        options = self.query_one(OptionList)
        options.display = bool(self._saved)
        if self._saved:
            options.highlighted = 0
            options.focus()

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer only what there is something for."""
        if action in ("use", "forget"):
            return bool(self._saved)
        return bool(self._present) if action == "save" else True

    @property
    def _chosen(self) -> str:
        return list(self._saved)[self.query_one(OptionList).highlighted or 0]

    @on(OptionList.OptionSelected)
    def take_clicked(self) -> None:
        """The mouse uses what it clicks."""
        self.action_use()

    def action_step(self, steps: int) -> None:
        """Move in the list."""
        options = self.query_one(OptionList)
        if steps > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_use(self) -> None:
        """Use the one under the cursor."""
        self.dismiss(NamedChoice("use", self._chosen))

    def action_forget(self) -> None:
        """Forget the one under the cursor."""
        self.dismiss(NamedChoice("forget", self._chosen))

    def action_save(self) -> None:
        """Save the present one under a name."""
        self.app.push_screen(NameDialog("Save under a name", self._present), self._take_name)

    def _take_name(self, name: str | None) -> None:
        if name:
            self.dismiss(NamedChoice("save", name))

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
