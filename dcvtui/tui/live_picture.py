"""The screen of the session under the cursor, small, below its details.

Asks through a callable of the application's, one session at a time: once the
cursor rests, then now and then while somebody looks and nothing is open above it.
Switched on by the operator (`live_picture`), because a screen that changes sends
its picture although no key was pressed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical

from dcvtui.api.states import SessionState
from dcvtui.errors import ProgramError
from dcvtui.fleet import Key, SessionRecord
from dcvtui.images import ImageError
from dcvtui.shots import NOTHING, Shots
from dcvtui.terminal import Drawing
from dcvtui.tui.panel import Words
from dcvtui.tui.picture_view import PictureView

REST_S: Final = 0.4
"""So long a session stays under the cursor before its picture is asked for."""
PAUSE_S: Final = 5.0
"""Seconds between two pictures of the same session."""

Take = Callable[[Sequence[SessionRecord], int, int], Awaitable[Mapping[str, Shots]]]
"""Asks for the pictures of sessions that fit in a width and a height, by session id."""


class Looks(Protocol):
    """Knows whether somebody looks."""

    @property
    def why_not(self) -> str:
        """Why nobody does; "" while somebody does."""


class LivePicture(Vertical):
    """A picture and a line below it that says when it was taken, or why there is none."""

    DEFAULT_CSS = """
    LivePicture { height: 12; }
    LivePicture > PictureView { height: 1fr; }
    LivePicture > Words { height: 1; color: $text-muted; }
    """

    def __init__(self, drawing: Drawing, take: Take, looks: Looks) -> None:
        """A place for a picture.

        Args:
            drawing: how pictures are drawn on this terminal.
            take: asks for pictures.
            looks: tells whether somebody looks.
        """
        super().__init__()
        self._drawing, self._take, self._looks = drawing, take, looks
        self._view = PictureView(drawing)
        self._view.can_focus = False
        self._caption = Words()
        self._session: SessionRecord | None = None
        self._changed = asyncio.Event()

    def compose(self) -> ComposeResult:
        """The picture and its line."""
        yield self._view
        yield self._caption

    def follow(self, session: SessionRecord | None) -> None:
        """Show the screen of another session, or go on with the same; None for no session at all."""
        before, self._session = self._session, session
        if _key(before) != _key(session):
            self._view.clear()
            self._caption.show("" if self._drawing.form is not None else self._drawing.why_none)
            self._show_turns()
        elif before is not None and session is not None and before.state != session.state:
            self._changed.set()

    @work(group="live-picture", exclusive=True)
    async def _show_turns(self) -> None:
        await self._pause(REST_S)
        while self._session is not None and self._drawing.form is not None:
            # Below a dialog or in a view that is not shown there is nothing to draw on.
            is_seen = self.is_attached and self.screen.is_active and self._view.is_on_screen
            if is_seen and not self._looks.why_not:
                await self._show_one(self._session)
            await self._pause(PAUSE_S)

    async def _pause(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _show_one(self, session: SessionRecord) -> None:
        if session.state != SessionState.READY:
            self._say(f"no picture while {session.state}")
            return
        try:
            shots = (await self._take([session], *self._view.pixels_shown())).get(session.id, NOTHING)
            if isinstance(shots, str):
                self._say(shots)
                return
            await self._view.show(shots[0].data)
        except (ProgramError, ImageError) as error:
            self._say(getattr(error, "sentence", str(error)))
            return
        self._caption.show(f"taken {shots[0].taken}" if shots[0].taken else "")

    def _say(self, sentence: str) -> None:
        self._view.clear()
        self._caption.show(sentence)


def _key(session: SessionRecord | None) -> Key | None:
    return session.key if session is not None else None
