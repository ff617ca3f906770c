"""The way to the broker: registration and tokens, and what every kind of refusal means."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker_stub.agent.access import (
    BrokerAccess,
    BrokerAddress,
    RegistrationRefused,
    retry_after_s,
)
from broker_stub.broker import certificates
from broker_stub.channel import (
    REGISTER_PATH,
    TOKEN_PATH,
    NotAuthorized,
    NotTrusted,
    NotUnderstood,
    Refused,
    Unreachable,
)

CREDENTIALS = json.dumps({"client_id": "id", "client_secret": "secret"})
TOKEN = json.dumps({"access_token": "token", "expires_in": 3600})


class Counter:
    """A broker of a few lines that answers as it is told, over TLS.

    Attributes:
        answers: Status, body and further headers by path.
        asked: The paths, in order.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str, str]] = {
            REGISTER_PATH: (201, CREDENTIALS, ""),
            TOKEN_PATH: (200, TOKEN, ""),
        }
        self.asked: list[str] = []
        self.port = 0
        self.ca_file = Path()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            self.asked.append(path)
            status, body, headers = self.answers[path]
            length = f"Connection: close\r\nContent-Length: {len(body.encode())}\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{headers}{length}\r\n{body}".encode())
            await writer.drain()
            writer.close()

    def access(self, file: Path | None = None, clock: Callable[[], float] = lambda: 0.0) -> BrokerAccess:
        return BrokerAccess(BrokerAddress("127.0.0.1", self.port, self.ca_file), "test", file, clock=clock)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    files = certificates.prepare(tmp_path / "broker", ["127.0.0.1"], datetime.now(UTC))
    counter = Counter()
    counter.ca_file = files.ca_file
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain_file, files.key_file)
    server = await asyncio.start_server(counter.serve, "127.0.0.1", 0, ssl=context)
    counter.port = server.sockets[0].getsockname()[1]
    async with server:
        yield counter


async def test_credentials_are_kept_and_the_token_is_used_again(counter: Counter, tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "credentials.json"
    access = counter.access(file, lambda: now)
    assert await access.token() == "token"
    assert await access.token() == "token"
    assert counter.asked == [REGISTER_PATH, TOKEN_PATH]
    assert file.stat().st_mode & 0o777 == 0o600
    now = 0.81 * 3600
    await access.token()
    assert counter.asked[2:] == [TOKEN_PATH]
    await counter.access(file).token()
    assert counter.asked[3:] == [TOKEN_PATH]


async def test_many_agents_register_once(counter: Counter) -> None:
    access = counter.access()
    assert set(await asyncio.gather(*(access.token() for _ in range(20)))) == {"token"}
    assert counter.asked == [REGISTER_PATH, TOKEN_PATH]


async def test_a_second_refusal_in_a_row_costs_the_registration(counter: Counter) -> None:
    access = counter.access()
    assert not access.note_refused(await access.token())
    assert access.note_refused(await access.token())
    await access.token()
    assert counter.asked == [REGISTER_PATH, TOKEN_PATH, TOKEN_PATH, REGISTER_PATH, TOKEN_PATH]


async def test_a_refusal_after_a_success_is_a_first_one_again(counter: Counter) -> None:
    access = counter.access()
    access.note_refused(await access.token())
    await access.token()
    access.note_accepted()
    assert not access.note_refused(await access.token())


async def test_an_old_token_that_is_refused_does_no_harm_to_the_new_one(counter: Counter) -> None:
    access = counter.access()
    await access.token()
    assert not access.note_refused("an older one")
    await access.token()
    assert counter.asked == [REGISTER_PATH, TOKEN_PATH]


async def test_a_damaged_credentials_file_leads_to_a_new_registration(
    counter: Counter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "credentials.json"
    file.write_text("{")
    await counter.access(file).token()
    assert counter.asked == [REGISTER_PATH, TOKEN_PATH]
    assert "registers anew" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("path", "answer", "kind", "words"),
    [
        (REGISTER_PATH, (400, '{"error_description": "not known"}', ""), RegistrationRefused, "not known"),
        (REGISTER_PATH, (403, "[]", ""), RegistrationRefused, "HTTP 403"),
        (REGISTER_PATH, (201, "{}", ""), NotUnderstood, "no credentials"),
        (REGISTER_PATH, (201, "<html>", ""), NotUnderstood, "not JSON"),
        (REGISTER_PATH, (503, "", "Retry-After: 7\r\n"), Refused, "HTTP 503"),
        (TOKEN_PATH, (401, "", ""), NotAuthorized, "HTTP 401"),
        (TOKEN_PATH, (200, '{"access_token": "t"}', ""), NotUnderstood, "no token"),
        (TOKEN_PATH, (200, "[]", ""), NotUnderstood, "no token"),
        (TOKEN_PATH, (500, "secret", ""), Refused, "HTTP 500"),
    ],
)
async def test_every_refusal_has_its_kind_and_its_words(
    counter: Counter, path: str, answer: tuple[int, str, str], kind: type[Exception], words: str
) -> None:
    counter.answers[path] = answer
    with pytest.raises(kind, match=words) as caught:
        await counter.access().token()
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)
    if isinstance(caught.value, Refused):
        assert caught.value.retry_after_s == (7.0 if "Retry-After" in answer[2] else None)


@pytest.mark.covers("G4")
async def test_nobody_there_and_a_foreign_certificate_are_told_apart(
    counter: Counter, tmp_path: Path
) -> None:
    """A certificate of a foreign CA is refused as not trusted, which is another error than nobody being
    there."""
    other = certificates.prepare(tmp_path / "other", ["127.0.0.1"], datetime.now(UTC))
    foreign = BrokerAccess(BrokerAddress("127.0.0.1", counter.port, other.ca_file), "test")
    with pytest.raises(NotTrusted, match="not trusted"):
        await foreign.token()
    with pytest.raises(Unreachable) as caught:
        await BrokerAccess(BrokerAddress("127.0.0.1", 1, counter.ca_file), "test").token()
    assert not isinstance(caught.value, NotTrusted)


@pytest.mark.covers("G4")
async def test_a_wrong_host_name_is_not_trusted(tmp_path: Path) -> None:
    """A certificate that is good but made for another name is not trusted, and the error names the
    address."""
    files = certificates.prepare(tmp_path, ["elsewhere.example"], datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain_file, files.key_file)
    server = await asyncio.start_server(Counter().serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(NotTrusted, match=r"127\.0\.0\.1"):
            await BrokerAccess(BrokerAddress("127.0.0.1", port, files.ca_file), "test").token()


def test_a_new_ca_file_is_noticed(counter: Counter, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(counter.ca_file.read_bytes())
    access = BrokerAccess(BrokerAddress("127.0.0.1", 1, ca_file), "test")
    first = access.tls()
    assert access.tls() is first
    other = certificates.prepare(tmp_path / "other", ["127.0.0.1"], datetime.now(UTC))
    ca_file.write_bytes(other.ca_file.read_bytes() + b"\n")
    assert access.tls() is not first
    ca_file.write_text("nonsense")
    with pytest.raises(NotTrusted, match=r"ca\.pem"):
        access.tls()


@pytest.mark.parametrize(
    ("host", "url"),
    [("broker.example", "wss://broker.example:8445"), ("::1", "wss://[::1]:8445")],
)
def test_addresses_of_both_families_make_urls(host: str, url: str) -> None:
    assert BrokerAddress(host).channel_url == url + "/agent/v1/channel"


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("", None), ("5", 5.0), ("-1", 0.0), ("Wed, 21 Oct 2026", None)]
)
def test_the_time_to_retry_is_read(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds
