"""Who may do what, as a table: people down, features across, one sentence about the cell under the cursor.

Shows the rows it is given and knows no text; what a key asks for goes up as a
message. What the signs mean is said by the sentence, so no colour is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from dcvtui.api.permissions import FEATURE_GROUPS, Actor, Row, State
from dcvtui.api.text import visible
from dcvtui.tui.row_paint import padded

WIDE: Final = 112
"""Cells from which on every feature has a column of its own; below, the groups have."""

_LABEL: Final = 18
_CELL: Final = 3
_GAP: Final = 2
_HEADS: Final = 1
_FOOT: Final = 1

_SIGNS: Final = {
    State.GRANTED: ("●", "*", "granted"),
    State.REFUSED: ("·", ".", "refused"),
    State.LOCKED: ("✗", "x", "locked"),
}
_SOME: Final = ("◐", "+", "locked")


@dataclass(frozen=True, slots=True)
class _Column:
    """One feature, or a group of them; where it begins and how wide it is."""

    head: str
    features: tuple[str, ...]
    start: int
    width: int


class RightsMatrix(Widget, can_focus=True):
    """The matrix of a permissions file."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rights--head", "rights--row", "rights--cursor",
        "rights--granted", "rights--refused", "rights--locked",
    }  # fmt: skip
    """
    | class | what it styles |
    |---|---|
    | `rights--head` | the heads of the columns, and the sentence below |
    | `rights--row` | the row under the cursor |
    | `rights--cursor` | the cell under the cursor |
    | `rights--granted`, `--refused`, `--locked` | signs |
    """

    DEFAULT_CSS = """
    RightsMatrix { height: 8; background: $surface; }
    RightsMatrix > .rights--head { color: $text-muted; }
    RightsMatrix > .rights--row { text-style: bold; }
    RightsMatrix > .rights--cursor { text-style: reverse; }
    RightsMatrix > .rights--granted { color: $text-accent; }
    RightsMatrix > .rights--refused { color: $text-muted; }
    RightsMatrix > .rights--locked { color: $text-error; text-style: bold; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1, 0)", "up", show=False, id="rights.move-up"),
        Binding("down,j", "move(1, 0)", "down", show=False, id="rights.move-down"),
        Binding("left,h", "move(0, -1)", "left", show=False, id="rights.move-left"),
        Binding("right,l", "move(0, 1)", "right", show=False, id="rights.move-right"),
        Binding("space", "toggle_right", "give or take", id="rights.toggle-right",
                tooltip="Give the right to this person, or take it away"),
        Binding("enter", "open", "why, or open the group", id="rights.open-cell",
                tooltip="Go to the line that decides, or open the group of features"),
        Binding("a", "add", "somebody else", id="rights.add-person",
                tooltip="Show somebody who is not named in the text"),
    ]  # fmt: skip

    class ToggleRequested(Message):
        """Rights of somebody are to be turned round."""

        def __init__(self, row: Row, features: tuple[str, ...]) -> None:
            super().__init__()
            self.row, self.features = row, features

    class LineRequested(Message):
        """The line that decides is to be shown."""

        def __init__(self, line: int) -> None:
            super().__init__()
            self.line = line

    class PersonRequested(Message):
        """Somebody is to be shown besides."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[Row] = ()
        self._line = 0
        self._place = 0
        self._top = 0
        self._group: str | None = None

    # ------------------------------------------------------------------ what is shown

    def show(self, rows: Sequence[Row]) -> None:
        """Show what a text gives to whom; the cursor stays on its person."""
        if rows == self._rows:
            return
        actor = self._rows[self._line].actor if self._rows else None
        self._rows = rows
        places = [place for place, row in enumerate(rows) if row.actor == actor]
        self._line = places[0] if places else min(self._line, max(0, len(rows) - 1))
        self._hold_in_view()
        self.refresh()

    def select(self, actor: Actor) -> None:
        """Put the cursor on a person."""
        for place, row in enumerate(self._rows):
            if row.actor == actor:
                self._line = place
                self._hold_in_view()
                self.refresh()

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._line] if self._rows else None

    @property
    def is_group_open(self) -> bool:
        """Whether the features of one group are shown."""
        return self._group is not None

    def close_group(self) -> None:
        """Show all groups again."""
        if self._group is not None:
            self._place = list(FEATURE_GROUPS).index(self._group)
            self._group = None
            self.refresh()

    @property
    def _columns(self) -> list[_Column]:
        is_wide = self.size.width >= WIDE
        heads = {self._group: FEATURE_GROUPS[self._group]} if self._group else FEATURE_GROUPS
        columns: list[_Column] = []
        start = _LABEL + 2
        for head, features in heads.items():
            if self._group:
                for feature in features:
                    columns.append(_Column(feature, (feature,), start, len(feature)))
                    start += len(feature) + _GAP
            elif is_wide:
                width = max(len(head), _CELL * len(features))
                columns += [
                    _Column(head if not place else "", (feature,), start + _CELL * place, _CELL)
                    for place, feature in enumerate(features)
                ]
                start += width + _GAP
            else:
                short = head.partition(" ")[0]
                columns.append(_Column(short, features, start, len(short)))
                start += len(short) + _GAP
        return columns

    @property
    def _height(self) -> int:
        return max(1, self.size.height - _HEADS - _FOOT)

    def _hold_in_view(self) -> None:
        self._top = max(self._line - self._height + 1, min(self._top, self._line))
        self._top = max(0, min(self._top, len(self._rows) - self._height))

    def on_resize(self) -> None:
        """Other columns, and the cursor in view."""
        self._place = min(self._place, len(self._columns) - 1)
        self._hold_in_view()

    # ------------------------------------------------------------------ drawing

    def render_line(self, y: int) -> Strip:
        """Heads, people, or the sentence."""
        base, width = self.rich_style, self.size.width
        if y == 0:
            return self._heads(base).adjust_cell_length(width, base)
        if y == self.size.height - 1:
            text = padded(visible(self.sentence), width, ascii_only=self._is_ascii)
            return Strip([Segment(text, base + self._style("head"))]).adjust_cell_length(width, base)
        line = self._top + y - _HEADS
        if line >= len(self._rows):
            return Strip.blank(width, base)
        return self._person(line, base).adjust_cell_length(width, base)

    def _heads(self, base: Style) -> Strip:
        text = " " * (_LABEL + 2)
        for column in self._columns:
            if column.head:
                text = text.ljust(column.start) + column.head
        return Strip([Segment(text, base + self._style("head"))])

    def _person(self, line: int, base: Style) -> Strip:
        row, is_here = self._rows[line], line == self._line
        style = base + self._style("row") if is_here else base
        sign = (">" if self._is_ascii else "▸") if is_here else " "
        label = padded(visible(row.label), _LABEL, ascii_only=self._is_ascii)
        segments = [Segment(f"{sign} {label}", style)]
        at = _LABEL + 2
        for place, column in enumerate(self._columns):
            text, name = self._sign(row, column.features)
            cell = text.center(column.width) if column.width > _CELL else text.ljust(column.width)
            segments.append(Segment(" " * (column.start - at), style))
            mark = style + self._style(name)
            if is_here and place == self._place and self.has_focus:
                mark += self._style("cursor")
            segments.append(Segment(cell, mark))
            at = column.start + column.width
        return Strip(segments)

    def _sign(self, row: Row, features: Sequence[str]) -> tuple[str, str]:
        states = {row.decisions[feature].state for feature in features}
        granted = [feature for feature in features if feature in row.features]
        if granted and len(granted) < len(features):
            return _SOME[self._is_ascii], "granted"
        state = State.GRANTED if granted else State.LOCKED if State.LOCKED in states else State.REFUSED
        return _SIGNS[state][self._is_ascii], _SIGNS[state][2]

    @property
    def _is_ascii(self) -> bool:
        return self.app.has_class("-ascii")

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"rights--{name}", partial=True)

    @property
    def sentence(self) -> str:
        """What holds for the cell under the cursor, and why."""
        row = self.row
        if row is None:
            return ""
        column = self._columns[min(self._place, len(self._columns) - 1)]
        if len(column.features) > 1:
            granted = [feature for feature in column.features if feature in row.features]
            count = len(column.features)
            said = f"{len(granted)} of {count}: {', '.join(granted)}" if granted else f"none of {count}"
            return f"{row.label}, {column.head}: {said}"
        feature = column.features[0]
        decision = row.decisions[feature]
        state = str(decision.state)
        if feature == "keyboard-sas" and row.idle_keys is not None:
            return f"{row.label}, {feature}: without effect, it needs keyboard"
        if decision.statement is None:
            return f"{row.label}, {feature}: {state}, nothing is said of it"
        where = f"{decision.statement.file}:" if decision.statement.file else ""
        return (
            f"{row.label}, {feature}: {state} by line {where}{decision.statement.line}: {decision.statement}"
        )

    # ------------------------------------------------------------------ keys

    def action_move(self, lines: int, columns: int) -> None:
        """Move the cursor."""
        self._line = max(0, min(self._line + lines, len(self._rows) - 1))
        self._place = max(0, min(self._place + columns, len(self._columns) - 1))
        self._hold_in_view()
        self.refresh()

    def action_toggle_right(self) -> None:
        """Give or take what is under the cursor."""
        if (row := self.row) is not None:
            self.post_message(self.ToggleRequested(row, self._columns[self._place].features))

    def action_open(self) -> None:
        """Open a group, or go to the line that decides."""
        if (row := self.row) is None:
            return
        column = self._columns[self._place]
        if len(column.features) > 1:
            self._group = next(name for name, found in FEATURE_GROUPS.items() if found == column.features)
            self._place = 0
            self.refresh()
        elif (statement := row.decisions[column.features[0]].statement) and not statement.file:
            self.post_message(self.LineRequested(statement.line))

    def action_add(self) -> None:
        """Ask for somebody to show."""
        self.post_message(self.PersonRequested())

    def on_focus(self) -> None:
        """Show the cursor's cell."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor's cell is where the keys go."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where was clicked."""
        line = self._top + event.y - _HEADS
        if not (_HEADS <= event.y < self.size.height - _FOOT and line < len(self._rows)):
            return
        self._line = line
        for place, column in enumerate(self._columns):
            if Region(column.start, event.y, column.width, 1).contains(event.x, event.y):
                self._place = place
        self.refresh()
