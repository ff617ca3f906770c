"""The fleet table: draws the rows on screen of a list of any length, and only what changed of them.

It holds no records: rows are read from a source when they are drawn. Cursor,
marks and scroll position are ids, so they stay on their items while rows move.
What each line showed last is remembered; a refresh sends the cells that differ.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from dcvtui.columns import Column, Placed, fit
from dcvtui.fleet import Key
from dcvtui.tui.row_paint import GAP, PREFIX, SIGN_STYLES, Cell, Line, RowPainter

_STRIPS_KEPT = 1000
_EMPTY_LINE = 2
_BAR = 2
"""Cells at the right edge: a blank, and the bar that shows which part of the list is on screen."""


class RowSource(Protocol):
    """Rows in their order, as `dcvtui.listing.Listing` keeps them."""

    records: Any
    widest: Mapping[str, int]
    """The longest text of each column so far, by the column's id."""

    def __len__(self) -> int:
        """How many rows there are."""

    def key_at(self, line: int) -> Key:
        """The key of a row."""

    def record_at(self, line: int) -> Any:
        """The record of a row."""

    def position(self, key: Key | None) -> int | None:
        """The line of a row, if it is shown."""

    def shown_keys(self) -> Iterable[Key]:
        """All rows."""


class FleetTable(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows of any number with a cursor, marks and columns that fit the width."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "fleet-table--head",
        "fleet-table--cursor",
        "fleet-table--cursor-away",
        "fleet-table--marked",
        "fleet-table--mark",
        "fleet-table--good",
        "fleet-table--busy",
        "fleet-table--bad",
        "fleet-table--muted",
        "fleet-table--bar",
        "fleet-table--empty",
        "fleet-table--ground",
    }
    """
    | class | what it styles |
    |---|---|
    | `fleet-table--head` | the heads of the columns |
    | `fleet-table--cursor` | the row under the cursor |
    | `fleet-table--cursor-away` | the same while the focus is elsewhere |
    | `fleet-table--marked` | marked rows |
    | `fleet-table--mark` | the signs of cursor and mark |
    | `fleet-table--good`, `--busy`, `--bad`, `--muted` | signs of states |
    | `fleet-table--bar` | the bar that shows which part of the list is on screen |
    | `fleet-table--empty` | the sentence of an empty list |
    | `fleet-table--ground` | what is behind pictures |
    """

    DEFAULT_CSS = """
    FleetTable {
        overflow: hidden;
        & > .fleet-table--head { color: $text-muted; text-style: bold; }
        & > .fleet-table--cursor { background: $accent 22%; text-style: bold; }
        & > .fleet-table--cursor-away { background: $foreground 8%; }
        & > .fleet-table--marked { color: $accent; }
        & > .fleet-table--mark { color: $accent; text-style: bold; }
        & > .fleet-table--good { color: $success; }
        & > .fleet-table--busy { color: $accent; }
        & > .fleet-table--bad { color: $error; text-style: bold; }
        & > .fleet-table--muted { color: $text-muted; }
        & > .fleet-table--bar { color: $foreground 30%; }
        & > .fleet-table--empty { color: $text-muted; }
        & > .fleet-table--ground { background: $surface; }
        &.-stale { color: $text-muted; }
    }
    """

    empty_text: reactive[str] = reactive("", repaint=False)
    """The sentence shown when there is no row."""

    class CursorMoved(Message):
        """The cursor is on another item; `key` is None in an empty list."""

        can_replace_types = True

        def __init__(self, table: "FleetTable", key: Key | None) -> None:
            super().__init__()
            self.table, self.key = table, key

        @property
        def control(self) -> "FleetTable":
            """The table."""
            return self.table

        def can_replace(self, message: Message) -> bool:
            """A newer place makes an older one worthless."""
            return isinstance(message, FleetTable.CursorMoved)

    class RowOpened(Message):
        """A row was double-clicked."""

        def __init__(self, table: "FleetTable", key: Key) -> None:
            super().__init__()
            self.table, self.key = table, key

    class MarksChanged(Message):
        """Rows were marked or unmarked."""

    class HeadChosen(Message):
        """The head of a column was clicked."""

        def __init__(self, column: Column[Any]) -> None:
            super().__init__()
            self.column = column

    class ViewMoved(Message):
        """Other rows are on screen now."""

        def can_replace(self, message: Message) -> bool:
            """Only where the view ends counts."""
            return isinstance(message, FleetTable.ViewMoved)

    def __init__(
        self,
        columns: Sequence[Column[Any]],
        source: RowSource,
        *,
        id: str | None = None,
        ascii_only: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """A table over a source.

        Args:
            columns: all columns; the first always stays on screen.
            source: the rows.
            id: of the widget.
            ascii_only: whether signs must be ASCII.
            now: the broker's time, for ages.
        """
        super().__init__(id=id)
        self._all_columns, self._source = tuple(columns), source
        self._ascii_only, self._now = ascii_only, now
        self._cursor_key: Key | None = None
        self._cursor_line = 0
        self._is_untouched = True
        self._laid_out_for: dict[str, int] = {}
        self.marks: set[Key] = set()
        self._range_start: Key | None = None
        self._skip = 0
        self._sorted_by: tuple[str | None, bool] = (None, False)
        self._painter = RowPainter([], ascii_only=ascii_only)
        self._painted_width = 0
        self._drawn: dict[int, Line] = {}
        self._strips: dict[Line, Strip] = {}
        self._styles: dict[str, Style] = {}
        self._view: tuple[Key, ...] = ()
        self.lines_drawn = 0

    # ------------------------------------------------------------------ reading

    @property
    def cursor_key(self) -> Key | None:
        """The item under the cursor."""
        return self._cursor_key

    @property
    def cursor_record(self) -> Any:
        """The record under the cursor, if there is one."""
        return self._source.records.get(self._cursor_key) if self._cursor_key is not None else None

    @property
    def is_ascii(self) -> bool:
        """Whether signs must be ASCII."""
        return self._ascii_only

    @property
    def columns_on_screen(self) -> list[Placed[Any]]:
        """The columns that fit now."""
        return self._painter.columns

    @property
    def page_height(self) -> int:
        """How many rows fit on the screen."""
        return max(1, self.size.height - 1)

    @property
    def _top(self) -> int:
        return round(self.scroll_y)

    @property
    def _last_top(self) -> int:
        return max(0, len(self._source) - self.page_height)

    def keys_on_screen(self) -> list[Key]:
        """The rows that can be seen now."""
        last = min(len(self._source), self._top + self.page_height)
        return [self._source.key_at(line) for line in range(self._top, last)]

    # ------------------------------------------------------------------ what changed

    def rows_changed(self) -> None:
        """Take over what became of the rows: cursor and view stay on their items as far as these are left."""
        if self._source.widest != self._laid_out_for:
            self._take_widths()
        count, offset = len(self._source), self._cursor_line - self._top
        self._set_size()
        self._hold_view()
        position = None if self._is_untouched else self._source.position(self._cursor_key)
        if position is None:
            # The item is gone or filtered out: its neighbour takes the cursor.
            line = 0 if self._is_untouched else self._cursor_line
            self._cursor_line = max(0, min(line, count - 1))
            self._set_cursor_key(self._source.key_at(self._cursor_line) if count else None)
        elif position != self._cursor_line:
            self._cursor_line = position
            if 0 <= offset < self.page_height and not self._is_on_screen(position):
                self._scroll_to_line(position - offset)
        self._send_differences()

    def _take_widths(self) -> None:
        """Give the columns other widths if longer texts ask for them; seldom, because widths only grow."""
        before = self._painter
        self._lay_out()
        if self._painter is not before:
            self.refresh()

    def _hold_view(self) -> None:
        """Keep the first row on screen where it is; at the top of the list new rows may push it down."""
        if not self._top or not self._view:
            return
        anchor = next((place for place in map(self._source.position, self._view) if place is not None), None)
        top = self._top if anchor is None else anchor
        top = max(0, min(top, self._last_top))
        if top != self._top:
            # What is on screen stays as it is: only the scroll position is told, nothing is sent again.
            self.set_reactive(FleetTable.scroll_y, float(top))
            self.set_reactive(FleetTable.scroll_target_y, float(top))

    def _set_size(self) -> None:
        # Set without its watcher, which would lay out and send the whole screen for one row more.
        self.set_reactive(FleetTable.virtual_size, Size(self.size.width, len(self._source) + 1))
        if self._top > self._last_top:
            self._scroll_to_line(self._last_top)

    def time_passed(self) -> None:
        """Bring relative times up to date."""
        self._send_differences()

    def show_sorting(self, column: str | None, *, is_reversed: bool) -> None:
        """Show in the heads which column the rows are sorted by."""
        if (column, is_reversed) != self._sorted_by:
            self._sorted_by = (column, is_reversed)
            self.refresh(Region(0, 0, self.size.width, 1))

    def select(self, key: Key) -> bool:
        """Put the cursor on an item; False if it is not shown."""
        position = self._source.position(key)
        if position is None:
            return False
        self._move_to(position)
        return True

    def watch_empty_text(self) -> None:
        """Draw the sentence anew where it is seen."""
        if not len(self._source):
            self.refresh(Region(0, _EMPTY_LINE, self.size.width, 1))

    def _send_differences(self) -> None:
        """Refresh the cells on screen that are not what they were when they were drawn."""
        starts, columns = self._painter.starts, self._painter.columns
        for y, was in list(self._drawn.items()):
            now = self._line(y)
            if now == was:
                continue
            is_whole = (now.is_cursor, now.is_marked) != (was.is_cursor, was.is_marked)
            if is_whole or now.sentence != was.sentence or len(now.cells) != len(was.cells):
                self.refresh(Region(0, y, self.size.width, 1))
                continue
            for place, (new, old) in enumerate(zip(now.cells, was.cells, strict=True)):
                if new != old:
                    self.refresh(Region(starts[place], y, columns[place].width, 1))
            if now.is_bar != was.is_bar:
                self.refresh(Region(self.size.width - 1, y, 1, 1))
        self._note_view()

    def _note_view(self) -> None:
        view = tuple(self.keys_on_screen())
        if view != self._view:
            self._view = view
            self.post_message(self.ViewMoved())

    # ------------------------------------------------------------------ drawing

    def on_resize(self) -> None:
        """Keep the cursor in view; the columns for the new width were chosen when it was first drawn."""
        self._lay_out()
        self._set_size()
        if not self._is_on_screen(self._cursor_line):
            self._scroll_to_line(self._cursor_line - self.page_height // 2)
        self._note_view()

    def notify_style_update(self) -> None:
        """Forget what was drawn in other colours."""
        super().notify_style_update()
        self._styles.clear()
        self._strips.clear()

    def _lay_out(self) -> None:
        width = self.size.width - PREFIX - _BAR
        columns = fit(self._all_columns, width, GAP, self._skip, self._source.widest)
        self._laid_out_for = dict(self._source.widest)
        if columns == self._painter.columns and self.size.width == self._painted_width:
            return
        self._painter = RowPainter(columns, ascii_only=self._ascii_only)
        self._painted_width = self.size.width
        self._drawn.clear()
        self._strips.clear()

    def _line(self, y: int) -> Line:
        line = self._top + y - 1
        if not 0 <= line < len(self._source):
            is_sentence = y == _EMPTY_LINE and not len(self._source)
            return Line(sentence=self.empty_text) if is_sentence else Line()
        is_bar = y in self._bar()
        record, now = self._source.record_at(line), self._now()
        columns = (placed.column for placed in self._painter.columns)
        cells = tuple(
            Cell(column.text(record, now), column.sign(record) if column.sign else None) for column in columns
        )
        return Line(cells, line == self._cursor_line, record.key in self.marks, is_bar)

    def _bar(self) -> range:
        """The lines of the screen at which the bar is drawn."""
        count, height = len(self._source), self.page_height
        if count <= height:
            return range(0)
        size = max(1, height * height // count)
        start = 1 + round(self._top * (height - size) / (count - height))
        return range(start, start + size)

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen: the heads, a row, or nothing."""
        width, base = self.size.width, self.rich_style
        if width != self._painted_width:
            # Chosen here and not on the message of the new size, which comes after the first painting.
            self._lay_out()
        if y == 0:
            by, is_reversed = self._sorted_by
            head = self._painter.head(by, is_reversed=is_reversed)
            return Strip([Segment(head, base + self._style("head"))]).adjust_cell_length(width, base)
        self.lines_drawn += 1
        line = self._drawn[y] = self._line(y)
        if not line.cells:
            text = " " * PREFIX + line.sentence if line.sentence else ""
            return Strip([Segment(text, base + self._style("empty"))]).adjust_cell_length(width, base)
        strip = self._strips.get(line)
        if strip is None:
            if len(self._strips) > _STRIPS_KEPT:
                self._strips.clear()
            strip = self._strips[line] = self._paint(line)
        return strip

    def _style(self, name: str) -> Style:
        if name not in self._styles:
            # The cursor's ground is translucent and has to be mixed with the list's.
            is_partial = not name.startswith("cursor")
            self._styles[name] = self.get_component_rich_style(f"fleet-table--{name}", partial=is_partial)
        return self._styles[name]

    def _paint(self, line: Line) -> Strip:
        style = self.rich_style
        if line.is_cursor:
            style = self._style("cursor" if self.has_focus else "cursor-away")
        if line.is_marked:
            style += self._style("marked")
        # Stale signs lose their colour: they say what was, not what is.
        is_stale = self.has_class("-stale")
        signs = {sign: Style.null() if is_stale else self._style(name) for sign, name in SIGN_STYLES.items()}
        strip = self._painter.row(line, style, self._style("mark"), signs)
        bar = ("|" if self._ascii_only else "┃") if line.is_bar else " "
        row = strip.adjust_cell_length(self.size.width - 1, style)
        return Strip.join([row, Strip([Segment(bar, self.rich_style + self._style("bar"))])])

    # ------------------------------------------------------------------ moving

    def _is_on_screen(self, line: int) -> bool:
        return self._top <= line < self._top + self.page_height

    def _scroll_to_line(self, line: int) -> None:
        self.scroll_to(y=max(0, min(line, self._last_top)), animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Draw the rows that came into view."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._drawn.clear()
            self._note_view()

    def _set_cursor_key(self, key: Key | None) -> None:
        if key != self._cursor_key:
            self._cursor_key = key
            self.post_message(self.CursorMoved(self, key))

    def _move_to(self, line: int) -> None:
        count = len(self._source)
        if not count:
            return
        line = max(0, min(line, count - 1))
        self._cursor_line, self._is_untouched = line, False
        self._set_cursor_key(self._source.key_at(line))
        if not self._is_on_screen(line):
            # Half a page at once: scrolling row by row would send the whole screen for each key.
            self._scroll_to_line(line - self.page_height // 2)
        self._send_differences()

    def move(self, lines: int) -> None:
        """Move the cursor down by some lines, up if negative."""
        self._move_to(self._cursor_line + lines)

    def move_to_end(self, *, top: bool) -> None:
        """Move the cursor to the first or the last row."""
        self._move_to(0 if top else len(self._source) - 1)

    def scroll_columns(self, columns: int) -> None:
        """Scroll by columns to the right, to the left if negative; the first column stays."""
        skip = max(0, min(self._skip + columns, len(self._all_columns) - 2))
        if skip != self._skip:
            self._skip = skip
            self._lay_out()
            self.refresh()

    def show_columns(self, columns: Sequence[Column[Any]]) -> None:
        """Have other columns; the first always stays on screen."""
        if tuple(columns) != self._all_columns:
            self._all_columns, self._skip = tuple(columns), 0
            self._lay_out()
            self.refresh()

    # ------------------------------------------------------------------ marks

    def toggle_mark(self) -> None:
        """Mark or unmark the row under the cursor and go on to the next."""
        if self._cursor_key is None:
            return
        self._set_marks(self.marks ^ {self._cursor_key})
        self.move(1)

    def mark_range(self) -> None:
        """Begin a range at the cursor, or mark from its beginning to here."""
        start = self._source.position(self._range_start)
        if start is None:
            self._range_start = self._cursor_key
            return
        first, last = sorted((start, self._cursor_line))
        self._range_start = None
        self._set_marks(self.marks | {self._source.key_at(line) for line in range(first, last + 1)})

    @property
    def is_in_range(self) -> bool:
        """Whether a range was begun and not ended."""
        return self._range_start is not None

    def mark_range_off(self) -> None:
        """Forget where a range was begun."""
        self._range_start = None
        self.post_message(self.MarksChanged())

    def mark_shown(self) -> None:
        """Mark every row that the filter shows, beside those already marked."""
        self._set_marks(self.marks | set(self._source.shown_keys()))

    def unmark_all(self) -> None:
        """Take every mark away, also of rows that the filter hides."""
        self._range_start = None
        self._set_marks(set())

    def restore_marks(self, marks: Iterable[Key]) -> None:
        """Mark these items, as far as they are still there, and no others."""
        self._set_marks({key for key in marks if key in self._source.records})

    def drop_marks(self, keys: Iterable[Key]) -> None:
        """Take marks away of items that are gone."""
        self._set_marks(self.marks - set(keys))

    def _set_marks(self, marks: set[Key]) -> None:
        if marks != self.marks:
            self.marks = marks
            self._send_differences()
            self.post_message(self.MarksChanged())

    # ------------------------------------------------------------------ focus and mouse

    def _on_focus(self, event: events.Focus) -> None:
        self._take_focus(event, events.DescendantFocus(self), has_focus=True)

    def _on_blur(self, event: events.Blur) -> None:
        self._take_focus(event, events.DescendantBlur(self), has_focus=False)

    def _take_focus(self, event: events.Event, news: events.Event, *, has_focus: bool) -> None:
        # Textual's own handlers send the whole widget; here only the cursor's row looks different.
        event.prevent_default()
        self.has_focus = has_focus
        self._redraw_cursor()
        if self.parent is not None:
            self.parent.post_message(news)

    def _redraw_cursor(self) -> None:
        self._strips = {line: strip for line, strip in self._strips.items() if not line.is_cursor}
        if self._is_on_screen(self._cursor_line):
            self.refresh(Region(0, self._cursor_line - self._top + 1, self.size.width, 1))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where was clicked; a second click opens, the margin marks, a head sorts."""
        if event.y == 0:
            if placed := self._painter.column_at(event.x):
                self.post_message(self.HeadChosen(placed.column))
            return
        if event.x >= self.size.width - 1:
            self._scroll_to_line(round((event.y - 1) * self._last_top / max(1, self.page_height - 1)))
            return
        line = self._top + event.y - 1
        if not 0 <= line < len(self._source):
            return
        self._move_to(line)
        if event.x < PREFIX - 1:
            self._set_marks(self.marks ^ {self._source.key_at(line)})
        elif event.chain == 2:
            self.post_message(self.RowOpened(self, self._source.key_at(line)))

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        event.prevent_default()
        self._scroll_to_line(self._top + 3)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        event.prevent_default()
        self._scroll_to_line(self._top - 3)
