"""Requests that no client sends, byte by byte on both ports: each has its answer, and the broker goes on.

Wrong JSON of every kind is in `contract/test_transport`; here is what lies below and beside it.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.running import RunningBroker, running_broker

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
PORTS = pytest.mark.parametrize("is_agent_port", [False, True], ids=["clients", "agents"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("bad_requests")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> object:
    """A caller's fault is no fault of the program."""
    yield
    for record in caplog.get_records("call"):
        assert record.levelno < logging.ERROR, record.getMessage()
        assert record.exc_info is None, record.getMessage()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def connection(
    broker: RunningBroker, *, is_agent_port: bool = False, is_plain: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    port = port_of(broker.agent_url if is_agent_port else broker.url)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=None if is_plain else broker.tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer_to(
    broker: RunningBroker, *pieces: bytes, is_agent_port: bool = False, is_plain: bool = False
) -> bytes:
    """Send something and read until the broker closes the connection."""
    found = b""
    async with connection(broker, is_agent_port=is_agent_port, is_plain=is_plain) as (reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(10):
                while piece := await reader.read(MIB):
                    found += piece
    return found


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


async def request(
    broker: RunningBroker,
    line: bytes,
    headers: bytes = b"",
    body: bytes = b"",
    *,
    host: bytes = b"broker",
    is_agent_port: bool = False,
) -> bytes:
    """A whole request with a good token, the last of its connection."""
    token = (
        b"" if b"Authorization" in headers else f"Authorization: Bearer {await broker.token()}\r\n".encode()
    )
    head = b"%s HTTP/1.1\r\nHost: %s\r\n%s%s" % (line, host, token, headers)
    head += b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    return await answer_to(broker, head + body, is_agent_port=is_agent_port)


async def still_answers(broker: RunningBroker) -> None:
    assert (await broker.client.get("/health")).status_code == 200
    assert (await broker.client.post("/describeServers", json={})).status_code == 200
    async with connection(broker, is_agent_port=True) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


# ------------------------------------------------------------------ what is no request at all


@PORTS
@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\xff\xff garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1/health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /oauth2/token?grant_type=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /describeSessions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /describeSessions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
async def test_what_is_no_request_is_answered_with_400(
    broker: RunningBroker, data: bytes, is_agent_port: bool
) -> None:
    assert status_of(await answer_to(broker, data, is_agent_port=is_agent_port)) == 400
    await still_answers(broker)


@PORTS
async def test_garbage_behind_a_good_request_ends_the_connection(
    broker: RunningBroker, is_agent_port: bool
) -> None:
    good = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connection(broker, is_agent_port=is_agent_port) as (reader, writer):
        writer.write(good * 3)
        for _ in range(3):
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"\x00\xff\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
    await still_answers(broker)


@PORTS
@pytest.mark.parametrize("data", [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"\0" * 5000])
async def test_what_is_no_tls_gets_no_answer(broker: RunningBroker, data: bytes, is_agent_port: bool) -> None:
    async with connection(broker, is_agent_port=is_agent_port, is_plain=True) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
    await still_answers(broker)


# ------------------------------------------------------------------ too much of it


@PORTS
@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /health HTTP/1.1\r\nX: ", b"a" * MIB),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X-More: of the same\r\n" * 50_000),
        (b"GET /health?", b"a" * MIB),
    ],
    ids=["header", "headers", "query"],
)
async def test_a_head_without_end_is_cut_off(
    broker: RunningBroker, start: bytes, more: bytes, is_agent_port: bool
) -> None:
    # It ends because the broker closes: all of it would be 64 MiB.
    answer = await asyncio.wait_for(answer_to(broker, start, *[more] * 64, is_agent_port=is_agent_port), 20)
    assert status_of(answer) in (0, 431)  # whoever goes on sending may be cut off before it reads
    await still_answers(broker)


async def test_as_many_headers_as_proxies_add_are_read(broker: RunningBroker) -> None:
    headers = b"".join(b"X-Proxy-%d: %s\r\n" % (number, b"v" * 400) for number in range(100))
    assert status_of(await request(broker, b"POST /describeServers", headers)) == 200


