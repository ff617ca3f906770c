"""The widget that draws one picture: in cells, or as pixels where the terminal takes them.

Pixels are written past Textual, onto cells that are kept blank for them, and are
taken down whenever something else is to be seen at their place.
"""

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar

from rich.color import Color, ColorType
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Offset, Region, Size
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from dcvtui import graphics, images
from dcvtui.graphics import PixelPicture
from dcvtui.images import CellPicture, Colours
from dcvtui.terminal import IN_BLOCKS, Drawing

_NUMBERS = count(1)


@lru_cache(8192)
def _style(foreground: int, background: int, colours: Colours) -> Style:
    return Style.from_color(_colour(foreground, colours), _colour(background, colours))


def _colour(value: int, colours: Colours) -> Color:
    if colours is Colours.TRUE:
        return Color.from_rgb(value >> 16, value >> 8 & 255, value & 255)
    # With its triplet in place Textual does not turn the index into an exact colour, three times as long.
    return Color(str(value), ColorType.EIGHT_BIT, value, ColorTriplet(*images.palette_rgb(value)))


def picture_strips(picture: CellPicture) -> list[Strip]:
    """The lines of a picture in cells."""
    return [
        Strip(
            [Segment(run.text, _style(run.foreground, run.background, picture.colours)) for run in line],
            picture.columns,
        )
        for line in picture.lines
    ]


@lru_cache(4096)
def number_of_picture(_of: object) -> int:
    """What a picture is called in the terminal: always the same for the same thing."""
    return next(_NUMBERS)


class Poster:
    """Writes pixels onto a widget once it is painted, and takes them down again.

    Args:
        widget: whose place it is; pictures are never written beyond it.
    """

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._up: dict[int, tuple[Offset, PixelPicture]] = {}
        self._waiting: dict[int, tuple[Offset, PixelPicture]] | None = None

    @property
    def is_up(self) -> bool:
        """Whether there are pixels on the screen."""
        return bool(self._up)

    def put_up(self, pictures: Iterable[tuple[int, Offset, PixelPicture]]) -> None:
        """Write pictures once everything else is painted; those that still stand are left alone."""
        wanted = {place: (offset, picture) for place, offset, picture in pictures}
        # Cells that are painted wipe sixels away; the pictures of the other protocol lie above them.
        wanted = {
            place: one
            for place, one in wanted.items()
            if one[1].is_wiped_by_cells or self._up.get(place) != one
        }
        if not wanted:
            return
        is_first = self._waiting is None
        self._waiting = wanted
        if is_first:
            self._widget.call_after_refresh(self._write)

    def take_down(self, places: Iterable[int] | None = None) -> None:
        """Take pictures away, all of them without a list, for what comes in their place."""
        for place in list(self._up) if places is None else places:
            if (standing := self._up.pop(place, None)) is not None:
                self._send(standing[1].deletion)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting or {}, None
        widget = self._widget
        # Not `is_current`: a screen that shines through from below a dialog is that as well.
        if not (widget.is_attached and widget.screen.is_active and widget.is_on_screen):
            return
        region = widget.content_region
        for place, (offset, picture) in waiting.items():
            # A picture cannot be cut, and would stand over what is beside it.
            area = Region(region.x + offset.x, region.y + offset.y, picture.columns, picture.rows)
            if region.contains_region(area) and widget.screen.region.contains_region(area):
                self._up[place] = (offset, picture)
                self._send(f"\x1b7\x1b[{area.y + 1};{area.x + 1}H{picture.sequence}\x1b8")

    def _send(self, sequence: str) -> None:
        driver = self._widget.app._driver
        if driver is not None and sequence:
            # Our own driver takes everything down when the program ends, whatever ends it.
            vars(driver)["has_pictures"] = True
            driver.write(sequence)
            driver.flush()


