"""Screenshots: the widget that draws a picture in cells, and the screen for those of one session.

Pictures come as bytes from a callable the opener gives; they are drawn by
`dcvtui.images` in a thread. Nothing is asked for while nothing is pressed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from rich.color import Color, ColorType
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Offset, Region, Size
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from dcvtui import images
from dcvtui.errors import ProgramError
from dcvtui.fleet import SessionRecord
from dcvtui.images import CellPicture, Colours, Form, ImageError
from dcvtui.private_files import file_stem, replace_private, shown_path
from dcvtui.tui.panel import KeyLine, Words

FULL_SIZE: Final = 16_384
"""Asked for where the whole picture is wanted; a broker never enlarges beyond the session's resolution."""

_RESIZE_PAUSE_S: Final = 0.3
NO_PICTURES: Final = (
    "This terminal does not use UTF-8, so pictures cannot be drawn. `s` still saves them as PNG."
)


class Shot(NamedTuple):
    """A picture of one display of a session."""

    data: bytes
    taken: str = ""
    """When, as a text for people."""


Take = Callable[[int, int], Awaitable[Sequence[Shot]]]
"""Asks for pictures that fit in a width and a height, the primary display first; raises `ProgramError`."""


@lru_cache(8192)
def _style(foreground: int, background: int, colours: Colours) -> Style:
    return Style.from_color(_colour(foreground, colours), _colour(background, colours))


