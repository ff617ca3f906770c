"""The wall: screenshots of many sessions side by side, refreshed in turns.

A list like the others, with tiles instead of rows. It asks through a callable of
the application's, at most five sessions a second, and only while somebody looks.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from textual import work
from textual.binding import BindingType
from textual.geometry import Size

from dcvtui import graphics, images
from dcvtui.api.states import SessionState
from dcvtui.errors import ProgramError
from dcvtui.fleet import Key, SessionRecord
from dcvtui.images import Form, ImageError
from dcvtui.listing import Listing
from dcvtui.shots import IDS_PER_CALL, NOTHING, Shot, Shots
from dcvtui.terminal import IN_BLOCKS, Drawing
from dcvtui.tui.fleet_list import FleetList
from dcvtui.tui.keys import bindings
from dcvtui.tui.lists import SessionsList
from dcvtui.tui.live_picture import Take
from dcvtui.tui.picture_view import number_of_picture
from dcvtui.tui.table import FleetTable
from dcvtui.tui.tile_grid import Picture, Tile, TileGrid

TURN_S: Final = 1.0
"""Seconds between two calls, each of at most five sessions."""

IDLE_S: Final = 600.0
"""After so many seconds without a key nobody is looking."""


@dataclass(slots=True)
class Looking:
    """Whether somebody looks at this terminal."""

    clock: Callable[[], float] = time.monotonic
    has_focus: bool = True
    last_key: float = field(default_factory=time.monotonic)

    @property
    def why_not(self) -> str:
        """Why nobody does; "" while somebody does."""
        if not self.has_focus:
            return "paused: the terminal has lost the focus"
        if self.clock() - self.last_key > IDLE_S:
            return "paused: no key for 10 min, any key goes on"
        return ""


def next_turn(shown: Sequence[SessionRecord], asked: Mapping[Key, float]) -> list[SessionRecord]:
    """Which sessions are asked for next: those whose picture is the oldest, and only those that have one.

    Args:
        shown: the sessions on screen.
        asked: when each was asked for last.
    """
    ready = [session for session in shown if session.state == SessionState.READY]
    return sorted(ready, key=lambda session: asked.get(session.key, float("-inf")))[:IDS_PER_CALL]


class WallList(FleetList):
    """The rows of the list of sessions as pictures."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("wall", "sessions")]

    LISTS_WHAT = replace(SessionsList.LISTS_WHAT, view="wall", title="Wall")

    def __init__(
        self,
        *args: Any,
        listing: Listing[Any],
        drawing: Drawing = IN_BLOCKS,
        looking: Looking | None = None,
        **keywords: Any,
    ) -> None:
        """A wall of the rows of another list.

        Args:
            args: as of every list.
            listing: the rows; their filter and order are those of the list of sessions.
            drawing: how pictures are drawn on this terminal.
            looking: whether somebody looks.
            keywords: as of every list.
        """
        self._drawing = drawing
        self.looking = looking or Looking()
        self.take_pictures: Take | None = None
        """Asks the broker; the application sets it once it is connected."""
        self._asked: dict[Key, float] = {}
        self._shots: dict[Key, Shots] = {}
        self._monitors: dict[Key, int] = {}
        self._tiles: dict[Key, Tile] = {}
        self._drawn_for = Size(0, 0)
        self._news = asyncio.Event()
        self.is_asking = False
        self._trouble = ""
        self._said = ""
        super().__init__(*args, listing=listing, **keywords)
        self._is_pane_wanted = False

    def make_table(self, ascii_only: bool) -> FleetTable:
        """Tiles instead of rows."""
        return TileGrid(self.definition.columns, self.listing, ascii_only=ascii_only, now=self._now)

    @property
    def grid(self) -> TileGrid:
        """The tiles."""
        assert isinstance(self.table, TileGrid)  # noqa: S101  made above
        return self.table

    @property
    def counts_text(self) -> str:
        """The counts of every list, and why no pictures come."""
        if self._drawing.form is None:
            said = self._drawing.why_none.partition(" `s`")[0]
        else:
            said = self._trouble or self.looking.why_not
        separator = " - " if self.table.is_ascii else " · "
        return separator.join(filter(None, [said, super().counts_text]))

    # ------------------------------------------------------------------ turns

    def on_show(self) -> None:
        """Begin to ask."""
        super().on_show()
        self._follow()

    def on_hide(self) -> None:
        """Nobody sees it: ask no more."""
        self.workers.cancel_group(self, "wall")

    def look_again(self) -> None:
        """Somebody may look again, or no more."""
        if self.display:
            self._news.set()
            if self.looking.why_not != self._said:
                self._said = self.looking.why_not
                self.post_message(self.Changed())

    @work(group="wall", exclusive=True)
    async def _follow(self) -> None:
        while True:
            turn = [] if self.looking.why_not or self._drawing.form is None else self._next()
            if turn and self.take_pictures is not None:
                self.is_asking = True
                try:
                    await self._ask(self.take_pictures, turn)
                finally:
                    self.is_asking = False
            self.look_again()
            self._news.clear()
            await self._pause(has_asked=bool(turn))

    async def _pause(self, *, has_asked: bool) -> None:
        """Until the next turn: news makes it come earlier, but no two calls follow each other at once."""
        if self.looking.why_not:
            await self._news.wait()
        elif has_asked:
            await asyncio.sleep(TURN_S)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), TURN_S)

    def _next(self) -> list[SessionRecord]:
        records = self.listing.records
        return next_turn([records[key] for key in self.table.keys_on_screen() if key in records], self._asked)

    async def _ask(self, take: Take, turn: Sequence[SessionRecord]) -> None:
        now = self.looking.clock()
        self._asked.update((session.key, now) for session in turn)
        try:
            found = await take(turn, *self._wanted())
        except ProgramError as error:
            self._say_trouble(error.sentence)
            return
        self._say_trouble("")
        for session in turn:
            self._shots[session.key] = found.get(session.id, NOTHING)
        await self._draw([session.key for session in turn])

    def _say_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self.post_message(self.Changed())

    def _wanted(self) -> Size:
        size = self.grid.picture_size
        if pixels := self._drawing.pixels:
            return Size(size.width * pixels.cell_width, size.height * pixels.cell_height)
        return Size(*images.pixels_shown(*size))

    async def _draw(self, keys: Sequence[Key]) -> None:
        size = self.grid.picture_size
        if size != self._drawn_for:
            keys, self._drawn_for = list(self._shots), size
            self._tiles.clear()
        for key in keys:
            shots = self._shots.get(key)
            if shots is None:
                continue  # its session went while others were drawn
            if isinstance(shots, str):
                self._tiles[key] = Tile(words=shots)
                continue
            shot = shots[min(self._monitors.get(key, 0), len(shots) - 1)]
            tile = await asyncio.to_thread(self._tile, key, shot, size)
            if size != self._drawn_for:
                return  # tiles have another size by now, and all are drawn anew for it
            self._tiles[key] = tile
        self._forget_others()
        self.grid.show_tiles(self._tiles)

    def _tile(self, key: Key, shot: Shot, size: Size) -> Tile:
        picture: Picture
        try:
            if (pixels := self._drawing.pixels) is not None:
                picture = graphics.draw(shot.data, *size, pixels, number=number_of_picture(key))
            else:
                form = self._drawing.form or Form.QUADRANTS
                picture = images.draw(shot.data, *size, form=form, colours=self._drawing.colours)
        except ImageError as error:
            return Tile(words=str(error))
        return Tile(picture)

    def _forget_others(self) -> None:
        """Keep no pictures of what is gone, and not thousands of what was scrolled past."""
        kept = set(self.listing.records) if len(self._shots) < 200 else set(self.table.keys_on_screen())
        for key in [key for key in self._shots if key not in kept]:
            self._shots.pop(key, None)
            self._tiles.pop(key, None)
        known = self.listing.records
        for noted in (self._asked, self._monitors):
            for key in [key for key in noted if key not in known]:
                del noted[key]

    # ------------------------------------------------------------------ keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The way here is not offered here."""
        return False if action == "open_wall" else super().check_action(action, parameters)

    def action_move(self, lines: int) -> None:
        """Move the cursor by rows of tiles."""
        self.table.move(lines * self.grid.across)

    def action_move_columns(self, columns: int) -> None:
        """Move the cursor sideways."""
        self.table.move(columns)

    def action_move_page(self, pages: int) -> None:
        """Move the cursor by a screenful."""
        self.table.move(pages * self.grid.page_height)

    def action_resize_tiles(self, tiles: int) -> None:
        """Larger or smaller tiles."""
        self.grid.resize_tiles(tiles)
        self._redraw_all()

    @work(group="wall-draw", exclusive=True)
    async def _redraw_all(self) -> None:
        self._tiles.clear()
        await self._draw(list(self._shots))
        self._news.set()

    def on_resize(self) -> None:
        """Draw what is known at the new size."""
        if self._shots:
            self._redraw_all()

    def action_zoom_tile(self) -> None:
        """One session on the whole screen."""
        self.action_act("screenshot")

    def action_open_row(self) -> None:
        """A double click zooms, as Enter does."""
        self.action_zoom_tile()

    def action_next_monitor(self) -> None:
        """The next display of the session under the cursor."""
        key = self.table.cursor_key
        shots = self._shots.get(key) if key is not None else None
        if key is not None and shots and not isinstance(shots, str) and len(shots) > 1:
            self._monitors[key] = (self._monitors.get(key, 0) + 1) % len(shots)
            self._redraw_one(key)

    @work(group="wall-draw")
    async def _redraw_one(self, key: Key) -> None:
        await self._draw([key])
