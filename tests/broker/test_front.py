"""What requests meet before the broker answers them: ids, the time before it is ready, audit, timing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from broker_stub.broker import audit
from broker_stub.broker.front import CLIENT_ACTIONS, Front

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


async def ask(front: Front, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(front, client=("192.0.2.7", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
        return await client.request(method, path, **options)


def app_with(status: int) -> Answer:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        audit.note_actor("client-1")
        audit.note_items(["s-1"], failed=1)
        await JSONResponse({"id": audit.request_id()}, status)(scope, receive, send)

    return app


@pytest.mark.covers("B44")
async def test_a_broker_that_starts_says_so_to_whoever_asks() -> None:
    """While the broker starts `/health` answers 503 with the reason, and nothing else is served."""
    front = Front(CLIENT_ACTIONS)
    answer = await ask(front, "GET", "/health")
    assert answer.status_code == 503
    assert answer.json() == {"status": "DOWN", "reason": "the broker is starting"}
    assert answer.headers["content-type"] == "application/json"
    answer = await ask(front, "POST", "/describeSessions")
    assert (answer.status_code, answer.json()) == (503, {"error": "Service unavailable"})
    assert answer.headers["retry-after"] == "1"


async def test_a_channel_is_refused_while_the_broker_starts() -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope = {"type": "websocket", "path": "/agent/v1/channel", "client": None}
    await Front({})({**scope, "extensions": {"websocket.http.response": {}}}, receive, send)
    assert [message["type"] for message in said] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert said[0]["status"] == 503
    await Front({})(scope, receive, send)
    assert said[2] == {"type": "websocket.close", "code": 1013}


@pytest.mark.covers("B45")
@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "done"), (401, "refused (401)"), (503, "refused (503)")]
)
async def test_requests_that_change_something_leave_one_line(
    caplog: pytest.LogCaptureFixture, status: int, outcome: str
) -> None:
    """A changing request leaves one audit line with actor, address, outcome and the id that was answered."""
    caplog.set_level(logging.INFO, "broker_stub.audit")
    front = Front(CLIENT_ACTIONS)
    front.app = app_with(status)
    answer = await ask(front, "POST", "/createSessions")
    (record,) = caplog.records
    assert record.__dict__["audit"] == {
        "action": "create-sessions",
        "outcome": outcome,
        "actor": "client-1",
        "address": "192.0.2.7",
        "request": answer.json()["id"],
        "done": 1,
        "failed": 1,
        "ids": "s-1",
    }
    assert answer.headers["x-request-id"] == answer.json()["id"]
    caplog.clear()
    for method, path in (("POST", "/describeSessions"), ("GET", "/createSessions"), ("GET", "/health")):
        await ask(front, method, path)
    assert not caplog.records


async def test_requests_are_timed_under_a_bounded_number_of_names() -> None:
    seen: list[tuple[str, int]] = []

    def observe(operation: str, status: int, seconds: float, _call: audit.Call) -> None:
        assert seconds >= 0
        seen.append((operation, status))

    front = Front({}, observe)
    front.app = app_with(200)
    for path in ("/describeServers", "/sessionConnectionData/x/y", "/whatever", "/health", "/liveChanges"):
        await ask(front, "POST", path)
    assert seen == [("describe-servers", 200), ("get-session-connection-data", 200), ("other", 200)]


async def test_what_is_under_way_is_counted() -> None:
    front = Front({})
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await finish.wait()
        await JSONResponse({})(scope, receive, send)

    front.app = slow
    asked = asyncio.create_task(ask(front, "POST", "/describeServers"))
    await begun.wait()
    assert len(front.under_way) == 1
    finish.set()
    assert (await asked).status_code == 200
    assert not front.under_way


async def test_each_request_has_its_own_id() -> None:
    front = Front({})
    front.app = app_with(200)
    answers = await asyncio.gather(*(ask(front, "POST", "/describeServers") for _ in range(5)))
    assert len({answer.json()["id"] for answer in answers}) == 5
