"""The stream of changes: its bytes in any pieces, its end in any way, and a poller on a real one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.client import BrokerClient
from dcvtui.errors import BrokerError, NotUnderstood, Refused, Unreachable
from dcvtui.live import LOOK_AGAIN_S, EventReader, LiveChanges, LiveEvent, LiveReset, follow
from dcvtui.polling import LinkState, Pace, Poller, Update
from dcvtui.trust import Trust
from tests.awkward_broker import Asked, awkward_broker, reply
from tests.broker.api_calls import queue
from tests.running import running_broker
from tests.running_fleet import running_fleet

NOTHING: dict[str, list[Any]] = {"Servers": [], "Sessions": [], "GoneServers": [], "GoneSessions": []}


def event(kind: str, event_id: str, data: Any, end: str = "\n") -> bytes:
    return end.join([f"event: {kind}", f"id: {event_id}", f"data: {json.dumps(data)}", "", ""]).encode()


STREAM = (
    event("reset", "e-1", {})
    + b":\n\n"
    + event("changes", "e-2", NOTHING | {"Sessions": [{"Id": "s"}], "GoneServers": ["x"]}, "\r\n")
    + event("weather", "e-3", {})
    + event("changes", "e-4", NOTHING | {"GoneSessions": [{"Id": "console", "ServerId": "x"}, {"Id": "s"}]})
)
EVENTS = [
    LiveReset("e-1"),
    LiveChanges("e-2", [], [{"Id": "s"}], ["x"], []),
    LiveChanges("e-4", [], [], [], [("console", "x"), ("s", None)]),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_may_come_in_any_pieces(cuts: list[int]) -> None:
    reader = EventReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


@pytest.mark.parametrize(
    "data",
    [
        [], 7, None, {}, {"Servers": []}, NOTHING | {"Servers": {}}, NOTHING | {"Sessions": [1]},
        NOTHING | {"GoneServers": [{}]}, NOTHING | {"GoneSessions": [{}]}, NOTHING | {"GoneSessions": ["a"]},
    ],
)  # fmt: skip
def test_what_no_broker_tells_is_not_understood(data: Any) -> None:
    with pytest.raises(NotUnderstood):
        list(EventReader().feed(event("changes", "1", data)))


def test_an_event_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcvtui.live.MOST_EVENT_BYTES", 1000)
    reader = EventReader()
    with pytest.raises(NotUnderstood):
        for _ in range(100):
            list(reader.feed(b"data: " + b"x" * 100))


# ------------------------------------------------------------------ following


class Listener:
    def __init__(self) -> None:
        self.heard: list[LiveEvent | str] = []

    def tell(self, event: LiveEvent) -> None:
        self.heard.append(event)

    def end_telling(self) -> None:
        self.heard.append("end")


class Source:
    """A broker whose stream is, each time it is opened, the next of what a test says."""

    def __init__(self, *tries: Sequence[bytes | BrokerError] | BrokerError | None) -> None:
        self.tries = list(tries)
        self.last_ids: list[str] = []

    async def live_path(self) -> str | None:
        found = self.tries[0]
        if isinstance(found, BrokerError):
            self.tries.pop(0)
            raise found
        if found is None:
            self.tries.pop(0)
            return None
        return "/somewhere"

    @contextlib.asynccontextmanager
    async def live_stream(
        self, path: str, last_id: str, silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        assert path == "/somewhere"
        self.last_ids.append(last_id)
        parts = self.tries.pop(0)
        assert isinstance(parts, list)

        async def read() -> AsyncIterator[bytes]:
            for part in parts:
                if isinstance(part, BrokerError):
                    raise part
                yield part

        yield read()


class Enough(Exception):
    """The test has seen what it wanted."""


async def followed(source: Source) -> tuple[list[LiveEvent | str], list[float]]:
    """What a listener hears until nothing more is to come, and the pauses between the tries."""
    listener, pauses = Listener(), []

    async def wait(seconds: float) -> None:
        pauses.append(seconds)
        if not source.tries:
            raise Enough

    with pytest.raises(Enough):
        await follow(source, listener, wait)
    return listener.heard, pauses


async def test_a_broker_without_a_stream_is_asked_again_later() -> None:
    assert await followed(Source(None, None)) == (["end", "end"], [LOOK_AGAIN_S, LOOK_AGAIN_S])


async def test_a_stream_that_ends_is_opened_again_where_it_ended() -> None:
    source = Source([event("reset", "e-7", {})], [event("changes", "e-8", NOTHING)])
    heard, pauses = await followed(source)
    assert heard == [LiveReset("e-7"), "end", LiveChanges("e-8", [], [], [], []), "end"]
    assert (source.last_ids, pauses) == (["", "e-7"], [1, 1])


async def test_trouble_makes_the_pauses_longer_until_something_comes() -> None:
    down = Unreachable("The broker is away.")
    source = Source(down, down, down, [event("reset", "e-1", {}), down], *[down] * 9)
    _, pauses = await followed(source)
    assert pauses == [1, 2, 4, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


async def test_a_broker_that_is_full_says_when_to_come_back() -> None:
    full = Refused("Too many live streams", status=503, text="", retry_after_s=30.0)
    _, pauses = await followed(Source(full))
    assert pauses == [30]


async def test_a_stream_of_garbage_is_left_alone_for_a_while() -> None:
    source = Source([event("reset", "e-1", {}), event("changes", "e-2", [])], [])
    heard, pauses = await followed(source)
    assert (heard, pauses[0], source.last_ids) == ([LiveReset("e-1"), "end", "end"], LOOK_AGAIN_S, ["", ""])


# ------------------------------------------------------------------ real brokers


@pytest.mark.parametrize(
    "body", ["{}", "[]", "nonsense", '{"liveChanges": 7}', '{"liveChanges": "//evil.example/x"}',
             '{"liveChanges": "https://evil.example/"}', '{"liveChanges": "/a b"}'],
)  # fmt: skip
async def test_only_a_path_of_the_broker_itself_is_believed(tmp_path: Path, body: str) -> None:
    async def answer(_asked: Asked) -> bytes:
        return reply(content=body.encode())

    async with (
        awkward_broker(tmp_path, answer) as broker,
        BrokerClient(broker.url, None, Trust(ca_file=broker.ca_file)) as client,
    ):
        assert await client.live_path() is None


async def test_a_broker_that_only_starts_is_not_taken_for_one_without_a_stream(tmp_path: Path) -> None:
    async def answer(_asked: Asked) -> bytes:
        return reply({"status": "DOWN", "reason": "the broker is starting"}, "503 Service Unavailable")

    async with (
        awkward_broker(tmp_path, answer) as broker,
        BrokerClient(broker.url, None, Trust(ca_file=broker.ca_file)) as client,
    ):
        with pytest.raises(Refused):
            await client.live_path()


@contextlib.asynccontextmanager
async def following(client: BrokerClient) -> AsyncIterator[tuple[Poller, AsyncIterator[Update]]]:
    """A poller that is told what changes, and otherwise would ask only once a minute."""
    poller = Poller(client, "lab", pace=Pace(visible_s=60, page_s=60, small_fleet_s=60))
    task = asyncio.create_task(follow(client, poller))
    try:
        yield poller, poller.updates()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(updates: AsyncIterator[Update], holds: Any) -> Update:
    async with asyncio.timeout(30):
        async for update in updates:
            if holds(update):
                return update
    raise AssertionError("the poller ended")


async def test_a_change_arrives_without_being_asked_for(tmp_path: Path) -> None:
    async with (
        running_fleet(tmp_path, servers=4) as fleet,
        BrokerClient.to(fleet.connection()) as client,
        following(client) as (poller, updates),
    ):
        await until(updates, lambda update: update.link.state is LinkState.LIVE)
        (session_id,) = await queue(fleet.running, "ana", Requirements="tag:none = 'such'")
        update = await until(updates, lambda update: ("lab", session_id) in update.snapshot.sessions)
        assert update.link.state is LinkState.LIVE
        described = await fleet.sessions()
        assert {key[-1] for key in poller.snapshot.sessions} == {session["Id"] for session in described}


async def test_a_broker_that_goes_and_comes_back_is_followed_again(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as running:
        port = running.url.rpartition(":")[2]
        client = BrokerClient(running.url, None, Trust(ca_file=running.ca_file))
    settings: dict[str, Any] = {
        "enable_authorization": "false",
        "client_to_broker_connector_https_port": port,
    }
    async with client, following(client) as (_, updates):
        async with running_broker(tmp_path, **settings):
            await until(updates, lambda update: update.link.state is LinkState.LIVE)
        await until(updates, lambda update: update.link.state is LinkState.STALE)
        async with running_broker(tmp_path, **settings) as running:
            await until(updates, lambda update: update.link.state is LinkState.LIVE)
            (session_id,) = await queue(running, "ana")
            await until(updates, lambda update: ("lab", session_id) in update.snapshot.sessions)


async def test_a_broker_whose_stream_is_off_is_polled(tmp_path: Path) -> None:
    async with running_broker(tmp_path, enable_authorization="false", ext_live_changes="false") as running:
        async with (
            BrokerClient(running.url, None, Trust(ca_file=running.ca_file)) as client,
            following(client) as (_, updates),
        ):
            update = await until(updates, lambda update: update.is_complete)
            assert update.link.state is LinkState.POLLING
