"""Shows all that is known of one item: beside a list, or on the whole screen.

Draws only lines that changed, so that a moving cursor does not send the whole
pane again and again.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Region, Size
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip

from dcvtui.columns import Sign
from dcvtui.details import Detail
from dcvtui.meters import bar, columns, filled_cells
from dcvtui.tui.panel import KeyLine, Words
from dcvtui.tui.row_paint import SIGN_STYLES

_LABEL = 11
_LEAST_DRAWN, _MOST_DRAWN = 8, 30
"""Cells of a bar or a course of small columns: a third of what there is for text, within these."""

Run = tuple[str, str]
"""Text and the last word of the component class that styles it; "" for none."""


class DetailsPane(ScrollView, can_focus=True, inherit_bindings=False):
    """Labels and texts, wrapped to the width, scrolled by keys while it has the focus."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "details-pane--heading",
        "details-pane--label",
        "details-pane--drawn",
        "details-pane--good",
        "details-pane--busy",
        "details-pane--bad",
        "details-pane--muted",
    }
    """
    | class | what it styles |
    |---|---|
    | `details-pane--heading` | the name of the item |
    | `details-pane--label` | labels |
    | `details-pane--drawn` | bars and courses |
    | `details-pane--good`, `--busy`, `--bad`, `--muted` | signs of states |
    """

    DEFAULT_CSS = """
    DetailsPane {
        overflow: hidden;
        & > .details-pane--heading { text-style: bold; }
        & > .details-pane--label { color: $text-muted; }
        & > .details-pane--drawn { color: $text-accent; }
        & > .details-pane--good { color: $text-success; }
        & > .details-pane--busy { color: $text-accent; }
        & > .details-pane--bad { color: $text-error; text-style: bold; }
        & > .details-pane--muted { color: $text-muted; }
        &.-stale { color: $text-muted; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_lines(1)", "down", show=False, id="pane.scroll-down"),
        Binding("up,k", "scroll_lines(-1)", "up", show=False, id="pane.scroll-up"),
        Binding("pagedown", "scroll_lines(10)", "page down", show=False, id="pane.page-down"),
        Binding("pageup", "scroll_lines(-10)", "page up", show=False, id="pane.page-up"),
    ]

    def __init__(self, *, id: str | None = None, ascii_only: bool = False) -> None:
        super().__init__(id=id)
        self._ascii_only = ascii_only
        self._details: tuple[Detail, ...] = ()
        self._lines: list[list[Run]] = []
        self._wrapped_width = 0
        self._styles: dict[str, Style] = {}

    def show(self, details: Sequence[Detail], *, from_top: bool = False) -> None:
        """Show these details; only lines that differ are drawn.

        Args:
            details: what is known.
            from_top: it is another item, so scroll back to its beginning.
        """
        if tuple(details) == self._details:
            return
        self._details = tuple(details)
        if from_top:
            self.scroll_to(y=0, animate=False, force=True)
        self._lay_out()

    def notify_style_update(self) -> None:
        """Forget styles of another theme."""
        super().notify_style_update()
        self._styles.clear()

    def _lay_out(self) -> None:
        before, top = self._lines, round(self.scroll_y)
        self._wrapped_width = self.size.width
        self._lines = [line for detail in self._details for line in self._wrapped(detail)]
        self.set_reactive(DetailsPane.virtual_size, Size(self.size.width, len(self._lines)))
        for y in range(self.size.height):
            old = before[top + y] if top + y < len(before) else None
            new = self._lines[top + y] if top + y < len(self._lines) else None
            if old != new:
                self.refresh(Region(0, y, self.size.width, 1))

    def _wrapped(self, detail: Detail) -> list[list[Run]]:
        if self._ascii_only:
            detail = replace(detail, text=detail.text.replace(" · ", " - "))
        sign = self._sign(detail.sign)
        if detail.is_heading:
            return [[*sign, (detail.label, "heading")]]
        width = max(8, self.size.width - _LABEL - (2 if sign else 0))
        drawn = self._drawn(detail, width)
        texts = textwrap.wrap(detail.text, width, break_on_hyphens=False) or [""]
        label = f"{detail.label:<{_LABEL - 1}} " if len(detail.label) < _LABEL else detail.label + " "
        if len(label) > _LABEL:
            # A long label, such as the key of a tag, is not cut for its column's sake.
            long = textwrap.wrap(f"{detail.label} {detail.text}", max(8, self.size.width))
            return [[(text, "")] for text in long]
        indent = (" " * (_LABEL + (2 if sign else 0)), "")
        start: list[Run] = [(label, "label"), *sign]
        if drawn and sum(len(text) for text, _ in drawn) + 1 + len(texts[0]) <= width and len(texts) == 1:
            return [[*start, *drawn, (f" {texts[0]}", "")]]
        if drawn:
            return [[*start, *drawn], *([indent, (text, "")] for text in texts)]
        return [[*start, (texts[0], "")], *([indent, (text, "")] for text in texts[1:])]

    def _drawn(self, detail: Detail, width: int) -> list[Run]:
        """The bar or the course of a line; nothing for most."""
        cells = max(_LEAST_DRAWN, min(_MOST_DRAWN, width // 3))
        if detail.meter is not None:
            text, filled = (
                bar(detail.meter, cells, ascii_only=self._ascii_only),
                filled_cells(detail.meter, cells),
            )
            return [(text[:filled], "drawn"), (text[filled:], "label")]
        if detail.course:
            shown = detail.course[-min(2 * cells, width) :]
            return [(columns(shown, detail.top, ascii_only=self._ascii_only), "drawn")]
        return []

    def _sign(self, sign: Sign | None) -> list[Run]:
        return [(sign.character(ascii_only=self._ascii_only) + " ", SIGN_STYLES[sign])] if sign else []

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        if self.size.width != self._wrapped_width:
            self._lay_out()
        line, base = round(self.scroll_y) + y, self.rich_style
        runs = self._lines[line] if line < len(self._lines) else []
        segments = [Segment(text, base + self._style(name) if name else base) for text, name in runs if text]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def _style(self, name: str) -> Style:
        if name not in self._styles:
            self._styles[name] = self.get_component_rich_style(f"details-pane--{name}", partial=True)
        return self._styles[name]

    def action_scroll_lines(self, lines: int) -> None:
        """Scroll by some lines."""
        last = max(0, len(self._lines) - self.size.height)
        self.scroll_to(y=max(0, min(last, round(self.scroll_y) + lines)), animate=False, force=True)


class DetailsScreen(ModalScreen[None]):
    """One item on the whole screen."""

    DEFAULT_CSS = """
    DetailsScreen { background: $background; }
    DetailsScreen > DetailsPane { height: 1fr; padding: 1 3; }
    DetailsScreen > KeyLine { padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,d,0", "close", "close", id="any.close-top", key_display="esc"),
    ]

    def __init__(self, details: Sequence[Detail], *, ascii_only: bool = False) -> None:
        super().__init__()
        self._details = details
        self._pane = DetailsPane(ascii_only=ascii_only)

    def compose(self) -> ComposeResult:
        """The details and the key that leaves them."""
        yield self._pane
        yield KeyLine("any.close-top")

    def on_mount(self) -> None:
        """Give the focus to what scrolls."""
        self._pane.focus()
        self.show(self._details)

    def show(self, details: Sequence[Detail]) -> None:
        """Show what has become of the item."""
        self._pane.show(details)

    def action_close(self) -> None:
        """Back to the list."""
        self.dismiss(None)


class TextScreen(ModalScreen[bool]):
    """A text on the whole screen, such as a row as JSON; dismisses whether it is to be copied."""

    DEFAULT_CSS = """
    TextScreen { background: $background; }
    TextScreen > VerticalScroll { height: 1fr; padding: 1 3; scrollbar-size-vertical: 1; }
    TextScreen > KeyLine { padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "close", "close", id="any.close-top", key_display="esc"),
        Binding("y", "copy", "copy", id="text.copy-text", tooltip="Copy the text"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """The text and the keys."""
        yield VerticalScroll(Words(self.text))
        yield KeyLine("text.copy-text", "any.close-top")

    def action_close(self) -> None:
        """Back to the list."""
        self.dismiss(False)

    def action_copy(self) -> None:
        """Ask the opener to copy the text."""
        self.dismiss(True)
