"""Fetching a server's keys over the network: what can go wrong there is one sentence, in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from broker_stub.broker import key_sets
from broker_stub.broker.key_sets import KeysNotFetched, fetch_document


@contextlib.asynccontextmanager
async def server_that_says(*pieces: bytes, closes: bool = True) -> AsyncIterator[str]:
    """A server that answers every request with these bytes; its address."""

    ended: list[asyncio.Future[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.get_running_loop().create_future())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if not closes:
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended[-1].set_result(None)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    finally:
        server.close()
        await asyncio.gather(*ended)
        await server.wait_closed()


async def test_a_document_is_fetched() -> None:
    async with server_that_says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as url:
        assert await fetch_document(url) == b"{}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"nonsense\r\n\r\n", ""),
        (b"", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000, "256 KiB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", ""),
    ],
)
async def test_an_answer_that_is_none_is_told(answer: bytes, reason: str) -> None:
    async with server_that_says(answer) as url:
        with pytest.raises(KeysNotFetched, match=reason or ".") as error:
            await fetch_document(url)
    assert str(error.value)


async def test_nobody_is_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "FETCH_WITHIN_S", 0.2)
    async with server_that_says(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{", closes=False) as url:
        with pytest.raises(KeysNotFetched, match=r"no answer within 0\.2 s"):
            await fetch_document(url)


async def test_where_nobody_listens_is_told() -> None:
    async with server_that_says() as url:
        pass
    with pytest.raises(KeysNotFetched):
        await fetch_document(url)


async def test_the_proxy_of_the_environment_is_used_but_for_its_exceptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    elsewhere = "http://127.0.0.1:1/keys"
    async with server_that_says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.removesuffix("/keys"))
        assert await fetch_document(elsewhere) == b"{}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(KeysNotFetched):
            await fetch_document(elsewhere)
