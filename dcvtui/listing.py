"""The rows of one list: which records are shown, in which order, kept so while records change.

Rows are keys, so that a record whose place does not change costs nothing but its
own replacement; places are found by bisection. A filter key over fifty thousand
records is one pass over texts prepared when the records came. Pure: the table
draws from it, the list screens feed it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from dcvtui.columns import Column, Unit
from dcvtui.fleet import Changes, Key, Keyed
from dcvtui.query import EVERYTHING, Filter, Tags

RecordT = TypeVar("RecordT", bound=Keyed)

_REFERENCE = datetime(2000, 1, 1, tzinfo=UTC)
"""Ages sort alike at any time, so that time alone never moves a row."""
_FEW = 100
"""So many records are put in place one by one; more are merged in at once."""


class Listing(Generic[RecordT]):
    """Filtered and sorted rows over a mapping of records.

    Args:
        columns: all columns of the list; the first one breaks ties.
        sort: the column to sort by at first; without one the rank alone decides.
        rank: decides between rows that are equal in the sorted column.
        tags: the tags of a record, for `tag:` in filters.
        is_hidden: records that are left out, and not counted, unless a filter asks for them.
        hidden_value: the state by which a filter asks for them.
    """

    def __init__(
        self,
        columns: Sequence[Column[RecordT]],
        *,
        sort: str | None = None,
        rank: Callable[[RecordT], Any] | None = None,
        tags: Tags = lambda _record: (),
        is_hidden: Callable[[RecordT], bool] = lambda _record: False,
        hidden_value: str = "",
    ) -> None:
        self.columns = tuple(columns)
        self.filter: Filter = EVERYTHING
        self.only: Callable[[RecordT], bool] | None = None
        self.tags = tags
        self.records: Mapping[Key, RecordT] = {}
        self.is_reversed = False
        self.widest: Mapping[str, int] = {}
        self._rank = rank
        self._sort = self._column(sort)
        self._is_hidden, self._hidden_value = is_hidden, hidden_value
        self._haystacks: dict[Key, str] = {}
        # What each record is sorted by, kept: computing it anew for fifty thousand takes a fifth of a second.
        self._sort_keys: dict[Key, tuple[Any, ...]] = {}
        self._order: list[Key] = []
        self._rows: list[Key] = []
        self._shown: set[Key] = set()
        self._hidden = 0

    def _column(self, head: str | None) -> Column[RecordT] | None:
        return next((column for column in self.columns if column.id == head), None)

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return len(self._rows)

    def key_at(self, line: int) -> Key:
        """The key of the row at a line, counted from 0."""
        return self._rows[len(self._rows) - 1 - line if self.is_reversed else line]

    def record_at(self, line: int) -> RecordT:
        """The record shown at a line."""
        return self.records[self.key_at(line)]

    def shown_keys(self) -> Iterable[Key]:
        """All rows from the top down."""
        return reversed(self._rows) if self.is_reversed else iter(self._rows)

    def position(self, key: Key | None) -> int | None:
        """The line of a row; None if it is not shown."""
        if key is None or key not in self._shown:
            return None
        place = self._place(self._rows, key)
        return len(self._rows) - 1 - place if self.is_reversed else place

    def is_shown(self, key: Key) -> bool:
        """Whether the row passes the filter."""
        return key in self._shown

    @property
    def total(self) -> int:
        """How many records there are, hidden ones left out unless they are asked for."""
        return len(self._order) - (0 if self._shows_hidden else self._hidden)

    @property
    def sorted_by(self) -> str | None:
        """The id of the sorted column."""
        return self._sort.id if self._sort else None

    # ------------------------------------------------------------------ changing

    def apply(self, changes: Changes[RecordT], records: Mapping[Key, RecordT], now: datetime) -> None:
        """Take over changed records.

        Args:
            changes: what changed since the last call.
            records: all records after these changes.
            now: the broker's time, for filters that speak of ages.
        """
        sort_keys = {new.key: self._sort_key(new) for new in changes.present()}
        moved = [new for _, new in changes.changed if sort_keys[new.key] != self._sort_keys[new.key]]
        is_bulk = len(moved) + len(changes.added) + len(changes.removed) > _FEW
        leaving = [record.key for record in (*changes.removed, *moved)]
        coming = [record.key for record in (*changes.added, *moved)]
        if not is_bulk:
            for key in leaving:
                self._take_out(self._order, key)
                if key in self._shown:
                    self._take_out(self._rows, key)
                    self._shown.discard(key)
        # From here on the remaining rows are in order by the new records too.
        self.records = records
        self._sort_keys.update(sort_keys)
        for gone in changes.removed:
            self._haystacks.pop(gone.key, None)
            self._sort_keys.pop(gone.key, None)
            self._hidden -= self._is_hidden(gone)
        for old, new in changes.changed:
            self._hidden += self._is_hidden(new) - self._is_hidden(old)
        self._hidden += sum(map(self._is_hidden, changes.added))
        self._note_texts(changes.present(), now)
        if is_bulk:
            left = set(leaving)
            self._order = [key for key in self._order if key not in left] if left else self._order
            # Almost sorted: the sort runs once over what is in order and merges what comes.
            self._order += coming
            self._order.sort(key=self._sort_keys.__getitem__)
            self.refilter(now)
            return
        for key in coming:
            self._put_in(self._order, key)
        for record in changes.present():
            self._show_or_hide(record, now)

    def _note_texts(self, records: Iterable[RecordT], now: datetime) -> None:
        searched = [column for column in self.columns if column.unit is not Unit.TIME]
        widths = [self.widest.get(column.id, 0) for column in searched]
        for record in records:
            texts = [column.text(record, now) for column in searched]
            widths = list(map(max, widths, map(len, texts)))
            self._haystacks[record.key] = "\n".join(texts).casefold()
        self.widest = {column.id: width for column, width in zip(searched, widths, strict=True)}

    def set_columns(self, columns: Sequence[Column[RecordT]], now: datetime) -> None:
        """Sort and search by these columns from now on; the first stays what it was."""
        sort = self._sort.id if self._sort else None
        self.columns = tuple(columns)
        self.widest = {}
        self._note_texts(self.records.values(), now)
        self.sort_by(sort, now, is_reversed=self.is_reversed)

    def set_filter(self, wanted: Filter, now: datetime) -> None:
        """Show what matches this filter from now on."""
        self.filter = wanted
        self.refilter(now)

    def set_only(self, only: Callable[[RecordT], bool] | None, now: datetime) -> None:
        """Show only these records of those that match the filter; None for all of them."""
        self.only = only
        self.refilter(now)

    def refilter(self, now: datetime) -> None:
        """Ask the filter again, also because time has passed."""
        records, haystacks, matches = self.records, self._haystacks, self.filter.matches
        if self.filter is EVERYTHING:
            keys = list(self._order)
        else:
            keys = [key for key in self._order if matches(records[key], now, haystacks[key])]
        if self._hidden and not self._shows_hidden:
            keys = [key for key in keys if not self._is_hidden(records[key])]
        if self.only is not None:
            only = self.only
            keys = [key for key in keys if only(records[key])]
        self._rows, self._shown = keys, set(keys)

    def sort_by(self, head: str | None, now: datetime, *, is_reversed: bool = False) -> None:
        """Sort by a column; reversed means from the largest down."""
        self._sort = self._column(head)
        self.is_reversed = is_reversed
        self._sort_keys = {key: self._sort_key(record) for key, record in self.records.items()}
        self._order = sorted(self._sort_keys, key=self._sort_keys.__getitem__)
        self.refilter(now)

    # ------------------------------------------------------------------ places

    @property
    def _shows_hidden(self) -> bool:
        return self.filter.asks_for("state", self._hidden_value)

    def _sort_key(self, record: RecordT) -> tuple[Any, ...]:
        first = self.columns[0]
        parts: list[Any] = [self._sort.sort_key(record, _REFERENCE)] if self._sort else []
        if self._rank is not None:
            parts.append(self._rank(record))
        elif self._sort is not first:
            parts.append(first.sort_key(record, _REFERENCE))
        return (*parts, record.key)

    def _place(self, keys: list[Key], key: Key) -> int:
        return bisect_left(keys, self._sort_keys[key], key=self._sort_keys.__getitem__)

    def _take_out(self, keys: list[Key], key: Key) -> None:
        del keys[self._place(keys, key)]

    def _put_in(self, keys: list[Key], key: Key) -> None:
        keys.insert(self._place(keys, key), key)

    def _is_wanted(self, record: RecordT, now: datetime) -> bool:
        if self._is_hidden(record) and not self._shows_hidden:
            return False
        if self.only is not None and not self.only(record):
            return False
        return self.filter.matches(record, now, self._haystacks[record.key])

    def _show_or_hide(self, record: RecordT, now: datetime) -> None:
        is_wanted, key = self._is_wanted(record, now), record.key
        if is_wanted and key not in self._shown:
            self._put_in(self._rows, key)
            self._shown.add(key)
        elif not is_wanted and key in self._shown:
            self._take_out(self._rows, key)
            self._shown.discard(key)