class PictureView(Widget, can_focus=True):
    """Draws one picture in cells: as large as fits, or a part of it pixel by pixel."""

    DEFAULT_CSS = """
    PictureView { width: 1fr; height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(0, -1)", "Up", show=False, id="screenshot.move-up"),
        Binding("down,j", "move(0, 1)", "Down", show=False, id="screenshot.move-down"),
        Binding("left,h", "move(-1, 0)", "Left", show=False, id="screenshot.move-left"),
        Binding("right,l", "move(1, 0)", "Right", show=False, id="screenshot.move-right"),
    ]

    def __init__(self, drawing: Drawing = IN_BLOCKS) -> None:
        """A view without a picture.

        Args:
            drawing: How pictures are drawn on this terminal.
        """
        super().__init__()
        self._drawing = drawing
        self._data: bytes | None = None
        self._is_fitted = True
        self._corner = Offset(0, 0)
        self._picture: CellPicture | PixelPicture | None = None
        self._strips: list[Strip] = []
        self._origin = Offset(0, 0)
        self._number = next(_NUMBERS)
        self._poster = Poster(self)

    @property
    def picture(self) -> CellPicture | PixelPicture | None:
        """What is drawn now."""
        return self._picture

    @property
    def is_fitted(self) -> bool:
        """Whether the whole picture is shown, as large as it fits."""
        return self._is_fitted

    def pixels_shown(self, size: Size | None = None) -> Size:
        """Pixels worth asking for: no more than the view can show.

        Args:
            size: cells to count with; those of the view without it.
        """
        columns, rows = size or self.size
        if pixels := self._drawing.pixels:
            return Size(columns * pixels.cell_width, rows * pixels.cell_height)
        return Size(*images.pixels_shown(columns, rows))

    async def show(self, data: bytes, *, is_fitted: bool = True) -> None:
        """Draw a picture; the encoding happens in a thread.

        Raises:
            ImageError: these bytes are no picture.
        """
        if is_fitted != self._is_fitted:
            self._corner = Offset(0, 0)
        picture = await self._drawn(data, is_fitted)
        self._data, self._is_fitted = data, is_fitted
        self._take_over(picture)

    def clear(self) -> None:
        """Show no picture any more."""
        self.take_down()
        if self._picture is not None:
            self._data, self._picture, self._strips = None, None, []
            self.refresh()

    async def _drawn(self, data: bytes, is_fitted: bool) -> CellPicture | PixelPicture | None:
        """The picture for the size and the part that hold when it is done."""
        if self._drawing.form is None:
            return None
        while True:
            size, corner = self.size, self._corner
            picture = await asyncio.to_thread(self._draw, data, size, None if is_fitted else corner)
            if (size, corner) == (self.size, self._corner):
                return picture

    def _draw(self, data: bytes, size: Size, corner: Offset | None) -> CellPicture | PixelPicture:
        columns, rows = max(1, size.width), max(1, size.height)
        if (pixels := self._drawing.pixels) is not None:
            return graphics.draw(data, columns, rows, pixels, number=self._number, corner=corner)
        form, colours = self._drawing.form or images.Form.QUADRANTS, self._drawing.colours
        if corner is None:
            return images.draw(data, columns, rows, form=form, colours=colours)
        return images.draw_part(data, corner, columns, rows, form=form, colours=colours)

    def _take_over(self, picture: CellPicture | PixelPicture | None) -> None:
        """Draw the lines that differ from what is there."""
        if picture is None or (picture == self._picture and (self._strips or self._poster.is_up)):
            return
        old, old_origin = self._strips, self._origin
        self._picture = picture
        self._origin = Offset(
            max(0, (self.size.width - picture.columns) // 2), max(0, (self.size.height - picture.rows) // 2)
        )
        if isinstance(picture, PixelPicture):
            self._put_up_pixels(old_origin)
            return
        self._strips = picture_strips(picture)
        if len(old) != len(self._strips) or old_origin != self._origin:
            self.refresh()
            return
        changed = [
            y for y, (before, after) in enumerate(zip(old, self._strips, strict=True)) if before != after
        ]
        self.refresh(*(Region(0, y + self._origin.y, self.size.width, 1) for y in changed))

    # ------------------------------------------------------------------ pixels

    def _put_up_pixels(self, old_origin: Offset) -> None:
        if old_origin != self._origin:
            # What the picture before covered and this one does not is painted blank first.
            self.take_down()
            self.refresh()
        self.put_up()

    def put_up(self) -> None:
        """Write the pixels once everything else is painted."""
        if isinstance(self._picture, PixelPicture):
            self._poster.put_up([(0, self._origin, self._picture)])

    def take_down(self) -> None:
        """Take the pixels away, for what comes over them."""
        self._poster.take_down()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines, and the pixels anew if these lines wipe them away."""
        self.put_up()
        return super().render_lines(crop)

    def on_hide(self) -> None:
        """Another view is shown."""
        self.take_down()

    def on_show(self) -> None:
        """This view is shown again."""
        self.put_up()

    def on_unmount(self) -> None:
        """Leave nothing behind."""
        self.take_down()

    # ------------------------------------------------------------------ cells

    def render_line(self, y: int) -> Strip:
        """One line of the picture between blank margins."""
        row = y - self._origin.y
        ground = self.rich_style
        if not 0 <= row < len(self._strips):
            return Strip.blank(self.size.width, ground)
        left = Segment(" " * self._origin.x, ground)
        line = Strip.join([Strip([left], self._origin.x), self._strips[row]])
        return line.adjust_cell_length(self.size.width, ground)

    def on_resize(self, _event: events.Resize) -> None:
        """Draw again what is there, at the new size."""
        self.take_down()
        self._redraw()

    def _redraw(self) -> None:
        self._draw_again()

    @work(group="draw", exclusive=True)
    async def _draw_again(self) -> None:
        if (data := self._data) is None:
            return
        picture = await self._drawn(data, self._is_fitted)
        if data is self._data:
            self._take_over(picture)

    def action_move(self, across: int, down: int) -> None:
        """Show another part of a picture that is larger than the view, half a view further."""
        if self._is_fitted or self._picture is None:
            return
        step = self._half_view()
        right = self._picture.width - 2 * step.width
        bottom = self._picture.height - 2 * step.height
        corner = Offset(
            max(0, min(self._corner.x + across * step.width, right)),
            max(0, min(self._corner.y + down * step.height, bottom)),
        )
        if corner != self._corner:
            self._corner = corner
            self._redraw()

    def _half_view(self) -> Size:
        """Pixels of the picture in half the view."""
        if pixels := self._drawing.pixels:
            return Size(self.size.width * pixels.cell_width // 2, self.size.height * pixels.cell_height // 2)
        form, picture = self._drawing.form, self._picture
        if form is None or picture is None:
            return Size(0, 0)
        columns, rows = images.full_cells(picture.width, picture.height, form)
        return Size(
            picture.width * self.size.width // (2 * columns),
            picture.height * self.size.height // (2 * rows),
        )


def put_up_pictures(screen: Screen[Any]) -> None:
    """Write the pictures of a screen that is seen again."""
    for view in screen.query(PictureView):
        view.put_up()


def take_down_pictures(screen: Screen[Any]) -> None:
    """Take the pictures of a screen away, because another one comes over it."""
    for view in screen.query(PictureView):
        view.take_down()
