"""Tiles instead of rows: the same list of sessions as pictures side by side, with the same cursor and marks.

Draws what it is given and asks nobody: pictures come from `dcvtui.tui.wall`. Only
tiles that look different are sent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Offset, Region, Size
from textual.strip import Strip

from dcvtui.api.text import visible
from dcvtui.fields import state_sign
from dcvtui.fleet import Key, SessionRecord
from dcvtui.graphics import PixelPicture
from dcvtui.images import CellPicture
from dcvtui.tui.picture_view import Poster, picture_strips
from dcvtui.tui.row_paint import SIGN_STYLES, padded
from dcvtui.tui.table import FleetTable

_GAP: Final = 2
_USUAL_WIDTH: Final = 38
_NARROWEST: Final = 14
_MARGIN: Final = 1

Picture = CellPicture | PixelPicture


@dataclass(slots=True, frozen=True)
class Tile:
    """What a tile shows below its caption: a picture, or words where there is none."""

    picture: Picture | None = None
    words: str = ""


@dataclass(slots=True, frozen=True)
class _Look:
    caption: str
    state: str
    tile: Tile
    is_cursor: bool
    is_marked: bool


class TileGrid(FleetTable):
    """The sessions of a list as tiles."""

    DEFAULT_CSS = """
    TileGrid { padding: 0; }
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._wish: int | None = None
        self._first = 0
        self._tiles: Mapping[Key, Tile] = {}
        self._looks: dict[int, _Look] = {}
        self._lines: dict[_Look, list[Strip]] = {}
        self._poster = Poster(self)

    # ------------------------------------------------------------------ geometry

    @property
    def across(self) -> int:
        """Tiles side by side."""
        width = max(1, self.size.width - 2 * _MARGIN)
        most = max(1, (width + _GAP) // (_NARROWEST + _GAP))
        usual = max(1, (width + _GAP) // (_USUAL_WIDTH + _GAP))
        return max(1, min(self._wish or usual, most))

    @property
    def picture_size(self) -> Size:
        """Cells of the picture in a tile: about 16 to 9, so that rows of tiles fill the height."""
        width = (self.size.width - 2 * _MARGIN - _GAP * (self.across - 1)) // self.across
        height = (self.size.height + 1) // self._down - 2
        return Size(max(1, width), max(1, height))

    @property
    def _tile_height(self) -> int:
        return self.picture_size.height + 2

    @property
    def _down(self) -> int:
        # A tile is a caption, a picture and a blank line; the last blank one need not be on screen.
        width = (self.size.width - 2 * _MARGIN - _GAP * (self.across - 1)) // self.across
        natural = width * 9 / 32 + 2
        return max(1, min(round((self.size.height + 1) / natural), (self.size.height + 1) // 3))

    @property
    def page_height(self) -> int:
        """How many tiles fit on the screen."""
        return self.across * self._down

    @property
    def _top(self) -> int:
        return self._first

    @property
    def _last_top(self) -> int:
        rows = -(-len(self._source) // self.across)
        return max(0, rows - self._down) * self.across

    def resize_tiles(self, tiles: int) -> None:
        """Show so many more tiles side by side, fewer if negative."""
        self._wish = max(1, self.across + tiles)
        self._wish = self.across
        self._lay_out_anew()

    def _lay_out_anew(self) -> None:
        self._looks.clear()
        self._lines.clear()
        self._poster.take_down()
        self._scroll_to_line(self._cursor_line if not self._is_on_screen(self._cursor_line) else self._first)
        self.refresh()
        self._note_view()

    def _lay_out(self) -> None:
        """Tiles have no columns."""

    def _take_widths(self) -> None:
        """Tiles are all of one width."""

    def _hold_view(self) -> None:
        """Rows of tiles stay where they are."""

    def _set_size(self) -> None:
        self._first = min(self._first // self.across * self.across, self._last_top)

    def _scroll_to_line(self, line: int) -> None:
        first = max(0, min(line, self._last_top)) // self.across * self.across
        if first != self._first:
            self._first = first
            self._looks.clear()
            self._poster.take_down()
            self.refresh()
            self._note_view()

    def on_resize(self) -> None:
        """Other places for all tiles."""
        self._lay_out_anew()

    def _region(self, place: int) -> Region:
        size = self.picture_size
        row, column = divmod(place, self.across)
        return Region(
            _MARGIN + column * (size.width + _GAP), row * self._tile_height, size.width, size.height + 1
        )

    # ------------------------------------------------------------------ what tiles show

    def show_tiles(self, tiles: Mapping[Key, Tile]) -> None:
        """Show these pictures; only tiles that look different are sent."""
        self._tiles = tiles
        self._send_differences()

    def _send_differences(self) -> None:
        for place in range(self.page_height):
            look = self._look(place)
            if place not in self._looks or look == self._looks[place]:
                continue
            if look is None or self._looks[place].tile != look.tile:
                self._poster.take_down([place])
            self.refresh(self._region(place))
        self._note_view()

    def _look(self, place: int) -> _Look | None:
        line = self._first + place
        if not 0 <= line < len(self._source):
            return None
        session: SessionRecord = self._source.record_at(line)
        tile = self._tiles.get(session.key) or Tile(words=session.state if session.state != "READY" else "")
        caption = "  ".join(filter(None, [visible(session.name or session.id), visible(session.owner)]))
        return _Look(caption, session.state, tile, line == self._cursor_line, session.key in self.marks)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines, and the pixels anew where these lines wipe them away."""
        strips = super().render_lines(crop)
        self._poster.put_up(self._posters())
        return strips

    def _posters(self) -> Iterable[tuple[int, Offset, PixelPicture]]:
        for place, look in sorted(self._looks.items()):
            if isinstance(picture := look.tile.picture, PixelPicture):
                region = self._region(place)
                shift = Offset(self._before(picture), 1 + self._above(picture))
                yield place, region.offset + shift, picture

    def render_line(self, y: int) -> Strip:
        """One line of the row of tiles at this height."""
        base, width = self.rich_style, self.size.width
        if not len(self._source):
            text = "   " + self.empty_text if y == 2 else ""
            return Strip([Segment(text, base + self._style("empty"))]).adjust_cell_length(width, base)
        row, line = divmod(y, self._tile_height)
        blank = Strip([Segment(" " * _GAP, base)], _GAP)
        strips = [Strip([Segment(" " * _MARGIN, base)], _MARGIN)]
        for column in range(self.across):
            if column:
                strips.append(blank)
            strips.append(self._tile_line(row * self.across + column, line))
        return Strip.join(strips).adjust_cell_length(width, base)

    def _tile_line(self, place: int, line: int) -> Strip:
        look, width = self._look(place), self.picture_size.width
        if look is None or place >= self.page_height or line > self.picture_size.height:
            return Strip.blank(width, self.rich_style)
        self._looks[place] = look
        strips = self._lines.get(look)
        if strips is None:
            if len(self._lines) > 4 * self.page_height:
                self._lines.clear()
            strips = self._lines[look] = [self._caption(look), *self._body(look.tile)]
        return strips[line]

    def _caption(self, look: _Look) -> Strip:
        cursor, mark = (">", "v") if self.is_ascii else ("▸", "✓")
        style = self.rich_style
        if look.is_cursor:
            style = self._style("cursor" if self.has_focus else "cursor-away")
        if look.is_marked:
            style += self._style("marked")
        margin = (cursor if look.is_cursor else " ") + (mark if look.is_marked else " ")
        sign = state_sign(look.state)
        sign_text = (sign.character(ascii_only=self.is_ascii) if sign else " ") + " "
        sign_style = style + self._style(SIGN_STYLES[sign]) if sign else style
        width = self.picture_size.width
        return Strip(
            [
                Segment(margin, style + self._style("mark")),
                Segment(sign_text, sign_style),
                Segment(padded(look.caption, width - 4, ascii_only=self.is_ascii), style),
            ]
        ).adjust_cell_length(width, style)

    def _before(self, picture: Picture) -> int:
        return max(0, (self.picture_size.width - picture.columns) // 2)

    def _above(self, picture: Picture) -> int:
        return max(0, (self.picture_size.height - picture.rows) // 2)

    def _body(self, tile: Tile) -> list[Strip]:
        width, height = self.picture_size
        ground = self._style("ground")
        if isinstance(tile.picture, CellPicture):
            drawn, above = picture_strips(tile.picture), self._above(tile.picture)
            left = Strip([Segment(" " * self._before(tile.picture), ground)])
            lines = [Strip.blank(width, ground)] * above + [Strip.join([left, one]) for one in drawn]
        elif tile.picture is not None:
            lines = []
        else:
            words = wrap(visible(tile.words), max(4, width - 2))[:height]
            above = (height - len(words)) // 2
            style = ground + self._style("muted")
            lines = [Strip.blank(width, ground)] * above
            lines += [Strip([Segment(text.center(width), style)]) for text in words]
        lines = [line.adjust_cell_length(width, ground) for line in lines[:height]]
        return lines + [Strip.blank(width, ground)] * (height - len(lines))

    def _style(self, name: str) -> Style:
        if name == "ground":
            if "ground" not in self._styles:
                self._styles["ground"] = self.get_component_rich_style("fleet-table--ground")
            return self._styles["ground"]
        return super()._style(name)

    def notify_style_update(self) -> None:
        """Forget what was drawn in other colours."""
        super().notify_style_update()
        self._lines.clear()

    # ------------------------------------------------------------------ pixels come and go

    def put_up(self) -> None:
        """The wall is seen again."""
        self._poster.put_up(self._posters())

    def take_down(self) -> None:
        """Something else is seen in its place."""
        self._poster.take_down()

    def on_hide(self) -> None:
        """Another view is shown."""
        self.take_down()

    def on_unmount(self) -> None:
        """Leave nothing behind."""
        self.take_down()

    # ------------------------------------------------------------------ focus and mouse

    def _redraw_cursor(self) -> None:
        self._lines = {look: lines for look, lines in self._lines.items() if not look.is_cursor}
        if self._is_on_screen(self._cursor_line):
            self.refresh(self._region(self._cursor_line - self._first))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where was clicked; a second click zooms, the margin marks."""
        for place in range(self.page_height):
            region, line = self._region(place), self._first + place
            if region.contains(event.x, event.y) and line < len(self._source):
                self._move_to(line)
                if event.y == region.y and event.x < region.x + 2:
                    self._set_marks(self.marks ^ {self._source.key_at(line)})
                elif event.chain == 2:
                    self.post_message(self.RowOpened(self, self._source.key_at(line)))
                return

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        event.prevent_default()
        self._scroll_to_line(self._first + self.across)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        event.prevent_default()
        self._scroll_to_line(self._first - self.across)
