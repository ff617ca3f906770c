"""One list of the console: a table with details beside it, whatever is listed.

A list is told what changed and shows it; what a key asks for that concerns more
than the list itself goes up as a message.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from dcvtui.api.states import SessionState
from dcvtui.api.text import visible
from dcvtui.columns import Column
from dcvtui.details import (
    Detail,
)
from dcvtui.fleet import Changes, Key
from dcvtui.listing import Listing
from dcvtui.polling import LinkState
from dcvtui.query import EVERYTHING, Tags, compile_filter
from dcvtui.tui.details_pane import DetailsPane
from dcvtui.tui.keys import bindings
from dcvtui.tui.table import FleetTable
from dcvtui.watch import Watch

_REST_S = 0.12
"""So long the cursor rests before the details follow it: a held key does not send them each time."""


TAG = "tag:"
"""What the head of a column begins with that shows a tag of servers."""

_TAGS_OFFERED = 200


def tag_column(head: str, tags: Tags) -> Column[Any] | None:
    """The column of a tag by its head; None if it names none."""
    if not head.startswith(TAG):
        return None
    wanted = head.removeprefix(TAG)

    def text(record: Any, _now: datetime) -> str:
        return next((visible(value) for key, value in tags(record) if visible(key) == wanted), "")

    return Column(head, text, 12, narrow=6, wide=24, importance=4)


@dataclass(slots=True, frozen=True)
class ListDefinition:
    """What one list lists."""

    view: str
    title: str
    columns: Sequence[Column[Any]]
    nothing: str
    """The sentence of an empty list."""
    details: Callable[[Any, Watch, datetime], list[Detail]]
    wire: Callable[[Any, Watch], Mapping[str, Any]]
    tags: Callable[[Watch], Tags] = lambda _watch: lambda _record: ()
    is_trouble: Callable[[Any], bool] = lambda _record: True
    is_hidden: Callable[[Any], bool] = lambda _record: False
    sort: str | None = None
    rank: Callable[[Any], Any] | None = None
    pane_from: int = 100
    """Columns of the terminal from which on the details stand beside the list."""


class FleetList(Horizontal):
    """A table with details beside it."""

    DEFAULT_CSS = """
    FleetList { height: 1fr; }
    FleetList > FleetTable { width: 1fr; }
    FleetList > .side { display: none; width: 40; padding: 0 1 0 2; background: $surface; }
    FleetList.-pane > .side { display: block; }
    FleetList.-pane.-wide > .side { width: 56; }
    FleetList.-pane.-tight > .side { width: 36; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("list")]

    LISTS_WHAT: ClassVar[ListDefinition]
    """What each kind of list lists."""

    class FilterRequested(Message):
        """The operator wants to type a filter."""

    class Changed(Message):
        """Other rows are shown, marked or on screen."""

        def can_replace(self, message: Message) -> bool:
            """Only the present state counts."""
            return isinstance(message, FleetList.Changed)

    class Opened(Message):
        """A row was opened."""

        def __init__(self, key: Key, record: Any) -> None:
            super().__init__()
            self.key, self.record = key, record

    class DetailsRequested(Message):
        """Details are wanted on the whole screen."""

        def __init__(self, record: Any) -> None:
            super().__init__()
            self.record = record

    class TextRequested(Message):
        """A text is wanted on the whole screen."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class CopyRequested(Message):
        """A text is to be copied."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Act(Message):
        """Something is to be done with some items."""

        def __init__(self, name: str, records: Sequence[Any]) -> None:
            super().__init__()
            self.name, self.records = name, records

    class Undoable(Message):
        """Something was done that can be taken back."""

        def __init__(self, label: str, undo: Callable[[], object]) -> None:
            super().__init__()
            self.label, self.undo = label, undo

    class NothingToDo(Message):
        """A key was pressed that has nothing to do here."""

        def __init__(self, sentence: str) -> None:
            super().__init__()
            self.sentence = sentence

    class ToolRequested(Message):
        """One of the tools of all lists is wanted: its columns, filters, rows in a file, its command line."""

        def __init__(self, one: "FleetList", name: str) -> None:
            super().__init__()
            self.one, self.name = one, name

    def __init__(
        self,
        definition: ListDefinition,
        watch: Watch,
        now: Callable[[], datetime],
        *,
        ascii_only: bool,
        listing: Listing[Any] | None = None,
    ) -> None:
        """A list of what the watch knows.

        Args:
            definition: what is listed.
            watch: what is known.
            now: the broker's time.
            ascii_only: whether signs must be ASCII.
            listing: rows shared with another list; its own without it.
        """
        super().__init__(id=definition.view)
        self.definition, self._watch, self._now = definition, watch, now
        # An empty listing is false, so this asks for None.
        self.listing: Listing[Any] = self._own_listing() if listing is None else listing
        self.table = self.make_table(ascii_only)
        self.table.show_sorting(definition.sort, is_reversed=False)
        self.pane = DetailsPane(ascii_only=ascii_only)
        self.side: Widget = self.pane
        """What stands beside the table: the details, and whatever else a list has there."""
        self._chosen: list[Column[Any]] = []
        self._has_several_brokers = False
        self._is_pane_wanted = True
        self._room = 0
        self._rest: Timer | None = None
        self._pane_key: Key | None = None

    def _own_listing(self) -> Listing[Any]:
        definition = self.definition
        return Listing(
            definition.columns,
            sort=definition.sort,
            rank=definition.rank,
            tags=definition.tags(self._watch),
            is_hidden=definition.is_hidden,
            hidden_value=SessionState.DELETED,
        )

    def make_table(self, ascii_only: bool) -> FleetTable:
        """What shows the rows."""
        return FleetTable(self.definition.columns, self.listing, ascii_only=ascii_only, now=self._now)

    def compose(self) -> ComposeResult:
        """The table, and the details of the row under its cursor."""
        self.side.add_class("side")
        yield self.table
        yield self.side

    # ------------------------------------------------------------------ what it is told

    def take(self, changes: Changes[Any], records: Mapping[Key, Any]) -> None:
        """Take over changed records."""
        if changes:
            self.listing.apply(changes, records, self._now())
            self.table.rows_changed()
            self._say_nothing()
            self._drop_marks(changes)
            self.post_message(self.Changed())
        self._show_details()

    def take_shared(self, changes: Changes[Any]) -> None:
        """Take over what another list has put into the rows they share."""
        if changes:
            self.table.rows_changed()
            self._say_nothing()
            self._drop_marks(changes)
            self.post_message(self.Changed())
        self._show_details()

    def _drop_marks(self, changes: Changes[Any]) -> None:
        if any(record.key in self.table.marks for record in changes.removed):
            self.table.drop_marks(record.key for record in changes.removed)

    def take_place_of(self, other: "FleetList") -> None:
        """Show the rows that both share with the marks and the cursor of the other one."""
        self.table.rows_changed()
        self.table.restore_marks(other.table.marks)
        if other.table.cursor_key is not None:
            self.table.select(other.table.cursor_key)

    def time_passed(self) -> None:
        """A minute has passed: ages step, and filters on ages match other rows."""
        if self.listing.filter is not EVERYTHING:
            self.listing.refilter(self._now())
            self.table.rows_changed()
            self.post_message(self.Changed())
        self.table.time_passed()
        self._show_details()

    def set_filter(self, text: str) -> None:
        """Show what matches a filter.

        Raises:
            QueryError: it cannot be understood; the present one stays in force.
        """
        if text.strip() == self.filter_text:
            return
        compiled = compile_filter(text, self.definition.columns, self.listing.tags)
        self.listing.set_filter(compiled, self._now())
        self._rows_chosen()

    def _rows_chosen(self) -> None:
        is_kept = self.listing.position(self.table.cursor_key) is not None
        self.table.rows_changed()
        if not is_kept and len(self.listing):
            self.table.move_to_end(top=True)
        self._say_nothing()
        self.post_message(self.Changed())

    def _say_nothing(self) -> None:
        if self.listing.total and not len(self.listing):
            self.table.empty_text = "No row matches this filter."
        else:
            is_stale = self._watch.link.state is LinkState.STALE
            waiting = "No data yet." if is_stale else "loading"
            self.table.empty_text = self.definition.nothing if self._watch.is_complete else waiting

    def show_profiles(self, *, shown: bool) -> None:
        """Say beside each name whose it is, where the list holds items of several brokers."""
        self._has_several_brokers = shown
        self._lay_columns()

    def _lay_columns(self) -> None:
        columns = list(self._chosen or self.definition.columns)
        profile = next((column for column in self.definition.columns if column.id == "profile"), None)
        if self._has_several_brokers and profile is not None:
            columns = [column for column in columns if column.id != "profile"]
            columns.insert(1, replace(profile, importance=1))
        self.table.show_columns(columns)

    def show_stale(self, is_stale: bool) -> None:
        """Grey what is not known to be so any more."""
        if is_stale != self.table.has_class("-stale"):
            self.table.set_class(is_stale, "-stale")
            self.pane.set_class(is_stale, "-stale")
        self._say_nothing()

    # ------------------------------------------------------------------ what it can tell

    @property
    def filter_text(self) -> str:
        """The filter in force."""
        return self.listing.filter.text

    @property
    def is_only_trouble(self) -> bool:
        """Whether only rows in trouble are shown."""
        return self.listing.only is not None

    @property
    def counts_text(self) -> str:
        """`47 of 1,917 · 2 marked`."""
        shown, total = len(self.listing), self.listing.total
        if not total and not self._watch.is_complete:
            return ""  # not yet a number
        texts = [f"{shown:,} of {total:,}" if shown != total else f"{total:,}"]
        if marks := self.table.marks:
            hidden = sum(not self.listing.is_shown(key) for key in marks)
            texts.append(f"{len(marks):,} marked" + (f" ({hidden:,} not shown)" if hidden else ""))
        if self.table.is_in_range:
            texts.append("range begun")
        return " · ".join(texts) if not self.table.is_ascii else " - ".join(texts)

    def acted_on(self, *, only_cursor: bool = False) -> list[Any]:
        """The records a key acts on: the marked ones if there are any, else the one under the cursor."""
        records = self.listing.records
        if self.table.marks and not only_cursor:
            shown = [key for key in self.listing.shown_keys() if key in self.table.marks]
            hidden = sorted(self.table.marks - set(shown))
            return [records[key] for key in [*shown, *hidden] if key in records]
        return [self.table.cursor_record] if self.table.cursor_record is not None else []

    def details(self) -> list[Detail]:
        """What is known of the row under the cursor."""
        record = self.table.cursor_record
        return self.definition.details(record, self._watch, self._now()) if record is not None else []

    def now(self) -> datetime:
        """The broker's time."""
        return self._now()

    def wire(self, record: Any) -> Mapping[str, Any]:
        """A row as the API has it."""
        return self.definition.wire(record, self._watch)

    # ------------------------------------------------------------------ columns

    @property
    def columns_shown(self) -> list[str]:
        """The heads of the columns that were chosen, or of those on screen."""
        return [column.head for column in self._chosen] or [
            placed.column.head for placed in self.table.columns_on_screen
        ]

    def columns_chosen(self) -> Sequence[Column[Any]]:
        """The columns that were chosen, or all of them."""
        return self._chosen or self.definition.columns

    def column_names(self) -> list[str]:
        """The heads of all columns, tags of servers among them."""
        tags = {key for server in self._watch.snapshot.servers.values() for key, _ in server.tags}
        has_tags = any(column.head in ("SERVER", "TAGS") for column in self.definition.columns)
        names = [column.head for column in self.definition.columns]
        return names + [f"{TAG}{visible(key)}" for key in sorted(tags) if has_tags][:_TAGS_OFFERED]

    def show_columns(self, heads: Sequence[str]) -> None:
        """Show these columns in this order; none for the usual ones."""
        known = {column.head: column for column in self.definition.columns}
        wanted = [known.get(head) or tag_column(head, self.listing.tags) for head in heads]
        columns = [column for column in wanted if column is not None]
        self._chosen = [
            replace(column, importance=0 if not place else 4) for place, column in enumerate(columns)
        ]
        tags = [column for column in columns if column.head.startswith(TAG)]
        self.listing.set_columns([*self.definition.columns, *tags], self._now())
        self._lay_columns()
        self.post_message(self.Changed())

    # ------------------------------------------------------------------ details beside the list

    def make_room(self, width: int) -> None:
        """Fold the details away where there is no room for them.

        Lists that are not on screen are told as well, so that showing them is one layout and not two.
        """
        self._room = width
        self.set_class(self._is_pane_wanted and width >= self.definition.pane_from, "-pane")
        self.set_class(width >= 150, "-wide")
        self.set_class(width < 120, "-tight")
        self._show_details()

    def on_show(self) -> None:
        """Fill the details that were not followed while the list was not on screen."""
        self._show_details()

    @on(FleetTable.CursorMoved)
    def follow_cursor(self, message: FleetTable.CursorMoved) -> None:
        """Show the details of another row once the cursor rests on it."""
        message.stop()
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(_REST_S, self._show_details)

    def _show_details(self) -> None:
        # A list that is not on screen is followed no more; showing it fills its details.
        if self.has_class("-pane") and self.is_attached and self.display:
            key = self.table.cursor_key
            self.pane.show(self.details(), from_top=key != self._pane_key)
            self._pane_key = key

    @on(FleetTable.MarksChanged)
    @on(FleetTable.ViewMoved)
    def tell_change(self, message: Message) -> None:
        """Let the frame show other counts."""
        message.stop()
        self.post_message(self.Changed())

    @on(FleetTable.RowOpened)
    def open_clicked(self, message: FleetTable.RowOpened) -> None:
        """A double click opens, as Enter does."""
        message.stop()
        self.action_open_row()

    @on(FleetTable.HeadChosen)
    def sort_by_head(self, message: FleetTable.HeadChosen) -> None:
        """A click on a head sorts by it, a second one turns the order round."""
        message.stop()
        is_same = self.listing.sorted_by == message.column.id
        self._sort(message.column.id, is_reversed=is_same and not self.listing.is_reversed)

    def _sort(self, column: str | None, *, is_reversed: bool) -> None:
        self.listing.sort_by(column, self._now(), is_reversed=is_reversed)
        self.table.show_sorting(column, is_reversed=is_reversed)
        self.table.rows_changed()

    # ------------------------------------------------------------------ actions

    def action_tool(self, name: str) -> None:
        """Ask for one of the tools of all lists."""
        self.post_message(self.ToolRequested(self, name))

    def action_edit_filter(self) -> None:
        """Type a filter."""
        self.post_message(self.FilterRequested())

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.table.move(lines)

    def action_move_page(self, pages: int) -> None:
        """Move the cursor by a page."""
        self.table.move(pages * max(1, self.table.page_height - 1))

    def action_move_end(self, top: bool) -> None:
        """Move the cursor to the first or last row."""
        self.table.move_to_end(top=top)

    def action_move_columns(self, columns: int) -> None:
        """Scroll the columns."""
        self.table.scroll_columns(columns)

    def action_open_row(self) -> None:
        """Open the row under the cursor."""
        if (key := self.table.cursor_key) is not None:
            self.post_message(self.Opened(key, self.table.cursor_record))

    def action_show_details(self) -> None:
        """Show the details on the whole screen."""
        if self.table.cursor_record is not None:
            self.post_message(self.DetailsRequested(self.table.cursor_record))

    def action_show_json(self) -> None:
        """Show the row as JSON."""
        if (record := self.table.cursor_record) is not None:
            wire = self.definition.wire(record, self._watch)
            self.post_message(self.TextRequested(json.dumps(wire, indent=2, ensure_ascii=False)))

    def action_copy_id(self) -> None:
        """Copy the id of the row under the cursor."""
        if (key := self.table.cursor_key) is not None:
            self.post_message(self.CopyRequested(key[-1]))

    def action_focus_pane(self) -> None:
        """Into the details and out again."""
        if self.has_class("-pane"):
            self.screen.set_focus(self.table if self.pane.has_focus else self.pane)

    def action_toggle_pane(self) -> None:
        """Show the details beside the list or not."""
        self._is_pane_wanted = not self._is_pane_wanted
        if self.pane.has_focus:
            self.screen.set_focus(self.table)
        self.make_room(self._room)

    def action_mark_row(self) -> None:
        """Mark the row under the cursor."""
        self.table.toggle_mark()

    def action_mark_range(self) -> None:
        """Mark from here to there."""
        self._change_marks(self.table.mark_range)

    def action_mark_shown(self) -> None:
        """Mark all rows shown."""
        self._change_marks(self.table.mark_shown)

    def action_unmark_all(self) -> None:
        """Take all marks away."""
        self._change_marks(self.table.unmark_all)

    def _change_marks(self, change: Callable[[], None]) -> None:
        before = self.table.marks
        change()
        if self.table.marks != before:
            self.post_message(self.Undoable("marks", lambda: self.table.restore_marks(before)))
        self.post_message(self.Changed())

    def action_sort_rows(self) -> None:
        """Sort by the next column on screen."""
        heads = [placed.column.id for placed in self.table.columns_on_screen]
        if heads:
            here = self.listing.sorted_by
            place = (heads.index(here) + 1) % len(heads) if here in heads else 0
            self._sort(heads[place], is_reversed=False)

    def action_reverse_sort(self) -> None:
        """Turn the order round."""
        self._sort(self.listing.sorted_by, is_reversed=not self.listing.is_reversed)

    def action_toggle_trouble(self) -> None:
        """Show only rows in trouble, or all."""
        only = None if self.is_only_trouble else self.definition.is_trouble
        self.listing.set_only(only, self._now())
        self._rows_chosen()

    def action_act(self, name: str) -> None:
        """Ask for something to be done with the marked rows, or with the one under the cursor."""
        only_cursor = name in ("screenshot", "connect")
        self.post_message(self.Act(name, self.acted_on(only_cursor=only_cursor)))
