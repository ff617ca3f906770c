"""What a column of a list is: head, text, what it sorts and compares by, and which columns fit a width.

Which columns servers and sessions have is in `dcvtui.fields`. Pure; the broker's
time comes in as an argument.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar

RecordT = TypeVar("RecordT")


class Sign(Enum):
    """A state as one character: in Unicode, and for terminals that have only ASCII."""

    GOOD = ("●", "*")
    CREATING = ("◐", "+")
    DELETING = ("◑", "-")
    DELETED = ("○", ".")
    BAD = ("✗", "x")
    FULL = ("■", "#")
    CLOSED = ("□", "o")
    USER = ("◆", "u")

    def character(self, *, ascii_only: bool) -> str:
        """The sign as this terminal can show it."""
        return self.value[1] if ascii_only else self.value[0]


class Unit(Enum):
    """What the operand of a comparison with a column is."""

    NONE = "nothing to compare"
    NUMBER = "a number"
    TIME = "a time such as 30s, 5m, 2h, 1d or 1w"
    SIZE = "a size such as 4GiB"


def _no_measure(_record: Any, _now: datetime) -> float | None:
    return None


@dataclass(slots=True, frozen=True)
class Column(Generic[RecordT]):
    """One column of a list of records."""

    head: str
    text: Callable[[RecordT, datetime], str]
    """The cell, safe to show."""
    width: int = 10
    """The width it likes to have; without room it goes down to `narrow` and up to `wide`."""
    narrow: int = 0
    wide: int = 0
    importance: int = 9
    """0 never leaves the screen; up to 4 a column shrinks before it leaves; 9 comes only by scrolling."""
    is_right: bool = False
    unit: Unit = Unit.NONE
    measure: Callable[[RecordT, datetime], float | None] = _no_measure
    """The number, seconds or bytes behind the text."""
    sign: Callable[[RecordT], Sign | None] | None = None

    @property
    def id(self) -> str:
        """The head as it is written in filters and settings."""
        return self.head.lower()

    @property
    def least(self) -> int:
        """The narrowest it may get."""
        return self.narrow or self.width

    def sort_key(self, record: RecordT, now: datetime) -> tuple[bool, float | str]:
        """Sorts what has no value last; ages and sizes by what they are, not by how they are written."""
        if self.unit is Unit.NONE:
            text = self.text(record, now)
            folded = text.casefold()
            # Fifty thousand of these are kept: a name in small letters needs no copy.
            return (not text, text if folded == text else folded)
        value = self.measure(record, now)
        return (value is None, value or 0.0)


_STATE_ORDER = ("READY", "CREATING", "DELETING", "UNKNOWN")


def state_order(state: str) -> tuple[int, str]:
    """Sorts counts by state: the usual first, words nobody knows last."""
    return (_STATE_ORDER.index(state) if state in _STATE_ORDER else len(_STATE_ORDER), state)


# ------------------------------------------------------------------ times and sizes


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in steps that stand still: `<1 min`, minutes to 59, hours to 47, then days."""
    if moment is None:
        return ""
    return duration(now - moment)


def duration(time: timedelta) -> str:
    """A time in the same steps as ages."""
    minutes = int(time.total_seconds() // 60)
    if minutes < 1:
        return "<1 min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} d"


def size(count: int | None) -> str:
    """Bytes in GiB."""
    return "" if count is None else f"{count / (1 << 30):.1f} GiB"


def absolute(moment: datetime | None) -> str:
    """A time in full, in the zone of the one who reads it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


# ------------------------------------------------------------------ which columns fit


@dataclass(slots=True, frozen=True)
class Placed(Generic[RecordT]):
    """A column with the width it got, its sign included."""

    column: Column[RecordT]
    width: int


SIGN_WIDTH = 2
"""A sign and the blank after it stand before the text of their column."""


def fit(
    columns: Sequence[Column[RecordT]],
    width: int,
    gap: int = 2,
    skip: int = 0,
    widest: Mapping[str, int] | None = None,
) -> list[Placed[RecordT]]:
    """Choose the columns that fit a width, in their order, and give them their widths.

    Args:
        columns: all columns there are; the first always stays.
        width: cells for columns and gaps.
        gap: cells between two columns.
        skip: how many columns after the first are scrolled out; then columns come in their
            order and not by importance.
        widest: the longest text of each column by its id; without it each gets what it likes.
    """
    if not columns:
        return []
    chosen = _scrolled(columns, width, gap, skip) if skip else _important(columns, width, gap)
    needs = [_need(column, widest) for column in chosen]
    widths = [min(column.least, need) for column, need in zip(chosen, needs, strict=True)]
    free = width - sum(widths) - sum(map(_extra, chosen)) - gap * (len(chosen) - 1)
    by_importance = sorted(range(len(chosen)), key=lambda place: chosen[place].importance)
    # What the texts need of the usual width, then what they need beyond, then air up to the usual width.
    usual = [column.width for column in chosen]
    beyond = [max(column.wide, column.width) for column in chosen]
    for limits in (list(map(min, needs, usual)), list(map(min, needs, beyond)), usual):
        for place in by_importance:
            more = max(0, min(free, limits[place] - widths[place]))
            widths[place] += more
            free -= more
    widths = [cells + _extra(column) for cells, column in zip(widths, chosen, strict=True)]
    widths[0] = max(1, min(widths[0], width))
    return [Placed(column, cells) for column, cells in zip(chosen, widths, strict=True)]


def _need(column: Column[Any], widest: Mapping[str, int] | None) -> int:
    if widest is None or column.id not in widest:
        return max(column.wide, column.width)
    # One more than the head for the arrow of the sorted column.
    return max(len(column.head) + 1, widest[column.id])


def _extra(column: Column[Any]) -> int:
    return SIGN_WIDTH if column.sign else 0


def _important(columns: Sequence[Column[RecordT]], width: int, gap: int) -> list[Column[RecordT]]:
    taken: set[int] = set()
    used = 0
    for place in sorted(range(len(columns)), key=lambda place: columns[place].importance):
        column = columns[place]
        is_essential = column.importance <= 4
        if column.importance >= 9:
            break
        used += (column.least if is_essential else column.width) + _extra(column) + (gap if taken else 0)
        # Optional columns come only when the essential ones have the width they like.
        shrunk = 0 if is_essential else sum(columns[p].width - columns[p].least for p in taken)
        if used + shrunk > width and taken:
            break
        taken.add(place)
    return [columns[place] for place in sorted(taken)]


def _scrolled(columns: Sequence[Column[RecordT]], width: int, gap: int, skip: int) -> list[Column[RecordT]]:
    chosen = [columns[0]]
    used = columns[0].width
    for column in columns[1 + skip :]:
        used += gap + column.width + _extra(column)
        if used > width and len(chosen) > 1:
            break
        chosen.append(column)
    return chosen