def _colour(value: int, colours: Colours) -> Color:
    if colours is Colours.TRUE:
        return Color.from_rgb(value >> 16, value >> 8 & 255, value & 255)
    # With its triplet in place Textual does not turn the index into an exact colour, three times as long.
    return Color(str(value), ColorType.EIGHT_BIT, value, ColorTriplet(*images.palette_rgb(value)))


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

    def __init__(self, form: Form | None = Form.QUADRANTS, colours: Colours = Colours.TRUE) -> None:
        """A view without a picture.

        Args:
            form: How cells show dots; `None` where nothing can be drawn.
            colours: What the terminal shows.
        """
        super().__init__()
        self._form = form
        self._colours = colours
        self._data: bytes | None = None
        self._is_fitted = True
        self._corner = Offset(0, 0)
        self._picture: CellPicture | None = None
        self._strips: list[Strip] = []
        self._origin = Offset(0, 0)

    @property
    def picture(self) -> CellPicture | None:
        """What is drawn now."""
        return self._picture

    @property
    def is_fitted(self) -> bool:
        """Whether the whole picture is shown, as large as it fits."""
        return self._is_fitted

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

    async def _drawn(self, data: bytes, is_fitted: bool) -> CellPicture | None:
        """The picture in cells for the size and the part that hold when it is done."""
        if (form := self._form) is None:
            return None
        while True:
            size, corner = self.size, self._corner
            columns, rows = max(1, size.width), max(1, size.height)
            work = (
                partial(images.draw, data, columns, rows, form=form, colours=self._colours)
                if is_fitted
                else partial(images.draw_part, data, corner, columns, rows, form=form, colours=self._colours)
            )
            picture = await asyncio.to_thread(work)
            if (size, corner) == (self.size, self._corner):
                return picture

    def _take_over(self, picture: CellPicture | None) -> None:
        """Draw the lines that differ from what is there."""
        if picture is None or (picture == self._picture and self._strips):
            return
        old, old_origin = self._strips, self._origin
        self._picture = picture
        self._origin = Offset(
            max(0, (self.size.width - picture.columns) // 2), max(0, (self.size.height - picture.rows) // 2)
        )
        self._strips = [
            Strip(
                [Segment(run.text, _style(run.foreground, run.background, picture.colours)) for run in line],
                picture.columns,
            )
            for line in picture.lines
        ]
        if len(old) != len(self._strips) or old_origin != self._origin:
            self.refresh()
            return
        changed = [
            y for y, (before, after) in enumerate(zip(old, self._strips, strict=True)) if before != after
        ]
        self.refresh(*(Region(0, y + self._origin.y, self.size.width, 1) for y in changed))

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
        if self._is_fitted or self._picture is None or self._form is None:
            return
        columns, rows = images.full_cells(self._picture.width, self._picture.height, self._form)
        step = Size(
            self._picture.width * self.size.width // (2 * columns),
            self._picture.height * self.size.height // (2 * rows),
        )
        right = self._picture.width - 2 * step.width
        bottom = self._picture.height - 2 * step.height
        corner = Offset(
            max(0, min(self._corner.x + across * step.width, right)),
            max(0, min(self._corner.y + down * step.height, bottom)),
        )
        if corner != self._corner:
            self._corner = corner
            self._redraw()


class ScreenshotScreen(ModalScreen[None]):
    """The screenshots of one session: fitted or 1:1, refreshed and saved on a key."""

    DEFAULT_CSS = """
    ScreenshotScreen { background: $background; }
    ScreenshotScreen > .screenshot-head { height: 1; padding: 0 1; color: $text-muted; }
    ScreenshotScreen > KeyLine { padding: 0 1; }
    ScreenshotScreen .screenshot-said { padding: 1 2; display: none; }
    ScreenshotScreen.-words .screenshot-said { display: block; }
    ScreenshotScreen.-words PictureView { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "x",
            "toggle_fit",
            "fit or 1:1",
            id="screenshot.toggle-fit",
            tooltip="All of it, or pixel by pixel",
        ),
        Binding("r", "refresh_picture", "refresh", id="any.refresh-view", tooltip="Take a new picture"),
        Binding("s", "save", "save", id="screenshot.save-picture", tooltip="Save the full size as PNG"),
        Binding(
            "tab", "next_monitor", "next monitor", id="screenshot.next-monitor", tooltip="The next display"
        ),
        Binding("escape,q", "close", "close", id="any.close-top", key_display="esc"),
    ]

    def __init__(
        self,
        session: SessionRecord,
        take: Take,
        *,
        form: Form | None = Form.QUADRANTS,
        colours: Colours = Colours.TRUE,
        folder: Path | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """A screen that takes its first picture when it opens.

        Args:
            session: Whose pictures.
            take: Asks the broker.
            form: How this terminal draws pictures; `None` for not at all.
            colours: What this terminal shows.
            folder: Where pictures are saved; the home directory without it.
            now: The time of day, for file names.
        """
        super().__init__()
        self._session = session
        self._take = take
        self._form = form
        self._view = PictureView(form, colours)
        self._folder = folder
        self._now = now
        self._shots: Sequence[Shot] = ()
        self._monitor = 0
        self._is_fitted = True
        self._asked = Size(0, 0)
        self._later: Timer | None = None

    def compose(self) -> ComposeResult:
        """One line about the picture, the picture, and the keys."""
        yield Words(classes="screenshot-head")
        with Vertical():
            yield self._view
            yield Words(classes="screenshot-said")
        yield KeyLine(
            "screenshot.toggle-fit", "any.refresh-view", "screenshot.save-picture", "screenshot.next-monitor",
            "any.close-top",
        )  # fmt: skip

    def on_mount(self) -> None:
        """Ask for the first picture as soon as the size of the view is known."""
        self._show_head()
        self.call_after_refresh(self.action_refresh_picture)

    def on_resize(self, _event: events.Resize) -> None:
        """Ask again when the view has grown, once the window has come to rest."""
        if self._later:
            self._later.stop()
        if self._asked:
            self._later = self.set_timer(_RESIZE_PAUSE_S, self._ask_if_grown)

    def _ask_if_grown(self) -> None:
        width, height = self._wanted()
        if self._shots and (width > self._asked.width or height > self._asked.height):
            self.action_refresh_picture()

    def _wanted(self) -> Size:
        """Pixels worth asking for: no more than the view can show."""
        if not self._is_fitted:
            return Size(FULL_SIZE, FULL_SIZE)
        return Size(*images.pixels_shown(*(self._view.size or self.size)))

    def _say(self, text: str) -> None:
        """Words in the place of the picture."""
        self.query_one(".screenshot-said", Words).show(text)
        self.add_class("-words")

    def _show_head(self, note: str = "") -> None:
        parts = [self._session.name or self._session.id, self._session.owner]
        if self._shots:
            shot = self._shots[self._monitor]
            picture = self._view.picture
            parts.append(f"monitor {self._monitor + 1} of {len(self._shots)}" if len(self._shots) > 1 else "")
            parts.append("fitted" if self._is_fitted else "1:1")
            if picture and not self._is_fitted:
                parts.append(f"{picture.width}x{picture.height}")
            parts.append(f"taken {shot.taken}" if shot.taken else "")
        self.query_one(".screenshot-head", Words).show(" · ".join(filter(None, [*parts, note])))

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer the next monitor only where there are several."""
        return len(self._shots) > 1 if action == "next_monitor" else True

    def action_refresh_picture(self) -> None:
        """Take new pictures; those shown stay until the new ones are there."""
        self._ask()

    @work(group="screenshot", exclusive=True)
    async def _ask(self) -> None:
        self._show_head("asking…")
        self._asked = self._wanted()
        try:
            self._shots = tuple(await self._take(*self._asked))
            if not self._shots:
                self._say("The broker sent no picture.")
                return
            self._monitor = min(self._monitor, len(self._shots) - 1)
            await self._show_shot()
        except ProgramError as error:
            self._say(error.sentence)
        finally:
            if self.is_attached:
                self._show_head()
                self.refresh_bindings()

    async def _show_shot(self) -> None:
        if self._form is None:
            self._say(NO_PICTURES)
            return
        try:
            await self._view.show(self._shots[self._monitor].data, is_fitted=self._is_fitted)
        except ImageError as error:
            self._say(f"This cannot be shown: {error}. `r` asks again.")
            return
        self.remove_class("-words")
        self._view.focus()

    def action_toggle_fit(self) -> None:
        """All of the picture, or a part of it pixel by pixel."""
        self._is_fitted = not self._is_fitted
        self.action_refresh_picture()

    def action_next_monitor(self) -> None:
        """Show the next display of the session."""
        self._monitor = (self._monitor + 1) % len(self._shots)
        self._show_next()

    @work(group="screenshot", exclusive=True)
    async def _show_next(self) -> None:
        await self._show_shot()
        self._show_head()

    def action_save(self) -> None:
        """Ask for the full size and save it as PNG."""
        self._save()

    @work(group="save", exclusive=True)
    async def _save(self) -> None:
        self._show_head("saving…")
        name = file_stem(self._session.name or self._session.id, self._now().strftime("%Y%m%d-%H%M%S"))
        path = (self._folder or Path.home()) / f"{name}.png"
        try:
            shots = await self._take(FULL_SIZE, FULL_SIZE)
            data = await asyncio.to_thread(images.to_png, shots[min(self._monitor, len(shots) - 1)].data)
            await asyncio.to_thread(replace_private, path, data)
        except (ProgramError, ImageError, OSError, IndexError) as error:
            self._show_head(f"not saved: {error}")
            return
        self._show_head(f"saved {shown_path(path)}")

    def action_close(self) -> None:
        """Back to where the screen was opened."""
        self.dismiss(None)
