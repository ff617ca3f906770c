"""The live stream: server-sent events that tell a console what changed, so that it need not ask.

Not part of the published API: it has a path of its own, which `GET /health`
announces. Two kinds of events, each with an id to go on from:

    reset     read the whole fleet; what changes from here on follows
    changes   {"Servers": [...], "Sessions": [...], "GoneServers": [id, ...],
              "GoneSessions": [{"Id": ..., "ServerId": ...}, ...]}

Servers and sessions are those of the Describe operations. A session is told again
when it changes itself or its server's names do; what else changes about its server
is told with the server. A reader that takes its time gets fewer and fuller events;
one that falls too far behind, or asks for a time the broker no longer knows, is reset.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from broker_stub.broker.events import FleetChanges

PATH = "/liveChanges"
MOST_READERS = 200
# A full event is about half a megabyte; between two of them others get their turn.
MOST_PER_EVENT = 500
# Changes of this time travel together: a fleet that starts up does not become a flood of small events.
GATHER_S = 0.1
# A comment now and then lets both ends notice that the other is gone.
COMMENT_AFTER_S = 15.0


IsAllowed = Callable[[], Awaitable[bool]]
"""Whether a reader's token is still good."""


class ChangeSource(Protocol):
    """What the registry knows of changes."""

    @property
    def change_number(self) -> int:
        """Of the last change."""

    def changes_since(self, number: int, most: int) -> FleetChanges | None:
        """What changed after it; `None`: too much to tell."""


class LiveStream:
    """Tells any number of readers what changed.

    Args:
        source: The registry.
        comment_after_s: How long nothing may be sent.
        gather_s: How long changes wait for further ones.
    """

    def __init__(
        self, source: ChangeSource, *, comment_after_s: float = COMMENT_AFTER_S, gather_s: float = GATHER_S
    ) -> None:
        self._source = source
        self._comment_after_s = comment_after_s
        self._gather_s = gather_s
        # Numbers start anew with each start of the broker; ids of another one must not be taken for ours.
        self._epoch = uuid4().hex[:12]
        self._readers: set[asyncio.Event] = set()
        self._is_closing = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether nobody else can be served."""
        return len(self._readers) >= MOST_READERS

    def note_change(self) -> None:
        """Something may have changed: whoever waits looks."""
        for reader in self._readers:
            reader.set()

    def close(self) -> None:
        """End all streams; readers come back by themselves."""
        self._is_closing.set()
        self.note_change()

    def answer(self, request: Request, is_allowed: IsAllowed) -> Response:
        """The answer to somebody who wants to watch.

        Args:
            request: May carry `Last-Event-ID`, to go on where an earlier stream ended.
            is_allowed: Asked after each event.
        """
        events = self._events(request.headers.get("last-event-id", ""), is_allowed)
        # Proxies that gather an answer before they pass it on would make it anything but live.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _events(self, last_id: str, is_allowed: IsAllowed) -> AsyncIterator[bytes]:
        wake = asyncio.Event()
        self._readers.add(wake)
        try:
            number = self._number_of(last_id)
            while not self._is_closing.is_set():
                wake.clear()
                found = None if number is None else self._source.changes_since(number, MOST_PER_EVENT)
                if found is None:
                    number = self._source.change_number
                    yield _event("reset", self._id(number), b"{}")
                elif found.number > (number or 0):
                    number = found.number
                    yield _event("changes", self._id(number), _wire(found))
                    # Closing ends this wait, too.
                    await _wait(self._is_closing, self._gather_s)
                elif not await _wait(wake, self._comment_after_s):
                    yield b":\n\n"
                if not await is_allowed():
                    return
        finally:
            self._readers.discard(wake)

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _number_of(self, last_id: str) -> int | None:
        epoch, _, number = last_id.partition("-")
        return int(number) if epoch == self._epoch and number.isdecimal() and len(number) < 19 else None


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _event(kind: str, event_id: str, data: bytes) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), event_id.encode(), data)


def _wire(changes: FleetChanges) -> bytes:
    gone = [
        {"Id": session_id} | ({"ServerId": server_id} if server_id else {})
        for session_id, server_id in changes.gone_sessions
    ]
    # JSON has no raw line breaks, so each event is one line of data.
    return b'{"Servers":[%b],"Sessions":[%b],"GoneServers":%b,"GoneSessions":%b}' % (
        b",".join(changes.servers),
        b",".join(changes.sessions),
        json.dumps(changes.gone_servers).encode(),
        json.dumps(gone).encode(),
    )