@pytest.mark.parametrize("path", [b"/agent/register", b"/agent/oauth2/token", b"/"])
async def test_a_large_body_for_the_agents_paths_is_not_read(broker: RunningBroker, path: bytes) -> None:
    answer = await request(broker, b"POST " + path, body=b"a=b&" * 20_000, is_agent_port=True)
    assert status_of(answer) == 400
    await still_answers(broker)


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "not " * 50_000, "tag:a = 'b' and " * 20_000, "'" + "\\" * 100_000]
)
async def test_endless_requirements_fail_their_session_alone(broker: RunningBroker, text: str) -> None:
    item = {"Name": "n", "Owner": "o", "Type": "VIRTUAL"}
    answer = await broker.client.post(
        "/createSessions", json=[item | {"Requirements": text}, item | {"EnqueueRequest": True}]
    )
    assert answer.status_code == 200
    assert len(answer.json()["UnsuccessfulList"]) == len(answer.json()["SuccessfulList"]) == 1


# ------------------------------------------------------------------ wrong values


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e300", "9" * 5000, '"' + "9" * 5000 + '"'])
async def test_numbers_beyond_measure(broker: RunningBroker, number: str) -> None:
    body = f'{{"MaxResults": {number}}}'.encode()
    assert status_of(await request(broker, b"POST /describeSessions", body=body)) == 400
    item = f'[{{"SessionId": "x", "MaxWidth": {number}}}]'.encode()
    assert status_of(await request(broker, b"POST /getSessionScreenshots", body=item)) in (200, 400)
    item = f'[{{"Name":"n","Owner":"o","Type":"VIRTUAL","MaxConcurrentClients":{number}}}]'.encode()
    answer = await request(broker, b"POST /createSessions", body=item)
    assert status_of(answer) == 400 or b'"SuccessfulList":[]' in answer


async def test_of_a_field_given_twice_the_last_counts(broker: RunningBroker) -> None:
    body = b'[{"Name":"a","Name":"b","Owner":"o","Type":"VIRTUAL","EnqueueRequest":true}]'
    assert b'"Name":"b"' in await request(broker, b"POST /createSessions", body=body)


@pytest.mark.parametrize("operation", [b"POST /describeSessions", b"POST /describeServers"])
@pytest.mark.parametrize("token", ['"ÿ€"', '"\\u0000"', '"' + "A" * 200_000 + '"', '"W10"', '"bnVsbA"'])
async def test_a_page_token_that_is_none(broker: RunningBroker, operation: bytes, token: str) -> None:
    answer = await request(broker, operation, body=f'{{"NextToken": {token}}}'.encode())
    assert (status_of(answer), b"Invalid NextToken" in answer) == (400, True)


@pytest.mark.parametrize(
    "path", [b"/%00/u", b"/%ff%fe/u", b"/x/%00", b"/x/%ff", b"/" + b"%" * 999 + b"/%2", b"/a%2Fb/c%2Fd"]
)
async def test_odd_paths_of_connection_data(broker: RunningBroker, path: bytes) -> None:
    assert status_of(await request(broker, b"GET /sessionConnectionData" + path)) == 400


@pytest.mark.parametrize(
    "value",
    [b"\xff\xfe", b"a.b.c", b"bnVsbA.bnVsbA.bnVsbA", b"e30.e30.", b"a" * 50_000, b"..", b"\xc3\xa9.x.y"],
)
async def test_tokens_that_are_none(broker: RunningBroker, value: bytes) -> None:
    header = b"Authorization: Bearer %s\r\n" % value
    assert status_of(await request(broker, b"POST /describeSessions", header)) == 401
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    channel = b"GET /agent/v1/channel HTTP/1.1\r\nHost: x\r\n%s%s\r\n" % (upgrade, header)
    # A line of more than 8 KiB is refused by the WebSocket library.
    expected = 400 if len(value) > 8192 else 401
    assert status_of(await answer_to(broker, channel, is_agent_port=True)) == expected


