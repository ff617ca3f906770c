"""Limits of one HTTP connection, on a listener of its own with short times."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from broker_stub.broker.http_connection import CallersFaults, HttpConnection
from broker_stub.broker.listeners import Listener

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class ShortConnection(HttpConnection):
    """A tenth of a second for a request of a small head."""

    most_head_bytes: ClassVar[int] = 2000
    request_within_s: ClassVar[float] = 0.1


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body, half a second after it came: longer than a request may take."""
    body = await Request(scope, receive).body()
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a listener."""
    config = uvicorn.Config(
        echo, http=ShortConnection, ws="none", lifespan="off", log_config=None, access_log=False
    )
    listener = Listener(config)
    listening = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(listener.serve(sockets=[listening]))
    await listener.up.wait()
    try:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        yield reader, writer
        writer.transport.abort()
    finally:
        listener.request_stop()
        await task


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return int(head.split(b" ")[1]), await reader.readexactly(int(length.split(b":")[1]))


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
    ],
)
async def test_a_request_that_does_not_come_ends_the_connection(start: bytes) -> None:
    async with connected() as (reader, writer), asyncio.timeout(30):
        writer.write(start)
        assert b"HTTP/1.1 200" not in await reader.read()


async def test_a_connection_between_requests_waits_longer() -> None:
    async with connected() as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert await answer(reader) == (200, b"0")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await reader.read(1)


async def test_an_answer_may_take_longer_than_its_request() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await answer(reader) == (200, b"0")


async def test_bodies_do_not_count_as_heads() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")
        writer.write(b"x" * 9000 + GET)
        assert await answer(reader) == (200, b"9000")
        assert await answer(reader) == (200, b"0")


class Recording(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.mark.parametrize("piece", [b"z" * 1000, b"X: yyyyyyyyyyyyy\r\n" * 50])
async def test_a_head_above_the_limit_is_refused_with_the_reason(piece: bytes) -> None:
    config = uvicorn.Config(echo, ws="none", lifespan="off", log_config=None)
    transport, connection = Recording(), ShortConnection(config, ServerState(), {})
    connection.connection_made(transport)
    connection.data_received(b"GET / HTTP/1.1\r\n")
    for _ in range(2):
        connection.data_received(piece)
        assert not transport.is_closed
    connection.data_received(piece)
    assert transport.is_closed
    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert f"Content-Length: {len(body)}".encode() in head
    connection.connection_lost(None)


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        ("Invalid UTF-8 sequence received from client.", True),
        ("ASGI callable returned without completing handshake.", False),
        ("Exception in ASGI application\n", True),
    ],
)
def test_what_callers_do_wrong_is_no_error_of_the_program(text: str, is_kept: bool) -> None:
    record = logging.LogRecord(
        "uvicorn.error", logging.ERROR, "x", 1, text, None, (ValueError, ValueError(), None)
    )
    assert CallersFaults().filter(record) is is_kept
    assert (record.exc_info is None) is text.startswith("Invalid UTF-8")
