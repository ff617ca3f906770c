"""Choosing a preset for a permissions file: whom it is for, and which."""

from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from dcvtui.api.permissions import PRESETS
from dcvtui.tui.form_fields import FormField, text_input
from dcvtui.tui.line_dialog import LineDialog
from dcvtui.tui.panel import KeyLine, Panel, Words

LOAD: Final = "load-file"
SAVE: Final = "save-file"
_FILES: Final = {LOAD: "Load a file…", SAVE: "Save to a file…"}


class PersonDialog(LineDialog):
    """Dismisses the name of somebody whose rights are to be seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "show", id="person.show-person", key_display="enter", priority=True),
        Binding("escape", "cancel", "cancel", id="person.cancel-person", key_display="esc"),
    ]

    def compose(self) -> ComposeResult:
        """One field."""
        yield Panel(
            "Show somebody else",
            FormField("Who", text_input("", "user, group:name or osgroup:name"), id="person"),
            foot=KeyLine("person.show-person", "person.cancel-person"),
        )


class PresetDialog(ModalScreen[tuple[str, str] | None]):
    """Dismisses the name of a preset and whom it is for, "" where it is for nobody in particular."""

    DEFAULT_CSS = """
    PresetDialog { align: center middle; background: $background 70%; }
    PresetDialog OptionList { height: auto; margin-top: 1; padding: 0; border: none; background: $surface; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "apply", "apply", id="preset.apply-preset", key_display="enter", priority=True),
        Binding("up", "step(-1)", "Previous", show=False, id="preset.previous-preset", priority=True),
        Binding("down", "step(1)", "next", id="preset.next-preset", key_display="down", priority=True),
        Binding("escape", "cancel", "cancel", id="preset.cancel-preset", key_display="esc"),
    ]

    def __init__(self, suggested: str = "") -> None:
        """A dialog.

        Args:
            suggested: A user to begin with.
        """
        super().__init__()
        self._suggested = suggested

    def compose(self) -> ComposeResult:
        """Whom it is for, then the presets with that name in them."""
        yield Panel(
            "Preset",
            FormField("X is", text_input(self._suggested, "user, group:name or osgroup:name"), id="actor"),
            Words(id="said", classes="-failed", optional=True),
            OptionList(
                *(Option(self._title(name), name) for name in PRESETS),
                *(Option(title, name) for name, title in _FILES.items()),
                compact=True,
            ),
            foot=KeyLine("preset.apply-preset", "preset.next-preset", "preset.cancel-preset"),
        )

    def on_mount(self) -> None:
        """The keyboard types the name; arrows move in the list."""
        presets = self.query_one(OptionList)
        presets.can_focus = False
        presets.highlighted = list(PRESETS).index("view-only")
        self.set_focus(self.query_one(Input))

    def _title(self, name: str) -> Content:
        preset = PRESETS[name]
        actor = self.query_one(Input).value.strip() if self.is_mounted else self._suggested
        title = preset.title
        if preset.for_actor and actor:
            title = " ".join(actor if word == "X" else word for word in title.split(" "))
        return Content(title)

    @on(Input.Changed)
    def show_names(self) -> None:
        """Write the name into the titles."""
        presets = self.query_one(OptionList)
        for place, name in enumerate(PRESETS):
            presets.replace_option_prompt_at_index(place, self._title(name))
        self._say("")

    @on(OptionList.OptionSelected)
    def take_clicked(self) -> None:
        """The mouse applies what it clicks."""
        self.action_apply()

    def action_step(self, steps: int) -> None:
        """Move in the list."""
        presets = self.query_one(OptionList)
        if steps > 0:
            presets.action_cursor_down()
        else:
            presets.action_cursor_up()

    def action_apply(self) -> None:
        """Take the preset, if it is known whom it is for."""
        name = [*PRESETS, *_FILES][self.query_one(OptionList).highlighted or 0]
        if name in _FILES:
            self.dismiss((name, ""))
            return
        actor = self.query_one(Input).value.strip()
        if PRESETS[name].for_actor and not actor:
            self._say("For whom? A user, group:name or osgroup:name.")
            return
        self.dismiss((name, actor if PRESETS[name].for_actor else ""))

    def _say(self, text: str) -> None:
        self.query_one("#said", Words).show(text)

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
