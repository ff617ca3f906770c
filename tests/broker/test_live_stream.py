"""The live stream over TLS and HTTP: who may read it, what it tells, and how it begins, goes on and ends."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from broker_stub.broker import live_stream
from broker_stub.broker.events import FleetChanges
from broker_stub.broker.live_stream import LiveStream
from tests.broker.api_calls import call, queue, without_header
from tests.running import RunningBroker, running_broker


@dataclass
class Event:
    """One event as it came over the line."""

    kind: str
    id: str
    data: Any


async def events_of(answer: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream; comments are left out."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


@contextlib.asynccontextmanager
async def stream(broker: RunningBroker, last_id: str = "") -> AsyncIterator[AsyncIterator[Event]]:
    """Read the stream for the length of the block."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with broker.client.stream("GET", live_stream.PATH, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events_of(answer)


async def told(events: AsyncIterator[Event], session_id: str) -> dict[str, Any]:
    """The next thing said about a session."""
    async for event in events:
        for session in event.data.get("Sessions", ()):
            if session["Id"] == session_id:
                return dict(session)
    raise AssertionError("the stream ended")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path, delete_session_duration_seconds=0) as running:
        yield running


async def test_health_says_where_the_stream_is(broker: RunningBroker) -> None:
    assert (await broker.client.get("/health")).json() == {"status": "UP", "liveChanges": "/liveChanges"}


async def test_a_stream_that_is_switched_off_is_not_there(tmp_path: Path) -> None:
    async with running_broker(tmp_path, ext_live_changes="false") as running:
        assert (await running.client.get("/health")).json() == {"status": "UP"}
        assert (await running.client.get("/liveChanges")).status_code == 404


async def test_nobody_reads_it_without_a_token(broker: RunningBroker) -> None:
    assert (await without_header(broker, "GET", "/liveChanges")).status_code == 401


async def test_a_reader_is_told_to_read_all_and_then_what_changes(broker: RunningBroker) -> None:
    async with stream(broker) as events:
        first = await anext(events)
        assert (first.kind, first.data) == ("reset", {})
        (session_id,) = await queue(broker, "ana")
        session = await told(events, session_id)
        listed = (await call(broker, "describeSessions"))["Sessions"]
        assert [session] == listed
        await call(broker, "deleteSessions", [{"SessionId": session_id, "Owner": "ana"}])
        async for event in events:
            if event.data["GoneSessions"]:
                assert event.data["GoneSessions"] == [{"Id": session_id}]
                break


async def test_a_reader_goes_on_where_an_earlier_stream_ended(broker: RunningBroker) -> None:
    async with stream(broker) as events:
        start = (await anext(events)).id
    (session_id,) = await queue(broker, "ana")
    async with stream(broker, start) as events:
        event = await anext(events)
        assert event.kind == "changes"
        assert [session["Id"] for session in event.data["Sessions"]] == [session_id]


@pytest.mark.parametrize("last_id", ["another-0", "nonsense", "-", "x-99999999999999999999", "é-1"])
async def test_a_reader_with_an_id_of_somebody_else_starts_over(broker: RunningBroker, last_id: str) -> None:
    async with broker.client.stream(
        "GET", live_stream.PATH, headers=[(b"Last-Event-ID", last_id.encode())]
    ) as answer:
        assert (await anext(events_of(answer))).kind == "reset"


async def test_a_reader_from_the_future_starts_over(broker: RunningBroker) -> None:
    async with stream(broker) as events:
        epoch, _, number = (await anext(events)).id.partition("-")
    async with stream(broker, f"{epoch}-{int(number) + 1_000}") as events:
        assert (await anext(events)).kind == "reset"


async def test_streams_end_when_the_broker_stops(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_broker(tmp_path))
        reader = httpx.AsyncClient(
            base_url=running.url, verify=running.tls, headers=running.client.headers, trust_env=False
        )
        await stack.enter_async_context(reader)
        async with reader.stream("GET", live_stream.PATH) as answer:
            events = events_of(answer)
            await anext(events)
            async with asyncio.timeout(10):
                await running.broker.stop()
                assert [event async for event in events] == []


async def test_a_stream_ends_with_its_token(broker: RunningBroker) -> None:
    async with stream(broker) as events:
        await anext(events)
        await broker.broker.tokens.clients.unregister(broker.client_id)
        broker.broker.coordinator.changed()
        async with asyncio.timeout(live_stream.COMMENT_AFTER_S + 10):
            assert [event.kind async for event in events] == []


class Source:
    """Changes that a test makes up."""

    def __init__(self) -> None:
        self.change_number = 1

    def changes_since(self, number: int, most: int) -> FleetChanges | None:
        return None if number < 1 else FleetChanges(self.change_number)


async def always() -> bool:
    return True


def request_with(last_id: str = "") -> Request:
    headers = [(b"last-event-id", last_id.encode())] if last_id else []
    return Request({"type": "http", "headers": headers})


async def test_a_silent_stream_sends_a_comment_now_and_then() -> None:
    live = LiveStream(Source(), comment_after_s=0.01)
    parts = live.answer(request_with(), always).body_iterator  # type: ignore[attr-defined]
    assert (await anext(parts)).startswith(b"event: reset\n")
    assert await anext(parts) == b":\n\n"
    await parts.aclose()


async def test_a_reader_who_does_not_take_what_is_sent_costs_nothing_more() -> None:
    """Nothing is kept for a reader but how far it has read, so a slow one gets fewer and fuller events."""
    source = Source()
    live = LiveStream(source, gather_s=0)
    parts = live.answer(request_with(), always).body_iterator  # type: ignore[attr-defined]
    await anext(parts)
    for number in range(2, 1_000):
        source.change_number = number
        live.note_change()
    assert b"-999\n" in await anext(parts)
    waiting = asyncio.ensure_future(anext(parts))
    await asyncio.sleep(0)
    assert not waiting.done()
    live.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_only_so_many_readers_are_served(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "MOST_READERS", 1)
    async with stream(broker) as events:
        await anext(events)
        answer = await broker.client.get(live_stream.PATH)
        assert (answer.status_code, answer.json()) == (503, {"error": "Too many live streams"})
