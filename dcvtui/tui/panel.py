"""What every dialog is made of: a quiet panel with a title, and a row of choices or keys.

No dialog of its own and no knowledge of one: a choice names a binding of the
screen by its id, shows the key that is bound to it now, and does what the key does.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from dcvtui.api.text import visible
from dcvtui.tui.keys import is_bound


def plural(count: int, noun: str) -> str:
    """`1 session`, `2 sessions`, `1,912 sessions`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Words(Static):
    """Plain text of ours and of others: never read as markup, unsafe characters shown as codes."""

    DEFAULT_CSS = """
    Words { height: auto; }
    Words.-muted { color: $text-muted; }
    Words.-warning { color: $text-warning; }
    Words.-failed { color: $text-error; }
    """

    def __init__(
        self, text: str = "", *, id: str | None = None, classes: str | None = None, optional: bool = False
    ) -> None:
        """Words that may change.

        Args:
            text: What is shown at first.
            id: As of every widget.
            classes: As of every widget.
            optional: Take no place while there is nothing to say.
        """
        super().__init__(_visible_lines(text), id=id, classes=classes, markup=False)
        self._text = text
        self._is_optional = optional
        if optional:
            self.display = bool(text)

    @property
    def text(self) -> str:
        """The text as it was given."""
        return self._text

    def show(self, text: str) -> None:
        """Show another text; an equal one draws nothing."""
        if text != self._text:
            self._text = text
            self.update(_visible_lines(text))
            if self._is_optional:
                self.display = bool(text)


def _visible_lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))


class Panel(VerticalScroll, can_focus=False):
    """The sheet a dialog stands on: told from what lies below by its ground alone.

    It is as high as what it holds; where the terminal is too low for that, what lies
    between the title and the last line scrolls.
    """

    DEFAULT_CSS = """
    Panel {
        width: 94%;
        max-width: 76;
        height: auto;
        max-height: 100%;
        padding: 1 3;
        background: $surface;
        scrollbar-size-vertical: 1;
    }
    Panel > .panel-title, Panel > .panel-foot { background: $surface; }
    Panel > .panel-title { dock: top; padding-bottom: 1; text-style: bold; }
    Panel > .panel-foot { dock: bottom; padding-top: 1; height: 2; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_body(-1)", "Scroll up", show=False, id="panel.scroll-up"),
        Binding("down", "scroll_body(1)", "Scroll down", show=False, id="panel.scroll-down"),
        Binding("pageup", "scroll_page(-1)", "Page up", show=False, id="panel.page-up"),
        Binding("pagedown", "scroll_page(1)", "Page down", show=False, id="panel.page-down"),
    ]

    def __init__(self, title: str, *children: Widget, foot: Widget) -> None:
        """A panel.

        Args:
            title: One line at the top, always in sight.
            children: What is between.
            foot: One line at the bottom, always in sight: choices or keys.
        """
        foot.add_class("panel-foot")
        super().__init__(Words(title, classes="panel-title"), *children, foot)

    def action_scroll_body(self, lines: int) -> None:
        """Move what is between title and foot by some lines."""
        self.scroll_relative(y=lines, animate=False)

    def action_scroll_page(self, pages: int) -> None:
        """Move what is between title and foot by most of its height."""
        self.scroll_relative(y=pages * max(1, self.size.height - 6), animate=False)


class Choice(Widget, can_focus=True):
    """One thing that can be done: its key, its words, and a sign when it has the focus."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"choice--key"}
    """
    | Class | Description |
    | :- | :- |
    | `choice--key` | The key in front of the words. |
    """

    DEFAULT_CSS = """
    Choice { width: auto; height: 1; padding-right: 1; }
    Choice > .choice--key { text-style: bold; color: $text-accent; }
    Choice:focus { text-style: bold reverse; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Choose", show=False, id="panel.choose-focused"),
        Binding("left", "app.focus_previous", "Previous", show=False, id="panel.focus-previous"),
        Binding("right", "app.focus_next", "Next", show=False, id="panel.focus-next"),
    ]

    def __init__(self, binding_id: str, label: str | Callable[[], str] | None = None) -> None:
        """A choice for a binding of the screen.

        Args:
            binding_id: The id of the binding; its action is what the choice stands for.
            label: Words instead of the binding's own, or a function that tells them.
        """
        super().__init__()
        self.binding_id = binding_id
        self._label = label

    def render(self) -> Content:
        """The key that is bound now, and what it does."""
        key, words = self._key_and_words()
        key_style = "" if self.has_focus else self.get_visual_style("choice--key")
        sign = (">" if self.app.has_class("-ascii") else "▸") if self.has_focus else " "
        return Content.assemble(f"{sign} ", (key, key_style), (" " if key else ""), words)

    def _key_and_words(self) -> tuple[str, str]:
        words = self._label() if callable(self._label) else self._label
        for active in self.screen.active_bindings.values():
            if active.binding.id == self.binding_id:
                is_there = is_bound(active.binding.key)
                key = self.app.get_key_display(active.binding) if is_there else ""
                return key, active.binding.description if words is None else words
        return "", words or ""

    def get_content_width(self, _container: object, _viewport: object) -> int:
        """The width of what is drawn; the sign's place is kept when the focus is elsewhere."""
        return self.render().cell_length

    def on_focus(self) -> None:
        """Show the sign."""
        self.refresh()

    def on_blur(self) -> None:
        """Take the sign away."""
        self.refresh()

    async def on_click(self) -> None:
        """The mouse takes a choice as Enter does."""
        await self.action_choose()

    async def action_choose(self) -> None:
        """Do what the key does."""
        for active in self.screen.active_bindings.values():
            if active.binding.id == self.binding_id:
                await self.app.run_action(active.binding.action, active.node)
                return


