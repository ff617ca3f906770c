"""The screenshots of one session on the whole screen.

Pictures come as bytes from a callable the opener gives and are drawn by
`dcvtui.tui.picture_view`. Nothing is asked for while nothing is pressed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.timer import Timer

from dcvtui.errors import ProgramError
from dcvtui.fleet import SessionRecord
from dcvtui.images import ImageError, to_png
from dcvtui.private_files import file_stem, replace_private, shown_path
from dcvtui.shots import Shot
from dcvtui.terminal import IN_BLOCKS, Drawing
from dcvtui.tui.panel import KeyLine, Words
from dcvtui.tui.picture_view import PictureView, put_up_pictures, take_down_pictures

FULL_SIZE: Final = 16_384
"""Asked for where the whole picture is wanted; a broker never enlarges beyond the session's resolution."""

_RESIZE_PAUSE_S: Final = 0.3


Take = Callable[[int, int], Awaitable[Sequence[Shot]]]
"""Asks for pictures that fit in a width and a height, the primary display first; raises `ProgramError`."""


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
        drawing: Drawing = IN_BLOCKS,
        folder: Path | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """A screen that takes its first picture when it opens.

        Args:
            session: Whose pictures.
            take: Asks the broker.
            drawing: How this terminal draws pictures.
            folder: Where pictures are saved; the home directory without it.
            now: The time of day, for file names.
        """
        super().__init__()
        self._session = session
        self._take = take
        self._drawing = drawing
        self._view = PictureView(drawing)
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

    def on_screen_suspend(self) -> None:
        """A dialog comes over the picture."""
        take_down_pictures(self)

    def on_screen_resume(self) -> None:
        """The dialog is gone."""
        put_up_pictures(self)

    def _ask_if_grown(self) -> None:
        width, height = self._wanted()
        if self._shots and (width > self._asked.width or height > self._asked.height):
            self.action_refresh_picture()

    def _wanted(self) -> Size:
        """Pixels worth asking for: no more than the view can show."""
        if not self._is_fitted:
            return Size(FULL_SIZE, FULL_SIZE)
        return self._view.pixels_shown(self._view.size or self.size)

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
        if self._drawing.form is None:
            self._say(self._drawing.why_none)
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
            data = await asyncio.to_thread(to_png, shots[min(self._monitor, len(shots) - 1)].data)
            await asyncio.to_thread(replace_private, path, data)
        except (ProgramError, ImageError, OSError, IndexError) as error:
            self._show_head(f"not saved: {error}")
            return
        self._show_head(f"saved {shown_path(path)}")

    def action_close(self) -> None:
        """Back to where the screen was opened."""
        self.dismiss(None)