@pytest.mark.parametrize("value", [b"\xff\xff", "Zürich".encode(), b"AAAAOgAA", b"=", b"Og==", b"/////w=="])
@PORTS
async def test_basic_credentials_that_are_none(
    broker: RunningBroker, value: bytes, is_agent_port: bool
) -> None:
    line = b"POST %s/oauth2/token?grant_type=client_credentials" % (b"/agent" if is_agent_port else b"")
    answer = await request(broker, line, b"Authorization: Basic %s\r\n" % value, is_agent_port=is_agent_port)
    assert status_of(answer) == 401
    assert b'"invalid_client"' in answer


@pytest.mark.parametrize("host", [b"[::1", b"a]b[:99999999", b"\xff\xfe @ /?#", b""])
@PORTS
async def test_no_host_header_leads_anywhere(broker: RunningBroker, host: bytes, is_agent_port: bool) -> None:
    line = b"POST /agent/oauth2/token" if is_agent_port else b"POST /oauth2/token"
    headers = b"Authorization: Basic eDp5\r\n"
    assert status_of(await request(broker, line, headers, host=host, is_agent_port=is_agent_port)) == 401
    # A slash too many must not become a redirection to the host that the caller named.
    answer = await request(broker, line + b"/", headers, host=host, is_agent_port=is_agent_port)
    assert status_of(answer) == 404


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 16_000,
        '{"software_statement": 1}'.encode("utf-16"),
        rb'{"software_statement": "\ud800"}',
        '{"software_statement": "é.é.é"}'.encode(),
        b'{"software_statement": "a.b.c", "grant_types": [[1]], "client_name": {}}',
        b'{"software_statement": 1e400}',
    ],
    ids=lambda body: repr(body[:30]),
)
async def test_registrations_that_are_none(broker: RunningBroker, body: bytes) -> None:
    answer = await request(broker, b"POST /agent/register", body=body, is_agent_port=True)
    assert status_of(answer) in (400, 429)  # one address may fail ten times a minute


@pytest.mark.parametrize(
    "body", [b"sessionId=%ff&authenticationToken=%ff", b"&" * 9000, b"a=b&" * 4000, b"\xff"]
)
async def test_questions_of_dcv_servers_that_are_none(broker: RunningBroker, body: bytes) -> None:
    answer = await request(broker, b"POST /", body=body, is_agent_port=True)
    assert b'<auth result="no"' in answer


# ------------------------------------------------------------------ callers that stop half-way


@pytest.mark.parametrize(
    ("path", "is_agent_port"),
    [
        (b"/describeSessions", False),
        (b"/oauth2/token", False),
        (b"/agent/oauth2/token", True),
        (b"/agent/register", True),
        (b"/", True),
    ],
)
async def test_a_caller_who_hangs_up_within_a_body_leaves_no_trace(
    broker: RunningBroker, path: bytes, is_agent_port: bool, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 99\r\n\r\n"
    async with connection(broker, is_agent_port=is_agent_port) as (_, writer):
        writer.write(head % (path, (await broker.token()).encode()) + b"{")
        await broker.until(lambda: broker.broker.requests_under_way == 1)
    await broker.until(lambda: broker.broker.requests_under_way == 0)
    await still_answers(broker)
    assert not caplog.records


async def test_slow_callers_keep_nobody_waiting(broker: RunningBroker) -> None:
    async with contextlib.AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(connection(broker, is_agent_port=number % 2 == 0))
            for number in range(60)
        ]
        token = (await broker.token()).encode()
        starts = [
            b"",
            b"GET /hea",
            b"POST /describeSessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % token,
            b"POST /describeSessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
            b"Content-Length: 500000\r\n\r\n{" % token,
        ]
        for number, (_, writer) in enumerate(slow):
            writer.write(starts[number // 2 % len(starts)])
        async with asyncio.timeout(30):
            await still_answers(broker)


async def test_a_caller_who_does_not_read_its_answers_keeps_nobody_waiting(broker: RunningBroker) -> None:
    token = (await broker.token()).encode()
    one = b"POST /describeSessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % token
    async with connection(broker) as (_, writer):
        writer.write(one * 2000)  # more answers than the reader here buffers
        async with asyncio.timeout(10):
            await still_answers(broker)
