"""The parts of forms: a labelled field with room for a note and a fault, and a choice among a few words.

Forms put these together; no field knows what it is for.
"""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input

from dcvtui.tui.panel import Words
from dcvtui.tui.safe_lines import safe


class TextInput(Input):
    """A field for one line of text, whatever is in it."""

    def render_line(self, y: int) -> Strip:
        """The text and nothing else."""
        return safe(super().render_line(y))


def text_input(
    value: str = "", placeholder: str = "", *, suggester: Suggester | None = None, password: bool = False
) -> Input:
    """A text field of one line without a frame; its cursor stands still: a blinking one always writes."""
    field = TextInput(
        value, placeholder, suggester=suggester, password=password, compact=True, select_on_focus=False
    )
    field.cursor_blink = False
    return field


class OneOf(Widget, can_focus=True):
    """A choice among a few words in one line: arrows move it, Space takes the next."""

    DEFAULT_CSS = """
    OneOf { height: 1; width: 1fr; }
    OneOf > .one-of--chosen { text-style: bold; }
    OneOf:focus > .one-of--chosen { text-style: bold reverse; }
    OneOf > .one-of--other { color: $text-muted; }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"one-of--chosen", "one-of--other"}
    """
    | Class | Description |
    | :- | :- |
    | `one-of--chosen` | The word that is chosen. |
    | `one-of--other` | The other words. |
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Previous", show=False, id="form.previous-word"),
        Binding("right,space", "step(1)", "Next", show=False, id="form.next-word"),
    ]

    value: reactive[str] = reactive("")
    """The value that is chosen."""

    class Changed(Message):
        """Another word was chosen."""

        def __init__(self, one_of: "OneOf") -> None:
            self.one_of = one_of
            super().__init__()

        @property
        def control(self) -> "OneOf":
            """The choice that changed."""
            return self.one_of

    def __init__(self, options: Sequence[tuple[str, str]], value: str) -> None:
        """A choice.

        Args:
            options: Values and the words shown for them.
            value: What is chosen at first.
        """
        super().__init__()
        self._options = options
        self.set_reactive(OneOf.value, value)

    def render(self) -> Content:
        """All words in a row, the chosen one marked by a sign."""
        return Content("   ").join(self._word(value, word) for value, word in self._options)

    def _word(self, value: str, word: str) -> Content:
        is_chosen = value == self.value
        signs = ("*", ".") if self.app.has_class("-ascii") else ("●", "○")
        style = self.get_visual_style("one-of--chosen" if is_chosen else "one-of--other")
        return Content.assemble((f"{signs[0] if is_chosen else signs[1]} {word}", style))

    def watch_value(self) -> None:
        """Tell the form."""
        self.post_message(self.Changed(self))

    def action_step(self, steps: int) -> None:
        """Choose a neighbour; after the last word comes the first."""
        values = [value for value, _ in self._options]
        self.value = values[(values.index(self.value) + steps) % len(values)]

    def on_click(self, event: events.Click) -> None:
        """Choose the word under the mouse."""
        start = 0
        x = event.get_content_offset_capture(self).x
        for value, word in self._options:
            end = start + self._word(value, word).cell_length
            if start <= x < end:
                self.value = value
            start = end + 3


class FormField(Vertical):
    """A label and what is filled in beside it, a note below, and a fault when there is one."""

    DEFAULT_CSS = """
    FormField { height: auto; }
    FormField > Horizontal { height: auto; }
    FormField > Horizontal > Words { width: 1fr; }
    FormField .field-label { width: 15; color: $text-muted; }
    FormField.-active .field-label { color: $text-accent; text-style: bold; }
    FormField > .field-note, FormField > .field-fault { padding-left: 15; }
    FormField > .field-note { color: $text-muted; }
    FormField Input { width: 1fr; background: $panel; }
    FormField Input:focus { background: $boost; background-tint: $foreground 8%; }
    """

    def __init__(self, label: str, editor: Widget, *, id: str | None = None) -> None:
        """A field.

        Args:
            label: Its name, up to a dozen letters.
            editor: What is filled in.
            id: What the form calls it.
        """
        super().__init__(id=id)
        self._label_text = label
        self.editor = editor

    def compose(self) -> ComposeResult:
        """Label and editor side by side, words below."""
        with Horizontal():
            yield Words(f"  {self._label_text}", classes="field-label")
            yield self.editor
        yield Words(classes="field-note", optional=True)
        yield Words(classes="field-fault -failed", optional=True)

    @property
    def note(self) -> str:
        """What is said below the field."""
        return self.query_one(".field-note", Words).text

    @property
    def fault(self) -> str:
        """What is wrong with the field, "" if nothing."""
        return self.query_one(".field-fault", Words).text

    def say(self, text: str) -> None:
        """Show a note below the field, or none."""
        self.query_one(".field-note", Words).show(text)

    def complain(self, text: str) -> None:
        """Show what is wrong, or that nothing is."""
        self.query_one(".field-fault", Words).show(text)

    def on_descendant_focus(self) -> None:
        """A sign before the label, because colour alone says nothing to some."""
        self._sign("> " if self.app.has_class("-ascii") else "▸ ", is_active=True)

    def on_descendant_blur(self) -> None:
        """No sign."""
        self._sign("  ", is_active=False)

    def _sign(self, sign: str, *, is_active: bool) -> None:
        self.set_class(is_active, "-active")
        self.query_one(".field-label", Words).show(sign + self._label_text)
