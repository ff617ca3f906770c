"""Turns what a line of a table shows into a strip of the screen.

Knows columns, signs and styles, nothing of rows, cursors or scrolling: the table
asks for a strip and keeps it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from dcvtui.api.text import cell_width
from dcvtui.columns import SIGN_WIDTH, Placed, Sign

PREFIX = 3
"""Cells before the first column: the cursor, the mark and a blank."""
GAP = 2

SIGN_STYLES = {
    Sign.GOOD: "good",
    Sign.CREATING: "busy",
    Sign.DELETING: "busy",
    Sign.DELETED: "muted",
    Sign.BAD: "bad",
    Sign.FULL: "muted",
    Sign.CLOSED: "muted",
    Sign.USER: "busy",
}
"""The style of each sign, by the last word of the table's component class."""


class Cell(NamedTuple):
    """One cell: its text, and the sign before it."""

    text: str
    sign: Sign | None


@dataclass(slots=True, frozen=True)
class Line:
    """What one line of the screen shows; equal lines look alike."""

    cells: tuple[Cell, ...] = ()
    is_cursor: bool = False
    is_marked: bool = False
    is_bar: bool = False
    sentence: str = ""
    """What stands there instead of a row."""


class RowPainter:
    """Paints heads and rows of one layout of columns.

    Args:
        columns: the columns with their widths.
        ascii_only: whether signs must be ASCII.
    """

    def __init__(self, columns: list[Placed[Any]], *, ascii_only: bool) -> None:
        self.columns = columns
        self._ascii_only = ascii_only
        self.starts: list[int] = []
        start = PREFIX
        for placed in columns:
            self.starts.append(start)
            start += placed.width + GAP

    def column_at(self, x: int) -> Placed[Any] | None:
        """The column at a cell of the line."""
        for placed, start in zip(self.columns, self.starts, strict=True):
            if start <= x < start + placed.width + GAP:
                return placed
        return None

    def head(self, sorted_by: str | None, *, is_reversed: bool) -> str:
        """The heads, an arrow at the sorted one."""
        arrow = ("v" if is_reversed else "^") if self._ascii_only else ("▾" if is_reversed else "▴")
        texts = []
        for placed in self.columns:
            text = placed.column.head + (arrow if placed.column.id == sorted_by else "")
            indented = " " * SIGN_WIDTH + text if placed.column.sign else text
            texts.append(padded(indented, placed.width, is_right=placed.column.is_right))
        return " " * PREFIX + (" " * GAP).join(texts)

    def row(self, line: Line, style: Style, mark_style: Style, sign_styles: dict[Sign, Style]) -> Strip:
        """One row.

        Args:
            line: what it shows.
            style: of the whole row.
            mark_style: of the signs of cursor and mark, on top of the row's.
            sign_styles: of the signs of states, likewise.
        """
        cursor, mark = (">", "v") if self._ascii_only else ("▸", "✓")
        margin = (cursor if line.is_cursor else " ") + (mark if line.is_marked else " ") + " "
        segments = [Segment(margin, style + mark_style)]
        last = len(line.cells) - 1
        for place, (cell, placed) in enumerate(zip(line.cells, self.columns, strict=True)):
            width = placed.width
            if placed.column.sign:
                width -= SIGN_WIDTH
                sign = (
                    cell.sign.character(ascii_only=self._ascii_only) + " " if cell.sign else " " * SIGN_WIDTH
                )
                segments.append(Segment(sign, style + sign_styles[cell.sign] if cell.sign else style))
            text = padded(cell.text, width, is_right=placed.column.is_right, ascii_only=self._ascii_only)
            segments.append(Segment(text + (" " * GAP if place < last else ""), style))
        # Neighbours of one style become one run: fewer escape sequences for each row that is sent.
        return Strip(segments).simplify()

    def _sign(self, sign: Sign | None, style: Style, sign_styles: dict[Sign, Style]) -> Segment:
        if sign is None:
            return Segment(" " * SIGN_WIDTH, style)
        return Segment(sign.character(ascii_only=self._ascii_only) + " ", style + sign_styles[sign])


def padded(text: str, width: int, *, is_right: bool = False, ascii_only: bool = False) -> str:
    """A text cut or filled to a width in cells."""
    cells = cell_width(text)
    if cells > width:
        text = _cut(text, width - 1) + ("~" if ascii_only else "…")
        cells = cell_width(text)
    blanks = " " * (width - cells)
    return blanks + text if is_right else text + blanks


def _cut(text: str, width: int) -> str:
    if text.isascii():
        return text[: max(0, width)]
    cut = text
    while cut and cell_width(cut) > width:
        cut = cut[:-1]
    return cut
