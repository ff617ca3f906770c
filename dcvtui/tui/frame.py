"""What stands around every list: line of truth, breadcrumbs, stale banner, one-line inputs, footer.

Widgets show values given to them and draw nothing when a value is equal to the
one they show; none of them knows the fleet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input

from dcvtui.columns import state_order
from dcvtui.tui.keys import FOOT, is_shown
from dcvtui.tui.panel import KeyLine, Words
from dcvtui.tui.safe_lines import safe


class Tone(Enum):
    """How the word of freshness is shown: its sign, the same in ASCII, and its class."""

    FRESH = ("●", "*", "top-line--fresh")
    WAITING = ("◐", "+", "top-line--waiting")
    STALE = ("✗", "x", "top-line--alarm")


@dataclass(slots=True, frozen=True)
class Truth:
    """The values of the top line."""

    profile: str
    address: str
    freshness: str
    tone: Tone = Tone.WAITING
    is_read_only: bool = False
    servers: tuple[int, int] | None = None
    """Available ones, and all; None while they are not known."""
    sessions: Sequence[tuple[str, int]] | None = None
    """Counts by state; None while they are not known."""
    attention: int = 0


class TopLine(Widget):
    """One line of truth: where, how fresh, how many, and how much needs a person."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "top-line--profile",
        "top-line--fresh",
        "top-line--waiting",
        "top-line--alarm",
    }
    """
    | class | what it styles |
    |---|---|
    | `top-line--profile` | the name of the profile |
    | `top-line--fresh` | the word of freshness while data are fresh |
    | `top-line--waiting` | the same before the first answer |
    | `top-line--alarm` | staleness, and the number of things that need a person |
    """

    DEFAULT_CSS = """
    TopLine {
        height: 1;
        padding: 0 1;
        background: $panel;
        color: $text-muted;
        & > .top-line--profile { color: $text; text-style: bold; }
        & > .top-line--waiting { color: $text-muted; }
        & > .top-line--fresh { color: $text-success; }
        & > .top-line--alarm { color: $text-warning; text-style: bold; }
    }
    """

    def __init__(self, truth: Truth, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._truth, self._ascii_only = truth, ascii_only

    @property
    def truth(self) -> Truth:
        """What is shown."""
        return self._truth

    def show(self, truth: Truth) -> None:
        """Show other values."""
        if truth != self._truth:
            self._truth = truth
            self.refresh()

    def render(self) -> Content:
        """As much as fits: counts go first, then the address."""
        width = self.content_size.width
        right = self._attention()
        room = width - right.cell_length - (2 if right else 0)
        left = Content()
        for parts in (
            (self._where(has_address=True), self._fresh(), self._servers(), self._sessions()),
            (self._where(has_address=True), self._fresh(), self._servers()),
            (self._where(has_address=True), self._fresh()),
            (self._where(has_address=False), self._fresh()),
        ):
            left = Content("   ").join([part for part in parts if part])
            if left.cell_length <= room:
                break
        gap = " " * max(2 if right else 0, width - left.cell_length - right.cell_length)
        return Content.assemble(left.truncate(max(1, room), ellipsis=True), gap, right)

    def _where(self, *, has_address: bool) -> Content:
        profile = (self._truth.profile, self.get_visual_style("top-line--profile"))
        # Without a profile's name the address is the name.
        if has_address and self._truth.address and self._truth.address != self._truth.profile:
            return Content.assemble(profile, f"  {self._truth.address}")
        return Content.assemble(profile)

    def _fresh(self) -> Content:
        sign, ascii_sign, style = self._truth.tone.value
        shown = f"{ascii_sign if self._ascii_only else sign} {self._truth.freshness}"
        word = (shown, self.get_visual_style(style))
        return Content.assemble(word, "  read-only" if self._truth.is_read_only else "")

    def _servers(self) -> Content:
        if self._truth.servers is None:
            return Content("servers loading" if self._truth.sessions is not None else "")
        available, count = self._truth.servers
        return Content(f"servers {available:,}/{count:,}")

    def _sessions(self) -> Content:
        if self._truth.sessions is None:
            return Content("sessions loading" if self._truth.servers is not None else "")
        if not self._truth.sessions:
            return Content("sessions 0")
        ordered = sorted(self._truth.sessions, key=lambda pair: state_order(pair[0]))
        dot = " - " if self._ascii_only else " · "
        return Content("sessions " + dot.join(f"{count:,} {state.lower()}" for state, count in ordered))

    def _attention(self) -> Content:
        if not self._truth.attention:
            return Content()
        return Content.assemble((f"! {self._truth.attention:,}", self.get_visual_style("top-line--alarm")))


class Crumbs(Widget):
    """Where the operator is, with the filter in words, and how many rows are shown and marked."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"crumbs--view", "crumbs--filter"}
    """
    | class | what it styles |
    |---|---|
    | `crumbs--view` | the name of the view |
    | `crumbs--filter` | the filter in force |
    """

    DEFAULT_CSS = """
    Crumbs {
        height: 1;
        padding: 0 1;
        color: $text-muted;
        & > .crumbs--view { color: $text; text-style: bold; }
        & > .crumbs--filter { color: $text-accent; }
    }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._separator = " > " if ascii_only else " › "
        self._shown: tuple[str, tuple[str, ...], str] = ("", (), "")

    def show(self, view: str, filters: Sequence[str], counts: str) -> None:
        """Show another place or other counts."""
        shown = (view, tuple(filters), counts)
        if shown != self._shown:
            self._shown = shown
            self.refresh()

    def render(self) -> Content:
        """The place on the left, the counts on the right."""
        view, filters, counts = self._shown
        width = self.content_size.width
        left = Content.assemble((view, self.get_visual_style("crumbs--view")))
        style = self.get_visual_style("crumbs--filter")
        for text in filters:
            left = Content.assemble(left, self._separator, (text, style))
        left = left.truncate(max(1, width - len(counts) - 2), ellipsis=True)
        return Content.assemble(left, " " * max(1, width - left.cell_length - len(counts)), counts)


class StaleBanner(Words):
    """Why the data are not fresh, since when, and when the next try is; gone while they are fresh."""

    DEFAULT_CSS = """
    StaleBanner {
        display: none;
        padding: 0 1;
        max-height: 8;
        background: $warning 20%;
        color: $text-warning;
    }
    StaleBanner.-present { display: block; }
    """

    def tell(self, text: str) -> None:
        """Show a sentence, or nothing."""
        self.show(text)
        self.set_class(bool(text), "-present")


class LineInput(Input):
    """A one-line input without frame or blinking; `esc` leaves it."""

    DEFAULT_CSS = """
    LineInput, LineInput:focus {
        border: none;
        height: 1;
        padding: 0;
        background: transparent;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", id="line.leave-line", show=False),
        Binding("tab", "complete", "complete", id="line.complete-word", show=False),
    ]

    class Left(Message):
        """The operator pressed `esc`."""

        def __init__(self, line: "LineInput") -> None:
            super().__init__()
            self.line = line

        @property
        def control(self) -> "LineInput":
            """The input."""
            return self.line

    def __init__(self, *, id: str, suggester: Suggester | None = None) -> None:
        super().__init__(id=id, suggester=suggester, select_on_focus=False)
        self.cursor_blink = False

    def render_line(self, y: int) -> Strip:
        """A line of text and nothing else."""
        return safe(super().render_line(y))

    def action_leave(self) -> None:
        """Give the input up."""
        self.post_message(self.Left(self))

    def action_complete(self) -> None:
        """Take the suggestion, as the right arrow does."""
        self.action_cursor_right()
        self.action_end()


class PromptLine(Vertical):
    """A prompt, an input and what is wrong with it: the filter and the command line."""

    DEFAULT_CSS = """
    PromptLine { height: auto; display: none; padding: 0 1; }
    PromptLine.-open { display: block; }
    PromptLine > Horizontal { height: 1; }
    PromptLine Words.prompt-sign { width: 2; color: $text-accent; text-style: bold; }
    PromptLine Words.prompt-fault { display: none; color: $text-error; }
    PromptLine Words.prompt-fault.-present { display: block; }
    """

    def __init__(self, sign: str, *, id: str, suggester: Suggester | None = None) -> None:
        super().__init__(id=id)
        self._sign = sign
        self.input = LineInput(id=f"{id}-input", suggester=suggester)

    def compose(self) -> ComposeResult:
        """The line, and below it the place for a fault."""
        yield Words(classes="prompt-fault")
        with Horizontal():
            yield Words(self._sign, classes="prompt-sign")
            yield self.input

    @property
    def is_open(self) -> bool:
        """Whether it can be typed in."""
        return self.has_class("-open")

    def open(self, text: str) -> None:
        """Begin with a text that is selected: typing replaces it, End or an arrow keeps it."""
        self.complain("")
        self.input.value = text
        self.input.select_all()
        self.add_class("-open")
        # Not `focus`, which comes a moment later: what is typed right behind the key belongs here.
        self.screen.set_focus(self.input)

    def close(self) -> None:
        """Put it away."""
        self.remove_class("-open")

    def complain(self, text: str, column: int | None = None) -> None:
        """Say what is wrong, with a caret over the character if it is known; "" for nothing."""
        fault = self.query_one(".prompt-fault", Words)
        if text and column is not None and column + 1 < self.size.width:
            # The prompt takes two cells, and columns count from 1.
            text = f"{text}\n{' ' * (column + 1)}v"
        fault.show(text)
        fault.set_class(bool(text), "-present")


class Foot(Horizontal):
    """The keys that work here now, `? help` always at the end; or something said until the next key."""

    DEFAULT_CSS = """
    Foot { height: 1; padding: 0 1; }
    Foot > .foot-keys { width: 1fr; }
    Foot > .foot-help { width: 7; margin-left: 2; }
    Foot > .foot-said { display: none; width: 1fr; color: $text-accent; }
    Foot.-saying > KeyLine { display: none; }
    Foot.-saying > .foot-said { display: block; }
    """

    def __init__(self, *, is_read_only: bool) -> None:
        super().__init__()
        self._ids = [name for name in FOOT if is_shown(name, is_read_only=is_read_only)]

    def compose(self) -> ComposeResult:
        """Keys, help, and the place for words."""
        keys, help_key = KeyLine(*self._ids), KeyLine("any.open-help")
        keys.add_class("foot-keys")
        help_key.add_class("foot-help")
        yield keys
        yield help_key
        yield Words(classes="foot-said")

    def say(self, text: str) -> None:
        """Say something in place of the keys; "" brings the keys back."""
        if not text and not self.has_class("-saying"):
            return
        self.query_one(".foot-said", Words).show(text)
        self.set_class(bool(text), "-saying")

    def on_click(self, event: events.Click) -> None:
        """A click on words brings the keys back."""
        event.stop()
        self.say("")