class Choices(Horizontal):
    """The row of choices at the foot of a panel."""

    DEFAULT_CSS = """
    Choices { height: auto; }
    """

    def __init__(self, choices: Iterable[Choice]) -> None:
        super().__init__()
        self._choices = list(choices)

    def compose(self) -> ComposeResult:
        """The choices side by side."""
        yield from self._choices


class KeyLine(Widget):
    """The keys that work here now, in one line; cut at a whole key where the line is too short."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-line--key"}
    """
    | Class | Description |
    | :- | :- |
    | `key-line--key` | The key in front of its words. |
    """

    DEFAULT_CSS = """
    KeyLine { height: 1; color: $text-muted; }
    KeyLine > .key-line--key { text-style: bold; color: $text-accent; }
    """

    def __init__(self, *binding_ids: str) -> None:
        """A line for some bindings of the screen, the most important first."""
        super().__init__()
        self._binding_ids = binding_ids
        self._places: list[tuple[int, int, ActiveBinding]] = []

    def on_mount(self) -> None:
        """Follow the bindings: an action that is not offered now is not shown."""
        self.screen.bindings_updated_signal.subscribe(self, self._redraw)

    def _redraw(self, _screen: object) -> None:
        self.refresh()

    def render(self) -> Content:
        """Keys and words, as many as fit."""
        line = Content()
        self._places = []
        for active in self._offered():
            key = (self.app.get_key_display(active.binding), self.get_visual_style("key-line--key"))
            words = Content.assemble(key, f" {active.binding.description}")
            start = line.cell_length + (2 if line else 0)
            if start + words.cell_length > self.size.width:
                break
            line = Content.assemble(line, "  " if line else "", words)
            self._places.append((start, line.cell_length, active))
        return line

    def _offered(self) -> Iterator[ActiveBinding]:
        offered = {
            active.binding.id: active
            for active in reversed(self.screen.active_bindings.values())
            if active.enabled and is_bound(active.binding.key)
        }
        return (offered[binding_id] for binding_id in self._binding_ids if binding_id in offered)

    async def on_click(self, event: events.Click) -> None:
        """The mouse does what the key under it does."""
        for start, end, active in self._places:
            if start <= event.get_content_offset_capture(self).x < end:
                await self.app.run_action(active.binding.action, active.node)
