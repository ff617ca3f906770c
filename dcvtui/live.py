"""The broker's own stream of changes: what its events say, and how it is followed.

An extension beyond the published API: brokers that have it say so in the body of
`GET /health`, the path that load balancers ask. Everywhere else, and whenever the
stream cannot be had, the console asks for what it shows (`dcvtui.polling`).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from dcvtui.errors import BrokerError, NotUnderstood, Refused

MOST_EVENT_BYTES = 64 * 1024 * 1024
# The broker sends a comment every quarter of a minute; twice that and more is a dead line.
SILENCE_S = 40.0
SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
# A broker without the stream may be replaced by one that has it.
LOOK_AGAIN_S = 300.0


@dataclass(slots=True, frozen=True)
class LiveReset:
    """What happened before is not told: the whole fleet has to be read."""

    id: str


@dataclass(slots=True, frozen=True)
class LiveChanges:
    """What became of servers and sessions.

    Attributes:
        servers, sessions: as in the answers of the Describe operations.
        gone_sessions: their ids with their servers, where these were known.
    """

    id: str
    servers: Sequence[Mapping[str, Any]]
    sessions: Sequence[Mapping[str, Any]]
    gone_servers: Sequence[str]
    gone_sessions: Sequence[tuple[str, str | None]]


LiveEvent = LiveReset | LiveChanges


class EventReader:
    """Makes events out of the bytes of a stream, in whatever pieces they come.

    Follows "Server-sent events" of the HTML standard as far as brokers use it.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> Iterator[LiveEvent]:
        """The events that these bytes complete.

        Raises:
            NotUnderstood: it is no such stream.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = b"".join([*self._pieces, line])
            self._pieces, self._size = [], 0
            event = self._take(whole.removesuffix(b"\r"))
            if event is not None:
                yield event
        self._pieces.append(rest)
        self._size += len(rest)
        if self._size > MOST_EVENT_BYTES:
            raise NotUnderstood("The broker's stream of changes has an event without an end.")

    def _take(self, line: bytes) -> LiveEvent | None:
        if line:
            name, _, value = line.decode("utf-8", "replace").partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        return _event(fields)


def _event(fields: Mapping[str, str]) -> LiveEvent | None:
    kind, event_id = fields.get("event"), fields.get("id", "")
    if kind == "reset":
        return LiveReset(event_id)
    if kind != "changes":  # a comment, or what a later broker may tell
        return None
    try:
        data = json.loads(fields.get("data", ""))
        return LiveChanges(
            event_id,
            _all(data["Servers"], dict),
            _all(data["Sessions"], dict),
            _all(data["GoneServers"], str),
            [
                (str(one["Id"]), str(one.get("ServerId") or "") or None)
                for one in _all(data["GoneSessions"], dict)
            ],
        )
    except (ValueError, RecursionError, KeyError, TypeError):
        raise NotUnderstood(
            "The broker's stream of changes tells something that is not understood."
        ) from None


def _all(items: Any, kind: type) -> Any:
    if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
        raise TypeError(items)
    return items


class LiveSource(Protocol):
    """A broker's client, as far as it is asked for a stream."""

    async def live_path(self) -> str | None:
        """Where the broker offers it; `None` for brokers that do not."""

    def live_stream(
        self, path: str, last_id: str, silence_s: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of the stream, to be read within the block."""


class Listener(Protocol):
    """Who wants to know, as the poller does."""

    def tell(self, event: LiveEvent) -> None:
        """Something changed."""

    def end_telling(self) -> None:
        """Nothing more will come for now."""


async def follow(
    source: LiveSource, listener: Listener, wait: Callable[[float], Any] = asyncio.sleep
) -> None:
    """Follow the stream of a broker for ever; every trouble means to wait and to try again.

    Args:
        source: the broker's client.
        listener: gets the events, and is told when they stop.
        wait: how to wait so many seconds.
    """
    last_id, failures = "", 0
    while True:
        pause_s = LOOK_AGAIN_S
        try:
            path = await source.live_path()
            if path is not None:
                async with source.live_stream(path, last_id, SILENCE_S) as stream:
                    reader = EventReader()
                    async for data in stream:
                        for event in reader.feed(data):
                            last_id, failures = event.id, 0
                            listener.tell(event)
                pause_s = SHORTEST_RETRY_S  # it ended in good order: the broker stops, or the token got old
        except BrokerError as error:
            # What is wrong is told by the poller, which fails for the same reason. Here it only takes longer.
            failures += 1
            pause_s = min(LONGEST_RETRY_S, SHORTEST_RETRY_S * 2 ** min(failures - 1, 16))
            if isinstance(error, Refused) and error.retry_after_s is not None:
                pause_s = max(pause_s, error.retry_after_s)
            if isinstance(error, NotUnderstood):
                last_id, pause_s = "", LOOK_AGAIN_S
        finally:
            listener.end_telling()
        await wait(pause_s)
