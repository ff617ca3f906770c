"""Paths that anybody may ask without a token: whatever comes there, the broker answers and stays well."""

import contextlib
import random
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.running import RunningBroker, running_broker

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = (
    b"sessionId",
    b"transport",
    b"HTTP",
    b"QUIC",
    b"authenticationToken",
    b"grant_type",
    b"client_credentials",
    b"client_id",
    b"client_secret",
    b"software_statement",
    *(b"=", b"&", b"{", b"}", b'"', b":", b"[", b"+", b";", b".", b"%", b"%ff", b"%00", b"%u12"),
    *(b"\xff", b"\x00", b"eyJ", b"\\ud800", b"null", b"a" * 3000),
)
HEADERS = ("Basic", "Basic xx", "Basic /w==", "Basic OjpdOg==", "Bearer a.b.c", "Bearer é", "Digest a")
TYPES = ("application/x-www-form-urlencoded", "application/json", "multipart/form-data", "x")
METHODS = ("POST", "POST", "POST", "GET", "PUT", "OPTIONS", "HEAD")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("strangers"), enable_gateway=True) as running:
        yield running


def some_words(chance: random.Random) -> bytes:
    return b"".join(chance.choice(WORDS) for _ in range(chance.randint(0, 8)))


def quoted(text: bytes) -> bytes:
    """What a client must not send raw, escaped; the rest as it is."""
    return b"".join(bytes([one]) if 0x20 < one < 0x7F and one != 0x22 else b"%%%02X" % one for one in text)


@pytest.mark.parametrize("seed", range(4))
async def test_no_stranger_makes_the_broker_fail(
    broker: RunningBroker, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)  # noqa: S311  to be the same each time
    gateway = str(broker.broker.gateway_url)
    places = [
        (gateway, "/resolveSession"),
        (broker.agent_url, "/agent/validate-authentication-token"),
        (broker.agent_url, "/"),
        (broker.agent_url, "/agent/register"),
        (broker.agent_url, "/agent/oauth2/token"),
        (broker.url, "/oauth2/token"),
    ]
    answered = 0
    async with httpx.AsyncClient(verify=broker.tls, trust_env=False) as client:
        for _ in range(100):
            base, path = chance.choice(places)
            headers = {"Content-Type": chance.choice(TYPES)}
            if chance.random() < 0.5:
                headers["Authorization"] = chance.choice(HEADERS)
            request = httpx.Request(
                chance.choice(METHODS),
                f"{base}{path}",
                content=some_words(chance),
                headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            )
            request.url = request.url.copy_with(raw_path=path.encode() + b"?" + quoted(some_words(chance)))
            with contextlib.suppress(httpx.RemoteProtocolError):
                answer = await client.send(request)
                answered += 1
                assert answer.status_code < 500, (request.url, request.content)
    assert answered > 90
    assert "Traceback" not in caplog.text
